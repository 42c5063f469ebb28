// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file in the home of the account's owner: who else may use the account.

use std::path::Path;
use std::time::Duration;

use login_child::{Errno, FileFault, ReadFailed, User, UserFile};
use mytoken::Deadline;
use nix::unistd::User as Account;

use super::identities::{self, Found};
use super::{Asked, Given, Mapper};
use crate::accounts::LocalAccount;
use crate::refusal::Refusal;
use crate::settings::UserFileSettings;

/// Largest file in bytes.
const LIMIT: usize = 64 * 1024;

/// Time to read it. A home on a file server that does not answer must not take the whole time of a login.
const TIME: Duration = Duration::from_secs(5);

/// Reads the file below the home of the asked account.
pub(super) struct UserFileMapper<'a>(pub(super) &'a UserFileSettings);

impl Mapper for UserFileMapper<'_> {
    fn gives(&self, asked: &Asked<'_>, deadline: Deadline) -> Result<Given, Refusal> {
        let account = asked.account;
        if account.system || account.uid == 0 {
            return Ok(Given::Nothing("is not read for system accounts".to_owned()));
        }
        let found = Account::from_name(&account.name)
            .map_err(|errno| Refusal::System(format!("the home of the account cannot be looked up: {errno}")))?;
        match found.filter(|found| found.name == account.name && found.uid.as_raw() == account.uid) {
            Some(found) if found.dir.is_absolute() => self.look(&found.dir, asked, deadline),
            _ => Ok(Given::Nothing("is not read: the account has no home directory".to_owned())),
        }
    }
}

impl UserFileMapper<'_> {
    fn look(&self, home: &Path, asked: &Asked<'_>, deadline: Deadline) -> Result<Given, Refusal> {
        if deadline.remaining().is_none() {
            return Err(Refusal::DeadlinePassed);
        }
        let LocalAccount { uid, gid, .. } = *asked.account;
        let file = UserFile { home, path: &self.0.path, user: User { uid, gid }, limit: LIMIT };
        match login_child::read(&file, deadline.at_most(TIME)) {
            Ok(bytes) => Ok(given(&identities::find(&bytes, asked.identity))),
            Err(failed) => answer(&failed, &home.join(&self.0.path), deadline),
        }
    }
}

fn given(found: &Found) -> Given {
    if found.listed {
        return Given::Account;
    }
    let wrong = match (&found.first, found.wrong) {
        (Some(first), 1) => format!(" (1 line not used: {first})"),
        (Some(first), count) => format!(" ({count} lines not used, the first is {first})"),
        (None, _) => String::new(),
    };
    Given::Nothing(format!("has no line for the identity{wrong}"))
}

