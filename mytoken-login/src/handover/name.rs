// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of records. All that a sweep must know is in them, so that it opens none.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use mytoken::random::random;

use crate::Process;

/// Most processes of a record: the one that authenticated and its parent.
const PROCESSES: usize = 2;

/// `<Unix seconds>-<pid>.<start>-...-<32 hexadecimal digits>`: when it was written, who may take it, and what nobody can guess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    created: u64,
    processes: Vec<Process>,
    random: u128,
}

impl Name {
    pub(super) fn new(created: u64, processes: &[Process]) -> Self {
        Self { created, processes: processes.iter().take(PROCESSES).copied().collect(), random: random() }
    }

    /// Seconds between then and now, whichever is earlier: the clock may have been set.
    pub(super) fn age(&self, now: u64) -> u64 {
        now.abs_diff(self.created)
    }

    /// Whether nobody is left who could take the record.
    pub(super) fn is_orphan(&self) -> bool {
        !self.processes.iter().any(Process::is_running)
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.created)?;
        for process in &self.processes {
            write!(f, "-{}.{}", process.pid, process.start)?;
        }
        write!(f, "-{:032x}", self.random)
    }
}

impl FromStr for Name {
    type Err = ();

    /// Reads exactly what [`Display`] writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let random = parts.next_back().and_then(|part| u128::from_str_radix(part, 16).ok()).ok_or(())?;
        let created = parts.next().and_then(|part| part.parse().ok()).ok_or(())?;
        let process = |part: &str| {
            let (pid, start) = part.split_once('.').ok_or(())?;
            Ok(Process { pid: pid.parse().map_err(|_| ())?, start: start.parse().map_err(|_| ())? })
        };
        let processes = parts.map(process).collect::<Result<Vec<Process>, ()>>()?;
        let name = Self { created, processes, random };
        // One spelling only: no signs, no leading zeros, no capitals.
        if name.processes.len() <= PROCESSES && name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        let processes = [Process { pid: 7, start: 8 }, Process { pid: 9, start: 10 }];
        for processes in [&processes[..], &processes[..1], &[]] {
            let name = Name::new(1_800_000_000, processes);
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let random = "0123456789abcdef0123456789abcdef";
        for good in [format!("1-{random}"), format!("1-2.3-{random}"), format!("1-2.3-4.5-{random}")] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
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
        ] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }
}
