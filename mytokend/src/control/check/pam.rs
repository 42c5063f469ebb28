// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the PAM stacks of sshd.

use std::path::Path;

use super::Findings;
use super::host::{Host, module_paths};
use super::kinds::{self, Kind};
use super::pam_stack::{Action, Group, ModuleLine, Stack};

/// Our module.
const MODULE: &str = "pam_mytoken";

/// What it returns for a token that it refuses, and for an identity that may not use the account.
const REFUSALS: [&str; 2] = ["auth_err", "perm_denied"];

impl Findings {
    /// Checks the stacks of `service`.
    pub(super) fn pam(&mut self, host: &dyn Host, service: &str) {
        let directory = Path::new("/etc/pam.d");
        let read = |group| Stack::read(directory, service, group, &|path| host.read(path));
        let (auth, account, session) = (read(Group::Auth), read(Group::Account), read(Group::Session));
        let before = self.findings.len();
        for mistake in &auth.mistakes {
            self.add_kind(kinds::PAM_LINE, mistake.clone());
        }
        for (stack, group, kind, effect) in [
            (&auth, Group::Auth, kinds::PAM_AUTH, "tokens are not asked for"),
            (&account, Group::Account, kinds::PAM_ACCOUNT, "a token that expired during the login is not refused"),
            (&session, Group::Session, kinds::PAM_SESSION, "sessions get no access token"),
        ] {
            match ours(stack) {
                None => {
                    let text = format!("the {} stack of {service} has no {MODULE}.so: {effect}", group.name());
                    self.add_kind(kind, text);
                }
                Some(line) => self.module_file(host, line),
            }
        }
        if let Some(line) = ours(&auth) {
            self.decisions(&auth, line, service);
        }
        self.session_order(&session);
        if self.findings.len() == before {
            self.ok("PAM", format!("the stacks of {service} ask for tokens and refuse what they must"));
        }
    }

    fn module_file(&mut self, host: &dyn Host, line: &ModuleLine) {
        if module_paths(&line.module).iter().any(|path| host.exists(path)) {
            return;
        }
        let effect = if line.may_be_missing { "the line is passed over" } else { "every login of this service fails" };
        self.add_kind(kinds::PAM_FILE, format!("{}: there is no {}: {effect}", line.place, line.module));
    }

    /// Lets the auth stack decide about an accepted and a refused token.
    fn decisions(&mut self, auth: &Stack, line: &ModuleLine, service: &str) {
        let decide = |ours: &'static str| {
            auth.run(|line| match line.name() {
                MODULE => ours,
                // These two answer the same to everybody.
                "pam_permit" => "success",
                "pam_deny" => "auth_err",
                // A condition for our line, which a login over ssh fulfils.
                "pam_succeed_if" if line.arguments.iter().any(|argument| argument == "service") => {
                    if line.arguments.iter().any(|argument| argument.split(':').any(|name| name == service)) {
                        "success"
                    } else {
                        "auth_err"
                    }
                }
                // Somebody without any other credential.
                "pam_unix" | "pam_sss" | "pam_krb5" | "pam_ldap" | "pam_winbind" => "auth_err",
                // Others (pam_env, pam_faildelay, pam_nologin) let a login pass.
                _ => "success",
            })
        };
        if decide("success") != "success" {
            let text = format!("{}: an accepted token does not log in: a later line asks for more", line.place);
            self.add_kind(kinds::PAM_CLOSED, text);
        }
        let open: Vec<&str> = REFUSALS.into_iter().filter(|refusal| decide(refusal) == "success").collect();
        if !open.is_empty() {
            let text = format!("{}: a refused token logs in ({} counts as success)", line.place, open.join(", "));
            return self.add_kind(kinds::PAM_OPEN, text);
        }
        let passes =
            |refusal: &&str| matches!(line.control.action(refusal), Action::Ignore | Action::Jump(_) | Action::Reset);
        let through: Vec<&str> = REFUSALS.into_iter().filter(passes).collect();
        if !through.is_empty() {
            let text = format!("{}: after a refused token the next line is asked ({})", line.place, through.join(", "));
            self.add_kind(kinds::PAM_FALLS_THROUGH, text);
        }
    }

    fn session_order(&mut self, session: &Stack) {
        let at = |name: &str| session.lines().position(|line| line.name() == name);
        let Some(own) = at(MODULE) else { return };
        if at("pam_systemd").is_some_and(|systemd| own < systemd) {
            self.add_line(kinds::PAM_ORDER, session, own, "comes before pam_systemd: the session is not complete yet");
        }
        let read_by_users = session.lines().position(|line| {
            line.name() == "pam_env" && line.arguments.iter().any(|argument| argument == "user_readenv=1")
        });
        if let Some(line) = read_by_users {
            let effect = "lets ~/.pam_environment set variables: a user's own file can hide the session's token";
            self.add_line(kinds::PAM_USER_ENVIRONMENT, session, line, effect);
        }
    }

    fn add_line(&mut self, kind: Kind, stack: &Stack, number: usize, text: &str) {
        if let Some(line) = stack.lines().nth(number) {
            self.add_kind(kind, format!("{}: {} {text}", line.place, line.module));
        }
    }
}

