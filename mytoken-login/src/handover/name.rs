// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of records. A sweep decides by the name alone and opens only the records whose name says that there is something to revoke.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use mytoken::random::random;

use mytoken::Process;

use super::record::AGE_LIMIT;

/// Maximum number of processes of a record: the one that authenticated, and its parent.
const PROCESSES_LIMIT: usize = 2;

/// What a record holds, beside an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing that has to be revoked.
    Plain,
    /// A mytoken that must be revoked if no session takes it.
    Revocable,
    /// A mytoken that must be revoked when the session ends, because the agent did not take it. No session takes the record.
    OfSession,
    /// A polling code or mytoken that must be revoked when the process of its login ends: a login with a link that goes on. No session takes
    /// the record.
    OfLogin,
}

impl Content {
    const ALL: [Self; 4] = [Self::Plain, Self::Revocable, Self::OfSession, Self::OfLogin];

    const fn mark(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Revocable => "r",
            Self::OfSession => "s",
            Self::OfLogin => "l",
        }
    }
}

/// `<mark><Unix seconds>-<pid>.<start>-...-<32 hexadecimal digits>`: what the record holds, when it was written, the processes that may
/// take it, and random bits that cannot be guessed. Modules of earlier releases write no mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordName {
    content: Content,
    created: u64,
    processes: Vec<Process>,
    random: u128,
}

impl RecordName {
    pub(super) fn new(content: Content, created: u64, processes: &[Process]) -> Self {
        let processes = processes.iter().take(PROCESSES_LIMIT).copied().collect();
        Self { content, created, processes, random: random() }
    }

    /// What the record holds.
    pub(super) const fn content(&self) -> Content {
        self.content
    }

    /// When it was written, Unix seconds.
    pub(super) const fn created(&self) -> u64 {
        self.created
    }

    /// The random bits, as 32 hexadecimal digits.
    pub(super) fn id(&self) -> String {
        format!("{:032x}", self.random)
    }

    /// Whether nobody needs the record any more: its processes have ended, or it is too old at `now` for a session to take it. A session
    /// lasts as long as it likes, and a person is at the browser for minutes: a jump of the clock ends neither.
    pub(super) fn is_obsolete(&self, now: u64) -> bool {
        let has_limit = match self.content {
            Content::Plain | Content::Revocable => true,
            Content::OfSession | Content::OfLogin => false,
        };
        self.is_orphan() || has_limit && self.age(now) > AGE_LIMIT
    }

    /// Seconds between its creation and `now`. `now` is the earlier time if the clock was set back.
    pub(super) fn age(&self, now: u64) -> u64 {
        now.abs_diff(self.created)
    }

    /// Whether all processes that may take the record have ended.
    pub(super) fn is_orphan(&self) -> bool {
        !self.processes.iter().any(Process::is_running)
    }
}

impl Display for RecordName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.content.mark(), self.created)?;
        for process in &self.processes {
            write!(f, "-{}.{}", process.pid, process.start)?;
        }
        write!(f, "-{:032x}", self.random)
    }
}

impl FromStr for RecordName {
    type Err = ();

    /// Reads exactly what [`Display`] writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let random = parts.next_back().and_then(|part| u128::from_str_radix(part, 16).ok()).ok_or(())?;
        let marked = parts.next().ok_or(())?;
        let digits = marked.trim_start_matches(|letter: char| letter.is_ascii_lowercase());
        let mark = marked.strip_suffix(digits).ok_or(())?;
        let content = Content::ALL.into_iter().find(|content| content.mark() == mark).ok_or(())?;
        let created = digits.parse().map_err(|_| ())?;
        let process = |part: &str| {
            let (pid, start) = part.split_once('.').ok_or(())?;
            Ok(Process { pid: pid.parse().map_err(|_| ())?, start: start.parse().map_err(|_| ())? })
        };
        let processes = parts.map(process).collect::<Result<Vec<Process>, ()>>()?;
        let name = Self { content, created, processes, random };
        // There is one spelling: no signs, no leading zeros, no capitals.
        if name.processes.len() <= PROCESSES_LIMIT && name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_ends_only_what_a_session_takes_at_once() {
        let own = Process::own().unwrap();
        let ended = Process { start: own.start + 1, ..own };
        for (content, expected) in
            [(Content::Plain, true), (Content::Revocable, true), (Content::OfSession, false), (Content::OfLogin, false)]
        {
            let is_obsolete = |process, now| RecordName::new(content, 10_000, &[process]).is_obsolete(now);
            assert!(!is_obsolete(own, 10_600), "{content:?}");
            assert_eq!((is_obsolete(own, 10_601), is_obsolete(own, 0)), (expected, expected), "{content:?}");
            assert!(is_obsolete(ended, 10_000), "{content:?}");
        }
    }

    #[test]
    fn a_name_has_one_spelling() {
        let processes = [Process { pid: 7, start: 8 }, Process { pid: 9, start: 10 }];
        for processes in [&processes[..], &processes[..1], &[]] {
            for content in Content::ALL {
                let name = RecordName::new(content, 1_800_000_000, processes);
                assert_eq!(name.to_string().parse(), Ok(name));
            }
        }
        let random = "0123456789abcdef0123456789abcdef";
        for good in [
            format!("r1-{random}"),
            format!("s1-2.3-{random}"),
            format!("l1-2.3-{random}"),
            format!("1-{random}"),
            format!("1-2.3-{random}"),
            format!("1-2.3-4.5-{random}"),
        ] {
            assert!(good.parse::<RecordName>().is_ok(), "{good}");
        }
        for wrong in [
            String::new(),
            "1".into(),
            random.into(),
            format!("1-2-{random}"),
            format!("01-{random}"),
            format!("+1-{random}"),
            format!("1-2.3-4.5-6.7-{random}"),
            format!("1-{}", random.to_uppercase()),
            format!("1-{random}0"),
            format!("1-{}", &random[1..]),
            format!("../1-{random}"),
            format!(".1-{random}"),
            format!("x1-{random}"),
            format!("rr1-{random}"),
            format!("r-{random}"),
            format!("r01-{random}"),
        ] {
            assert!(wrong.parse::<RecordName>().is_err(), "{wrong}");
        }
    }
}
