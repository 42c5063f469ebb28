// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command that brings a missing line of our module back into a stack.

use std::path::{Path, PathBuf};

use super::configuration::word;
use super::host::Host;
use super::kinds::Kind;
use super::package_tool::PackageTool;
use super::pam::ours;
use super::pam_stack::{Group, OTHER, Stack};

/// The files of Debian into which pam-auth-update writes begin like this.
const COMMON: &str = "/etc/pam.d/common-";

/// The stack with all our lines that the package has.
const EXAMPLE: &str = "/usr/share/mytoken/pam-sshd.example";

/// The files of a command.
struct Files<'a> {
    stack: &'a Path,
    example: &'a Path,
    /// Where the stack is kept as it was.
    saved: &'a Path,
}

/// The command for the stack of this group, which has none of our lines. `stacks`: those of all groups.
pub(super) fn missing_line(
    tool: PackageTool,
    kind: Kind,
    host: &dyn Host,
    service: &str,
    group: Group,
    stacks: &[&(Group, Stack); 3],
) -> String {
    let file = Path::new("/etc/pam.d").join(service);
    if tool != PackageTool::Apt || is_managed(group, stacks) {
        return tool.fix(kind).into_owned();
    }
    // One line of this group would take the place of all those of the other file.
    if stacks.iter().any(|(of, stack)| *of == group && stack.instead_of.is_some()) {
        return format!(
            "cat {EXAMPLE}   # write its {} lines into {}: until it has one, those of /etc/pam.d/{OTHER} count; keep a shell of root open \
             meanwhile",
            group.name(),
            file.display()
        );
    }
    if host.read(&file).is_none() {
        return tool.fix(kind).into_owned();
    }
    // For sshd, the name that README.Debian gives the copy.
    let saved = PathBuf::from(format!("/root/pam-{service}.before"));
    add_line(group, &Files { stack: &file, example: Path::new(EXAMPLE), saved: &saved })
}

/// Whether pam-auth-update mends the stack of this group. It writes our lines into all files of [`COMMON`]: a stack that has lines of
/// its own in another file would have them twice, and one that does not include the file gets none.
fn is_managed(group: Group, stacks: &[&(Group, Stack); 3]) -> bool {
    let has_own = stacks.iter().any(|(_, stack)| ours(stack).is_some_and(|line| !line.place.starts_with(COMMON)));
    let common = format!("{COMMON}{}:", group.name());
    let includes = |stack: &Stack| stack.lines().any(|line| line.place.starts_with(&common));
    !has_own && stacks.iter().any(|(of, stack)| *of == group && includes(stack))
}

