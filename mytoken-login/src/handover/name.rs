// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of records. A sweep decides by the name alone and opens no record.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use mytoken::random::random;

use mytoken::Process;

/// Maximum number of processes of a record: the one that authenticated, and its parent.
const PROCESSES_LIMIT: usize = 2;

/// `<Unix seconds>-<pid>.<start>-...-<32 hexadecimal digits>`: when the record was written, the processes that may take it, and random
/// bits that cannot be guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordName {
    created: u64,
    processes: Vec<Process>,
    random: u128,
}

impl RecordName {
    pub(super) fn new(created: u64, processes: &[Process]) -> Self {
        Self { created, processes: processes.iter().take(PROCESSES_LIMIT).copied().collect(), random: random() }
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
        write!(f, "{}", self.created)?;
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
        let created = parts.next().and_then(|part| part.parse().ok()).ok_or(())?;
        let process = |part: &str| {
            let (pid, start) = part.split_once('.').ok_or(())?;
            Ok(Process { pid: pid.parse().map_err(|_| ())?, start: start.parse().map_err(|_| ())? })
        };
        let processes = parts.map(process).collect::<Result<Vec<Process>, ()>>()?;
        let name = Self { created, processes, random };
        // There is one spelling: no signs, no leading zeros, no capitals.
        if name.processes.len() <= PROCESSES_LIMIT && name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        let processes = [Process { pid: 7, start: 8 }, Process { pid: 9, start: 10 }];
        for processes in [&processes[..], &processes[..1], &[]] {
            let name = RecordName::new(1_800_000_000, processes);
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let random = "0123456789abcdef0123456789abcdef";
        for good in [format!("1-{random}"), format!("1-2.3-{random}"), format!("1-2.3-4.5-{random}")] {
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
        ] {
            assert!(wrong.parse::<RecordName>().is_err(), "{wrong}");
        }
    }
}
