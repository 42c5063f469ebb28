// SPDX-License-Identifier: GPL-3.0-or-later
//! Arguments of the module's line in `/etc/pam.d`. They are world-readable: no secret belongs there.

use std::path::PathBuf;

use mytoken::config::DIRECTORY;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `config=DIR`
    pub config: PathBuf,
    /// `debug`: say also what is usually not worth a line.
    pub debug: bool,
    /// `prompt=TEXT`: another prompt than the configuration's.
    pub prompt: Option<String>,
    /// `panic=HOOK`, in test builds.
    #[cfg(feature = "panic-injection")]
    pub panic: Option<String>,
    /// What is none of these; logged, for failing would lock people out because of a typing mistake.
    pub unknown: Vec<String>,
}

impl Arguments {
    /// Reads the arguments.
    pub fn parse(args: &[String]) -> Self {
        let mut arguments = Self {
            config: PathBuf::from(DIRECTORY),
            debug: false,
            prompt: None,
            #[cfg(feature = "panic-injection")]
            panic: None,
            unknown: Vec::new(),
        };
        for arg in args {
            match arg.split_once('=') {
                Some(("config", directory)) => arguments.config = PathBuf::from(directory),
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
        let args = ["config=/etc/x", "debug", "prompt=Token: ", "dbug", "use_first_pass", "debug=1"].map(str::to_owned);
        let arguments = Arguments::parse(&args);
        assert_eq!(arguments.config, PathBuf::from("/etc/x"));
        assert_eq!(arguments.prompt.as_deref(), Some("Token: "));
        assert!(arguments.debug);
        assert_eq!(arguments.unknown, ["dbug", "use_first_pass", "debug=1"]);
    }

    #[test]
    fn by_default_the_configuration_is_where_it_belongs() {
        assert_eq!(Arguments::parse(&[]).config, PathBuf::from("/etc/mytoken"));
    }
}