/// A line that is there already is not added. The order of lines counts within a group only: ours are the first ones, and the session's
/// is the last one, after `pam_systemd`.
fn add_line(group: Group, files: &Files<'_>) -> String {
    let [stack, example, saved] = [files.stack, files.example, files.saved].map(|path| word(&path.to_string_lossy()));
    let line = format!("^{}[[:blank:]].*pam_mytoken[.]so", group.name());
    let place = if group == Group::Session { "\\$a" } else { "1i" };
    format!(
        "grep -q '{line}' {stack} || {{ {{ test -e {saved} || cp -p {stack} {saved}; }} && \
         sed -i --follow-symlinks \"{place} $(grep -m1 '{line}' {example})\" {stack}; }}   \
         # it counts from the next login on: keep a shell of root open meanwhile"
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::kinds;
    use super::super::pam::{SSHD, read};
    use super::super::pam_stack::ModuleLine;
    use super::*;
    use crate::control::check::host::Ran;

    const SHIPPED: &str = include_str!("../../../../packaging/pam-sshd.example");

    /// A host with `/etc/pam.d/sshd` and the files that it includes.
    struct Stacks<'a>(&'a str, &'a str);

    /// What Debian has for services without a line of a group.
    const OTHERS: &str = "@include common-auth\n@include common-account\n@include common-session\n";

    impl Host for Stacks<'_> {
        fn read(&self, path: &Path) -> Option<String> {
            let name = path.strip_prefix("/etc/pam.d").ok()?.to_str()?;
            if name == SSHD {
                return (!self.0.is_empty()).then(|| self.0.to_owned());
            }
            if name == OTHER {
                return Some(OTHERS.to_owned());
            }
            let group = name.strip_prefix("common-")?;
            Some(self.1.lines().filter(|line| line.starts_with(group)).map(|line| format!("{line}\n")).collect())
        }
        fn exists(&self, _path: &Path) -> bool {
            false
        }
        fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
            Ran::Missing
        }
    }

    /// The commands for those groups that lack our line.
    fn fixes(tool: PackageTool, sshd: &str, common: &str) -> Vec<String> {
        let host = Stacks(sshd, common);
        let [auth, account, session] =
            [Group::Auth, Group::Account, Group::Session].map(|group| (group, read(&host, SSHD, group)));
        let all = [&auth, &account, &session];
        let missing = all.iter().filter(|(_, stack)| ours(stack).is_none());
        missing.map(|(group, _)| missing_line(tool, kinds::PAM_AUTH, &host, SSHD, *group, &all)).collect()
    }

    fn without(group: &str) -> String {
        let is_ours = |line: &&str| line.starts_with(group) && line.contains("pam_mytoken");
        SHIPPED.lines().filter(|line| !is_ours(line)).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn pam_auth_update_mends_only_what_it_writes() {
        let common = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_unix.so\n";
        let update = "pam-auth-update --enable mytoken mytoken-session";
        for group in ["auth", "account", "session"] {
            let fix = fixes(PackageTool::Apt, &without(group), common);
            assert!(fix.len() == 1 && fix[0].starts_with(&format!("grep -q '^{group}")), "{fix:?}");
            assert!(fix[0].contains(" || cp -p /etc/pam.d/sshd /root/pam-sshd.before; }"), "{fix:?}");
        }
        let debian = "@include common-auth\n@include common-account\n@include common-session\n";
        assert_eq!(fixes(PackageTool::Apt, debian, common), [update; 3]);
        let ours = "auth required pam_mytoken.so\naccount required pam_mytoken.so\n";
        assert_eq!(fixes(PackageTool::Apt, debian, &format!("{common}{ours}")), [update]);
        // Nothing of ours, and no common-auth.
        let alone = "auth requisite pam_deny.so\n@include common-account\n@include common-session\n";
        let fix = fixes(PackageTool::Apt, alone, common);
        assert!(fix[0].starts_with("grep -q '^auth") && fix[1..] == [update; 2], "{fix:?}");
        // A service without a file, or without a line of the group, has those of `other`.
        for sshd in ["", "@include common-account\n@include common-session\n"] {
            assert_eq!(fixes(PackageTool::Apt, sshd, common), [update; 3], "{sshd}");
        }
        let fix = fixes(PackageTool::Apt, "auth required pam_unix.so\n", "account required pam_unix.so\n");
        assert!(fix[0].starts_with("grep -q '^auth") && fix[1] == update, "{fix:?}");
        assert!(fix[2].starts_with("cat /usr/share/mytoken/pam-sshd.example   # write its session lines"), "{fix:?}");
        let elsewhere = fixes(PackageTool::Dnf, &without("auth"), common);
        assert!(elsewhere.len() == 1 && elsewhere[0].starts_with("diff "), "{elsewhere:?}");
    }

    #[test]
    fn the_line_is_added_once_and_the_stack_is_kept() {
        for group in [Group::Auth, Group::Account, Group::Session] {
            let dir = tempfile::tempdir().unwrap();
            let [stack, example, saved] = ["sshd", "example", "saved"].map(|name| dir.path().join(name));
            let before = without(group.name());
            // Without an end of the last line.
            std::fs::write(&stack, before.trim_end()).unwrap();
            std::fs::write(&example, SHIPPED).unwrap();
            let command = add_line(group, &Files { stack: &stack, example: &example, saved: &saved });
            for _ in 0..2 {
                let ran = Command::new("sh").args(["-c", &command]).output().unwrap();
                assert!(ran.status.success(), "{command} {ran:?}");
            }
            let after = std::fs::read_to_string(&stack).unwrap();
            let line = SHIPPED.lines().find(|line| line.starts_with(group.name()) && line.contains("pam_mytoken"));
            assert_eq!(after.lines().filter(|after| Some(*after) == line).count(), 1, "{after}");
            assert_eq!(after.lines().count(), before.trim_end().lines().count() + 1, "{after}");
            assert_eq!(std::fs::read_to_string(&saved).unwrap(), before.trim_end());
            // The places of lines that libpam comes to.
            let host = Stacks(&after, "");
            let read = read(&host, SSHD, group);
            let names: Vec<&str> = read.lines().map(ModuleLine::name).collect();
            let end = if group == Group::Session { names.last() } else { names.first() };
            assert_eq!(end, Some(&"pam_mytoken"), "{names:?}");
            // Without the package's file the stack stays as it is.
            std::fs::write(&stack, &before).unwrap();
            std::fs::remove_file(&example).unwrap();
            assert!(!Command::new("sh").args(["-c", &command]).status().unwrap().success());
            assert_eq!(std::fs::read_to_string(&stack).unwrap(), before);
        }
    }
}
