// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the commands that rules ask.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mytoken::config::FileTrust;
use mytoken_login::{AccountDatabase, CommandSettings, LoginSettings, MapperSettings, Mapping};

use super::configuration::word;
use super::{Findings, kinds};

const PART: &str = "mapper";

impl Findings {
    /// Checks the commands of the rules. They are not run.
    pub(super) fn mappers(&mut self, login: &LoginSettings, trust: FileTrust, accounts: &dyn AccountDatabase) {
        for rule in &login.rules {
            if let Mapping::Asked(MapperSettings::Command(command)) = &rule.mapping {
                let before = self.findings.len();
                let user = self.mapper_user(&rule.name, command, accounts);
                self.mapper_program(&rule.name, command, user, trust);
                if self.findings.len() == before {
                    let text =
                        format!("rule \"{}\": {} runs as {}", rule.name, command.program.display(), command.run_as);
                    self.ok(PART, text);
                }
            }
        }
    }

    /// The user and group id as which a command runs, if they are known.
    fn mapper_user(
        &mut self,
        rule: &str,
        command: &CommandSettings,
        accounts: &dyn AccountDatabase,
    ) -> Option<(u32, u32)> {
        let name = &command.run_as;
        let fault = match accounts.find(name) {
            // That NSS does not answer is a finding of its own.
            Err(_) => return None,
            Ok(Some((0, _))) => "has uid 0, and a command does not run as root",
            Ok(Some(user)) => return Some(user),
            Ok(None) => "is no account of this host",
        };
        let text = format!("rule \"{rule}\" gives no account: run_as {name:?} {fault}");
        self.add_fixed(kinds::MAPPER_USER, text, format!("getent passwd {}", word(name)));
        None
    }

    fn mapper_program(&mut self, rule: &str, command: &CommandSettings, user: Option<(u32, u32)>, trust: FileTrust) {
        let program = &command.program;
        if let Err(error) = trust.check_file(program) {
            let text = format!("rule \"{rule}\" gives no account: {error}");
            self.add_file_error(kinds::MAPPER_PROGRAM, &error.into(), &text);
            return;
        }
        let fault = match program.metadata() {
            Err(error) => error.to_string(),
            Ok(meta) if user.is_some_and(|user| !may_execute(&meta, user)) => {
                format!("{} may not execute it (mode {:04o})", command.run_as, meta.mode() & 0o7777)
            }
            Ok(_) => match not_a_program(program) {
                Some(fault) => fault,
                None => return,
            },
        };
        let text = format!("rule \"{rule}\" gives no account: {}: {fault}", program.display());
        self.add_fixed(kinds::MAPPER_PROGRAM, text, format!("namei -l {}", word(&program.to_string_lossy())));
    }
}

/// Why the kernel does not run a file, as far as its first line tells it.
fn not_a_program(program: &Path) -> Option<String> {
    let mut start = [0; 256];
    // Only root can read it, perhaps. Then nothing is known.
    let count = File::open(program).and_then(|mut file| file.read(&mut start)).ok()?;
    let start = start.get(..count)?;
    if start.starts_with(b"\x7fELF") {
        return None;
    }
    let Some(line) = start.strip_prefix(b"#!") else {
        return Some("it is no program: it begins neither with #! nor as an ELF file".to_owned());
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let name = String::from_utf8_lossy(line).split_whitespace().next().unwrap_or_default().to_owned();
    let interpreter = Path::new(&name);
    match interpreter.metadata() {
        Ok(meta) if meta.is_file() && meta.mode() & 0o111 != 0 => None,
        Ok(_) => Some(format!("its interpreter {name} cannot be run")),
        Err(error) => Some(format!("its interpreter {name:?}: {error}")),
    }
}

/// Whether a user without other groups may execute a file.
fn may_execute(meta: &Metadata, (uid, gid): (u32, u32)) -> bool {
    let bit = if meta.uid() == uid {
        0o100
    } else if meta.gid() == gid {
        0o010
    } else {
        0o001
    };
    meta.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use mytoken::config::Shared;
    use mytoken::private_files::Owner;
    use mytoken_login::AccountLookupFailed;

    use super::*;

    struct Known;

    impl AccountDatabase for Known {
        fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
            match name {
                "nobody" => Ok(Some((65_534, 65_534))),
                "toor" => Ok(Some((0, 0))),
                "silent" => Err(AccountLookupFailed { reason: "no answer".to_owned() }),
                _ => Ok(None),
            }
        }
    }

    /// The ids and texts of the findings about a rule with this command.
    fn findings(program: &Path, run_as: &str) -> Vec<(Option<String>, String)> {
        let dir = tempfile::tempdir().unwrap();
        let shared = "[[issuer]]\nname = 'op'\nurl = 'https://op.example.org'\naudiences = ['https://a']\n";
        fs::write(dir.path().join("mytoken.toml"), shared).unwrap();
        let rule = format!(
            "[[rule]]\nname = 'r'\nissuer = 'op'\ncommand = ['{}', 'x']\nrun_as = '{run_as}'\n[[rule]]\nname = 'own'\nissuer = 'op'\nuser_file = 'x'\n",
            program.display()
        );
        fs::write(dir.path().join("login.toml"), rule).unwrap();
        let me = FileTrust::user(Owner::current().uid);
        let shared = Shared::load(dir.path(), me).unwrap();
        let login = LoginSettings::load(dir.path(), me, &shared).unwrap();
        let mut findings = Findings::default();
        findings.mappers(&login, me, &Known);
        findings.findings.into_iter().map(|finding| (finding.id, finding.text)).collect()
    }

    #[test]
    fn a_command_that_cannot_be_run_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("mapper");
        let one = |run_as: &str| {
            let [(id, text)] = &findings(&program, run_as)[..] else { panic!("{:?}", findings(&program, run_as)) };
            (id.clone().unwrap_or_default(), text.clone())
        };
        let is = |(id, text): (String, String), kind: &str, part: &str| {
            assert!(
                id == kind && text.contains(part) && (kind == "mapper-ok" || text.contains("gives no account")),
                "{id}: {text}"
            );
        };
        is(one("nobody"), "mapper-program", "No such file");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        for (mode, part) in
            [(0o644, "nobody may not execute it (mode 0644)"), (0o744, "mode 0744"), (0o757, "written by")]
        {
            fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
            is(one("nobody"), "mapper-program", part);
        }
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        is(one("nobody"), "mapper-ok", "runs as nobody");
        for (text, part) in [
            ("echo x\n", "it is no program"),
            ("", "it is no program"),
            ("#!/no/interpreter -x\n", "its interpreter \"/no/interpreter\": No such file"),
            ("#!/etc\n", "its interpreter /etc cannot be run"),
            ("#!\n", "its interpreter \"\": No such file"),
        ] {
            fs::write(&program, text).unwrap();
            is(one("nobody"), "mapper-program", part);
        }
        for text in ["\u{7f}ELF", "#! /bin/sh -e\n", "#!/bin/sh"] {
            fs::write(&program, text).unwrap();
            is(one("nobody"), "mapper-ok", "runs as nobody");
        }
        is(one("silent"), "mapper-ok", "runs as silent");
        is(one("no-such"), "mapper-run-as", "no account of this host");
        is(one("toor"), "mapper-run-as", "uid 0");
    }
}
