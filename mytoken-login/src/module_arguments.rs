// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of `pam_mytoken` in `/etc/pam.d`. These files are world-readable, so no argument is secret.

use std::path::PathBuf;

use mytoken::config::DIRECTORY;

/// The arguments with a value by their names, and those without. Each has a text in `pam_mytoken(8)`.
const WITH_VALUE: [(&str, Name); 3] =
    [("config", Name::Config), ("prompt", Name::Prompt), ("services", Name::Services)];
const DEBUG: &str = "debug";

/// An argument with a value.
#[derive(Debug, Clone, Copy)]
enum Name {
    Config,
    Prompt,
    Services,
}

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleArguments {
    /// `config=DIR`: the directory of the configuration.
    pub config: PathBuf,
    /// `debug`: log more.
    pub debug: bool,
    /// `services=NAME,NAME`: the PAM services that accept tokens, instead of `services` in `login.toml`. It is checked before any file
    /// is read.
    pub services: Option<Vec<String>>,
    /// `prompt=TEXT`: the prompt, instead of the configured one.
    pub prompt: Option<String>,
    /// Unknown arguments. Logged, not fatal: a typo must not lock users out.
    pub unknown: Vec<String>,
}

impl ModuleArguments {
    /// Reads the arguments.
    #[must_use]
    pub fn parse(args: &[String]) -> Self {
        let mut arguments =
            Self { config: PathBuf::from(DIRECTORY), debug: false, services: None, prompt: None, unknown: Vec::new() };
        for arg in args {
            match arg.split_once('=').and_then(|(name, value)| Some((find(name)?, value))) {
                Some((Name::Config, directory)) => arguments.config = PathBuf::from(directory),
                Some((Name::Services, names)) if !names.is_empty() => {
                    arguments.services = Some(names.split(',').map(|name| name.trim().to_owned()).collect());
                }
                Some((Name::Prompt, text)) => arguments.prompt = Some(text.to_owned()),
                None if arg == DEBUG => arguments.debug = true,
                Some((Name::Services, _)) | None => arguments.unknown.push(arg.clone()),
            }
        }
        arguments
    }
}

fn find(name: &str) -> Option<Name> {
    WITH_VALUE.iter().find(|(known, _)| *known == name).map(|(_, name)| *name)
}

#[cfg(test)]
#[path = "../../tests/manual_page.rs"]
mod manual_page;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_has_every_argument_and_no_other() {
        let documented: Vec<String> =
            manual_page::entries("pam_mytoken.8", "ARGUMENTS").into_iter().map(|(head, _)| head).collect();
        let with_value: Vec<&str> = documented.iter().filter_map(|head| Some(head.split_once('=')?.0)).collect();
        assert_eq!(with_value, WITH_VALUE.map(|(name, _)| name));
        let alone: Vec<&String> = documented.iter().filter(|head| !head.contains('=')).collect();
        assert_eq!(alone, [DEBUG]);
        assert_eq!(ModuleArguments::parse(&documented).unknown, Vec::<String>::new(), "{documented:?}");
    }

    #[test]
    fn unknown_arguments_are_kept_for_the_log() {
        let args = ["config=/etc/x", "debug", "prompt=Token: ", "dbug", "use_first_pass", "debug=1", "services="]
            .map(str::to_owned);
        let arguments = ModuleArguments::parse(&args);
        assert_eq!(arguments.config, PathBuf::from("/etc/x"));
        assert_eq!(arguments.prompt.as_deref(), Some("Token: "));
        assert!(arguments.debug);
        assert_eq!(arguments.unknown, ["dbug", "use_first_pass", "debug=1", "services="]);
    }

    #[test]
    fn services_are_separated_by_commas() {
        let services = |arg: &str| ModuleArguments::parse(&[arg.to_owned()]).services;
        assert_eq!(services("services=sshd"), Some(vec!["sshd".to_owned()]));
        assert_eq!(services("services=sshd,su, login"), Some(vec!["sshd".into(), "su".into(), "login".into()]));
        assert_eq!(services("debug"), None, "login.toml applies");
    }

    #[test]
    fn the_default_configuration_directory_is_etc_mytoken() {
        assert_eq!(ModuleArguments::parse(&[]).config, PathBuf::from("/etc/mytoken"));
    }
}
