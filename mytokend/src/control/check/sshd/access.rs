// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom sshd lets in: `AllowUsers`, `DenyUsers`, `AllowGroups`, `DenyGroups` (SSH-34).

use super::super::host::{Host, Person};
use super::super::nss::NoAnswer;
use super::Effective;

/// The lists of `sshd -T`. An empty list to allow allows everybody.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    allow_users: Vec<String>,
    deny_users: Vec<String>,
    allow_groups: Vec<String>,
    deny_groups: Vec<String>,
}

/// Whom the lists leave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Not known without knowing all accounts.
    Unknown,
    /// None but these accounts.
    Only(Vec<String>),
}

impl Access {
    pub(super) fn of(sshd: &Effective) -> Self {
        let list = |keyword| sshd.all(keyword).to_vec();
        Self {
            allow_users: list("allowusers"),
            deny_users: list("denyusers"),
            allow_groups: list("allowgroups"),
            deny_groups: list("denygroups"),
        }
    }

    /// Why sshd lets this account in from no address. In the order of sshd.
    ///
    /// # Errors
    /// The lists name groups, and it cannot be said which ones the account has.
    pub(super) fn refuses(&self, host: &dyn Host, name: &str, person: &Person) -> Result<Option<String>, NoAnswer> {
        // An entry with an address denies some addresses only, and allows some.
        let named = |entry: &String| matches(entry, name);
        if let Some(entry) = self.deny_users.iter().find(|entry| named(entry)) {
            return Ok(Some(format!("DenyUsers {entry}")));
        }
        let user_of = |entry: &String| matches(entry.rsplit_once('@').map_or(entry.as_str(), |(user, _)| user), name);
        if !self.allow_users.is_empty() && !self.allow_users.iter().any(user_of) {
            return Ok(Some("AllowUsers does not name it".to_owned()));
        }
        // sshd looks groups up only for these lists. Each group can be a question to a directory server.
        if self.deny_groups.is_empty() && self.allow_groups.is_empty() {
            return Ok(None);
        }
        let groups = host.groups(name, person.gid)?;
        let member = |entry: &&String| groups.iter().any(|group| matches(entry, group));
        if let Some(entry) = self.deny_groups.iter().find(member) {
            return Ok(Some(format!("DenyGroups {entry}")));
        }
        if !self.allow_groups.is_empty() && !self.allow_groups.iter().any(|entry| member(&entry)) {
            return Ok(Some("AllowGroups names none of its groups".to_owned()));
        }
        Ok(None)
    }

    /// Whom the lists leave, where that is known without knowing all accounts.
    pub(super) fn left(&self, host: &dyn Host) -> Left {
        let all = |entry: &String| !entry.is_empty() && entry.bytes().all(|byte| byte == b'*');
        if self.deny_users.iter().chain(&self.deny_groups).any(all) {
            return Left::Only(Vec::new());
        }
        let literal =
            |entries: &[String]| !entries.is_empty() && !entries.iter().any(|entry| entry.contains(['*', '?']));
        if literal(&self.allow_users) {
            let user = |entry: &String| entry.rsplit_once('@').map_or(entry.as_str(), |(user, _)| user).to_owned();
            return Left::Only(self.allow_users.iter().map(user).collect());
        }
        // Members by their primary group are in no list of the group.
        if literal(&self.allow_groups) && !self.allow_groups.iter().any(|group| host.has_group(group)) {
            return Left::Only(Vec::new());
        }
        Left::Unknown
    }

    /// The keywords that are set, for a sentence.
    pub(super) fn keywords(&self) -> String {
        let lists = [
            ("AllowUsers", &self.allow_users),
            ("DenyUsers", &self.deny_users),
            ("AllowGroups", &self.allow_groups),
            ("DenyGroups", &self.deny_groups),
        ];
        let set: Vec<String> = lists
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name} {}", list.join(" ")))
            .collect();
        set.join(", ")
    }
}

/// sshd's patterns: `*` for any text and `?` for any character, everything else for itself.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut text = pattern.replace('[', "[[]");
    while text.contains("**") {
        text = text.replace("**", "*");
    }
    glob::Pattern::new(&text).is_ok_and(|pattern| pattern.matches(name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Site;
    use super::*;

    fn access(text: &str) -> Access {
        Access::of(&Effective::parse(text))
    }

    fn refused(text: &str) -> Option<String> {
        access(text).refuses(&Site::of(&[]), "alice", &Person::default()).unwrap()
    }

    #[test]
    fn lists_decide_as_in_sshd() {
        for (text, expected) in [
            ("", None),
            ("allowusers bob\nallowusers alice", None),
            ("allowusers bob", Some("AllowUsers does not name it")),
            ("allowusers al*", None),
            ("AllowUsers ALICE", Some("AllowUsers does not name it")),
            ("allowusers alice@192.0.2.0/24", None),
            ("allowusers bob@192.0.2.0/24", Some("AllowUsers does not name it")),
            ("denyusers alice@192.0.2.0/24", None),
            ("denyusers alic?", Some("DenyUsers alic?")),
            ("denyusers alice\nallowusers alice", Some("DenyUsers alice")),
            ("denyusers !bob", None),
            ("denyusers [a]lice", None),
            ("denyusers a**e", Some("DenyUsers a**e")),
            ("allowgroups hpc", None),
            ("allowgroups wheel\nallowgroups sta*", None),
            ("allowgroups wheel", Some("AllowGroups names none of its groups")),
            ("denygroups hpc\nallowgroups staff", Some("DenyGroups hpc")),
            ("allowusers alice\nallowgroups wheel", Some("AllowGroups names none of its groups")),
        ] {
            assert_eq!(refused(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn groups_are_looked_up_only_where_a_list_needs_them() {
        for (text, expected) in [
            ("denyusers bob\nallowusers dora", Ok(None)),
            ("denyusers dora\nallowgroups hpc", Ok(Some("DenyUsers dora"))),
            ("allowgroups hpc", Err(())),
            ("denygroups hpc", Err(())),
        ] {
            let refused = access(text).refuses(&Site::of(&[]), "dora", &Person::default());
            assert_eq!(refused.as_ref().map(Option::as_deref).map_err(|_| ()), expected, "{text}");
        }
    }

    #[test]
    fn whom_the_lists_leave_is_known_for_names() {
        let only = |names: &[&str]| Left::Only(names.iter().map(ToString::to_string).collect());
        for (text, expected) in [
            ("", Left::Unknown),
            ("allowusers a*", Left::Unknown),
            ("allowusers root\nallowusers bob@192.0.2.1", only(&["root", "bob"])),
            ("denyusers *", only(&[])),
            ("denygroups *", only(&[])),
            ("allowgroups nosuch", only(&[])),
            ("allowgroups nosuch\nallowgroups hpc", Left::Unknown),
        ] {
            assert_eq!(access(text).left(&Site::of(&[])), expected, "{text}");
        }
    }
}
