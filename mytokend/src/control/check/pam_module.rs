// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the file of our PAM module: whether libpam can load it, and its version.

use std::path::Path;
use std::time::Duration;

use mytoken_wire::printable;

use super::host::{AccountError, AccountQuestion, Host, module_paths};
use super::pam::MODULE;
use super::pam_stack::{Control, ModuleLine, return_value};
use super::plugin::other_version;
use super::running::VERSION;
use super::slurm::library_version;
use super::{Findings, kinds, kinds_slurm};

/// What libpam returns for a module that it cannot load.
const NOT_LOADED: &str = "module_unknown";

/// Time limit for loading it.
const LIMIT: Duration = Duration::from_secs(30);

impl Findings {
    /// Checks the file that is loaded for `pam_mytoken.so`. `service`: the name that sshd has for PAM.
    pub(super) fn pam_module(&mut self, host: &dyn Host, service: &str) {
        // Without the file PAM's stack has a finding.
        let Some(file) = module_paths(&format!("{MODULE}.so")).into_iter().find(|path| host.exists(path)) else {
            return;
        };
        // Root loads nothing that others can change.
        if host.trusted(&file).is_err() {
            return;
        }
        if let Some(why) = not_loaded(host, &file, service) {
            let text = format!(
                "{}: {why}: no token logs in, and most stacks that name it refuse all other logins too",
                file.display()
            );
            return self.add_kind(kinds::PAM_FILE, text);
        }
        let version = library_version(&file);
        if version.as_deref() != Some(VERSION) {
            self.add_kind(kinds_slurm::PAM_VERSION, other_version(&file.display().to_string(), version.as_deref()));
        }
    }
}

/// Why libpam cannot use this file, by libpam itself: it runs the module's account phase without a login, in which it decides nothing.
fn not_loaded(host: &dyn Host, file: &Path, service: &str) -> Option<String> {
    let line = ModuleLine {
        place: file.display().to_string(),
        control: Control::parse("required")?,
        module: file.to_str()?.to_owned(),
        arguments: Vec::new(),
        may_be_missing: false,
    };
    let question = AccountQuestion { line: &line, service, user: "root", origin: "127.0.0.1", limit: LIMIT };
    match host.account(&question) {
        Ok(answer) if return_value(answer.code) == Some(NOT_LOADED) => Some("libpam cannot load it".to_owned()),
        Err(AccountError::NoAnswer(reason)) => Some(format!("it gives libpam no answer ({})", printable(&reason, 200))),
        Ok(_) | Err(AccountError::Unsupported(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use mytoken::config::ConfigError;

    use super::super::host::{AccountAnswer, Ran};
    use super::*;

    /// A host with the module, and what libpam says of it.
    struct With(fn() -> Result<AccountAnswer, AccountError>);

    /// A host on which others can change the module.
    struct Open;

    impl Host for Open {
        fn read(&self, _path: &Path) -> Option<String> {
            None
        }
        fn exists(&self, _path: &Path) -> bool {
            true
        }
        fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
            Ran::Missing
        }
        fn trusted(&self, path: &Path) -> Result<(), ConfigError> {
            let (reason, fix) = ("others can write it".into(), "chmod".into());
            Err(ConfigError::Unsafe { file: path.display().to_string(), reason, fix })
        }
        fn account(&self, question: &AccountQuestion<'_>) -> Result<AccountAnswer, AccountError> {
            panic!("root would run {question:?}")
        }
    }

    #[test]
    fn a_module_that_others_can_change_is_not_run() {
        let mut findings = Findings::default();
        findings.pam_module(&Open, "sshd");
        assert!(findings.findings.is_empty(), "{findings:?}");
    }

    impl Host for With {
        fn read(&self, _path: &Path) -> Option<String> {
            None
        }
        fn exists(&self, path: &Path) -> bool {
            module_paths("pam_mytoken.so").first().map(PathBuf::as_path) == Some(path)
        }
        fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
            Ran::Missing
        }
        fn account(&self, question: &AccountQuestion<'_>) -> Result<AccountAnswer, AccountError> {
            assert!(self.exists(Path::new(&question.line.module)), "{question:?}");
            (self.0)()
        }
    }

    #[test]
    fn a_file_that_libpam_cannot_load_is_no_older_version() {
        let answer = |code| Ok(AccountAnswer { code, messages: Vec::new() });
        let rows: [(fn() -> _, &str, &str); 4] = [
            (
                || Ok(AccountAnswer { code: 28, messages: Vec::new() }),
                "pam-module-file",
                "libpam cannot load it: no token logs in",
            ),
            (
                || Err(AccountError::NoAnswer("it was killed by signal SIGBUS".to_owned())),
                "pam-module-file",
                "it gives libpam no answer (it was killed by signal SIGBUS): no token",
            ),
            (|| Ok(AccountAnswer { code: 25, messages: Vec::new() }), "pam-module-version", "is of an older version"),
            (|| Err(AccountError::Unsupported(String::new())), "pam-module-version", "is of an older version"),
        ];
        assert_eq!(answer(28).map(|answer| return_value(answer.code)), Ok::<_, AccountError>(Some(NOT_LOADED)));
        for (said, id, text) in rows {
            let mut findings = Findings::default();
            findings.pam_module(&With(said), "sshd");
            let [found] = &findings.findings[..] else { panic!("{findings:?}") };
            assert_eq!(found.id.as_deref(), Some(id));
            assert!(found.text.contains(text), "{found:?}");
        }
    }
}