/// Whether sshd's auth stack has our module.
pub(super) fn sshd_asks_us(host: &dyn Host) -> bool {
    ours(&Stack::read(Path::new("/etc/pam.d"), "sshd", Group::Auth, &|path| host.read(path))).is_some()
}

fn ours(stack: &Stack) -> Option<&ModuleLine> {
    stack.lines().find(|line| line.name() == MODULE)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::PathBuf;

    use super::super::Severity;
    use super::super::host::Ran;
    use super::*;

    struct Files(HashMap<PathBuf, String>);

    impl Host for Files {
        fn read(&self, path: &Path) -> Option<String> {
            self.0.get(path).cloned()
        }
        fn exists(&self, path: &Path) -> bool {
            path.ends_with("security/pam_mytoken.so")
        }
        fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
            Ran::Missing
        }
    }

    /// The ids that are found when the line `from` of the shipped example is `to` instead.
    fn found(from: &str, to: &str) -> Vec<String> {
        let example = include_str!("../../../../packaging/pam-sshd.example");
        assert!(example.contains(from), "{from}");
        let common = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_unix.so\nsession optional pam_systemd.so\n";
        let mut files = HashMap::from([(PathBuf::from("/etc/pam.d/sshd"), example.replacen(from, to, 1))]);
        for name in ["common-auth", "common-account", "common-session", "common-password"] {
            let group = name.trim_start_matches("common-");
            let lines: Vec<&str> = common.lines().filter(|line| line.starts_with(group)).collect();
            files.insert(Path::new("/etc/pam.d").join(name), lines.join("\n"));
        }
        let mut findings = Findings::default();
        findings.pam(&Files(files), "sshd");
        findings
            .findings
            .into_iter()
            .filter(|finding| finding.level != Severity::Ok)
            .filter_map(|finding| finding.id)
            .collect()
    }

    #[test]
    fn the_shipped_example_has_no_finding() {
        assert_eq!(found("auth ", "auth "), Vec::<String>::new());
    }

    #[test]
    fn each_fault_of_a_stack_is_found_alone() {
        let ours =
            "[success=done authinfo_unavail=ignore service_err=ignore user_unknown=ignore default=die]  pam_mytoken.so";
        for (from, to, id) in [
            (&format!("auth     {ours}")[..], "", "pam-auth-missing"),
            ("account  required     pam_mytoken.so", "", "pam-account-missing"),
            ("session  optional     pam_mytoken.so", "", "pam-session-missing"),
            (
                "session  optional     pam_mytoken.so",
                "session optional pam_mytokn.so\nsession optional /opt/pam_mytoken.so",
                "pam-module-file",
            ),
            (ours, "optional pam_mytoken.so\nauth sufficient pam_permit.so", "pam-refused-token-logs-in"),
            (ours, "sufficient pam_mytoken.so", "pam-refused-token-falls-through"),
            (ours, "required pam_mytoken.so", "pam-accepted-token-refused"),
            ("auth     requisite    pam_deny.so", "auth requisit pam_deny.so", "pam-line"),
            (
                "@include common-session",
                "session optional pam_mytoken.so\n@include common-session",
                "pam-session-order",
            ),
            ("pam_env.so envfile=", "pam_env.so user_readenv=1 envfile=", "pam-user-environment"),
        ] {
            assert_eq!(found(from, to), [id], "{to}");
        }
    }
}