/// What follows from a file that was not read. The account's owner can cause each of these, so none counts as an outage.
fn answer(failed: &ReadFailed, file: &Path, deadline: Deadline) -> Result<Given, Refusal> {
    match failed {
        ReadFailed::Unusable { part, fault: fault @ FileFault::Unreadable(errno) } if *errno != Errno::EACCES => {
            Err(Refusal::System(format!("{} {fault}", part.display())))
        }
        ReadFailed::Unusable { part, fault } => Ok(Given::Nothing(format!("is not used: {} {fault}", part.display()))),
        ReadFailed::TimedOut if deadline.remaining().is_none() => Err(Refusal::DeadlinePassed),
        ReadFailed::TimedOut => {
            Err(Refusal::System(format!("{} was not read within {} s", file.display(), TIME.as_secs())))
        }
        ReadFailed::Failed(Errno::EPERM) => {
            Err(Refusal::System(format!("only root can read {} as the account", file.display())))
        }
        ReadFailed::Failed(errno) => Err(Refusal::System(format!("{} cannot be read: {errno}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use mytoken::Secret;
    use nix::unistd::{getegid, geteuid};

    use super::*;
    use crate::identity::Identity;

    fn look(home: &Path, deadline: Deadline) -> Result<Given, Refusal> {
        let account =
            LocalAccount { name: "alice".into(), uid: geteuid().as_raw(), gid: getegid().as_raw(), system: false };
        let identity = Identity {
            issuer: "op".into(),
            iss: "https://op.example.org".into(),
            sub: "s-1".into(),
            scopes: Vec::new(),
            claims: serde_json::Map::new(),
        };
        let access_token = &Secret::new("at");
        let asked =
            Asked { identity: &identity, account: &account, access_token, entered: true, service: "sshd", rhost: None };
        let settings = UserFileSettings { path: "ids".into() };
        UserFileMapper(&settings).look(home, &asked, deadline)
    }

    #[test]
    fn a_line_gives_the_account_and_everything_else_says_why_not() {
        let home = tempfile::tempdir().unwrap();
        let (file, soon) = (home.path().join("ids"), Deadline::after(TIME));
        let nothing = |reason: &str| Ok(Given::Nothing(reason.to_owned()));
        let at = file.display();
        assert_eq!(look(home.path(), soon), nothing(&format!("is not used: {at} does not exist")));
        fs::write(&file, "op s-1\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(look(home.path(), soon), Ok(Given::Account));
        assert_eq!(look(home.path(), Deadline::after(Duration::ZERO)), Err(Refusal::DeadlinePassed));
        fs::write(&file, "op s-2\nop\n").unwrap();
        let Ok(Given::Nothing(reason)) = look(home.path(), soon) else { panic!() };
        assert!(reason.starts_with("has no line for the identity (1 line not used: 2:3: the subject"), "{reason}");
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let writable = format!("is not used: {at} can be written by others (mode 0666)");
        assert_eq!(look(home.path(), soon), nothing(&writable));
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::write(&file, "#".repeat(LIMIT + 1)).unwrap();
        assert_eq!(look(home.path(), soon), nothing(&format!("is not used: {at} is too large")));
    }

    #[test]
    fn a_file_that_hangs_is_an_error_of_this_host_and_no_outage() {
        let (file, soon) = (Path::new("/home/alice/ids"), Deadline::after(TIME));
        let late = "/home/alice/ids was not read within 5 s".to_owned();
        assert_eq!(answer(&ReadFailed::TimedOut, file, soon), Err(Refusal::System(late)));
        let over = Deadline::after(Duration::ZERO);
        assert_eq!(answer(&ReadFailed::TimedOut, file, over), Err(Refusal::DeadlinePassed));
        // State that cannot be read is not state that does not exist.
        let broken = ReadFailed::Unusable { part: file.to_owned(), fault: FileFault::Unreadable(Errno::EIO) };
        assert!(matches!(answer(&broken, file, soon), Err(Refusal::System(_))));
        let denied = ReadFailed::Unusable { part: file.to_owned(), fault: FileFault::Unreadable(Errno::EACCES) };
        assert!(matches!(answer(&denied, file, soon), Ok(Given::Nothing(_))));
    }

    #[test]
    fn the_file_of_a_system_account_is_not_read() {
        let identity = Identity {
            issuer: "op".into(),
            iss: "https://op.example.org".into(),
            sub: "s-1".into(),
            scopes: Vec::new(),
            claims: serde_json::Map::new(),
        };
        let settings = UserFileSettings { path: "ids".into() };
        for (name, uid, system) in [("root", 0, false), ("daemon", 1, true)] {
            let account = LocalAccount { name: name.into(), uid, gid: uid, system };
            let access_token = &Secret::new("at");
            let asked = Asked {
                identity: &identity,
                account: &account,
                access_token,
                entered: true,
                service: "sshd",
                rhost: None,
            };
            let given = UserFileMapper(&settings).gives(&asked, Deadline::after(TIME));
            assert_eq!(given, Ok(Given::Nothing("is not read for system accounts".to_owned())));
        }
    }
}
