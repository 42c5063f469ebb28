// SPDX-License-Identifier: GPL-3.0-or-later
//! The module's arguments in `/etc/pam.d`. These files are world-readable, so no argument is secret.

use std::path::PathBuf;

use mytoken::config::DIRECTORY;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `config=DIR`: the directory of the configuration.
    pub config: PathBuf,
    /// `debug`: log more.
    pub debug: bool,
    /// `services=NAME,NAME`: the PAM services that accept tokens, instead of `services` in `login.toml`. It is checked before any file
    /// is read.
    pub services: Option<Vec<String>>,
    /// `prompt=TEXT`: the prompt, instead of the configured one.
    pub prompt: Option<String>,
    /// `panic=HOOK`, in test builds.
    #[cfg(feature = "panic-injection")]
    pub panic: Option<String>,
    /// Unknown arguments. Logged, not fatal: a typo must not lock users out.
    pub unknown: Vec<String>,
}

impl Arguments {
    /// Reads the arguments.
    pub fn parse(args: &[String]) -> Self {
        let mut arguments = Self {
            config: PathBuf::from(DIRECTORY),
            debug: false,
            services: None,
            prompt: None,
            #[cfg(feature = "panic-injection")]
            panic: None,
            unknown: Vec::new(),
        };
        for arg in args {
            match arg.split_once('=') {
                Some(("config", directory)) => arguments.config = PathBuf::from(directory),
                Some(("services", names)) if !names.is_empty() => {
                    arguments.services = Some(names.split(',').map(|name| name.trim().to_owned()).collect());
                }
                Some(("prompt", text)) => arguments.prompt = Some(text.to_owned()),
                #[cfg(feature = "panic-injection")]
                Some(("panic", hook)) => arguments.panic = Some(hook.to_owned()),
                None if arg == "debug" => arguments.debug = true,
                _ => arguments.unknown.push(arg.clone()),
            }
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_arguments_are_kept_for_the_log() {
        let args = ["config=/etc/x", "debug", "prompt=Token: ", "dbug", "use_first_pass", "debug=1", "services="]
            .map(str::to_owned);
        let arguments = Arguments::parse(&args);
        assert_eq!(arguments.config, PathBuf::from("/etc/x"));
        assert_eq!(arguments.prompt.as_deref(), Some("Token: "));
        assert!(arguments.debug);
        assert_eq!(arguments.unknown, ["dbug", "use_first_pass", "debug=1", "services="]);
    }

    #[test]
    fn services_are_separated_by_commas() {
        let services = |arg: &str| Arguments::parse(&[arg.to_owned()]).services;
        assert_eq!(services("services=sshd"), Some(vec!["sshd".to_owned()]));
        assert_eq!(services("services=sshd,su, login"), Some(vec!["sshd".into(), "su".into(), "login".into()]));
        assert_eq!(services("debug"), None, "login.toml applies");
    }

    #[test]
    fn the_default_configuration_directory_is_etc_mytoken() {
        assert_eq!(Arguments::parse(&[]).config, PathBuf::from("/etc/mytoken"));
    }
}
