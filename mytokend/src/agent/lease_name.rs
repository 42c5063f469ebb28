// SPDX-License-Identifier: MIT OR Apache-2.0
//! The name of a lease in the log.

use super::lease::{Lease, LeaseKey};

/// Most jobs in the name of a lease.
const SHOWN_JOBS: usize = 3;

/// The name of a lease in the log: its jobs on this node, or else those that lead its submission, or the begin of the id of its session or
/// submission.
pub(super) fn name(lease: &Lease) -> String {
    let jobs = || {
        let running: Vec<u32> = lease.running_jobs().collect();
        // After the end, the last job.
        let last = || lease.jobs.keys().copied().last().into_iter().collect::<Vec<u32>>();
        let shown = [running, last(), lease.leaders.iter().copied().collect()];
        let shown = shown.into_iter().find(|shown| !shown.is_empty()).unwrap_or_default();
        let ids: Vec<String> = shown.iter().take(SHOWN_JOBS).map(u32::to_string).collect();
        let others =
            if shown.len() > SHOWN_JOBS { format!(" and {} others", shown.len() - SHOWN_JOBS) } else { String::new() };
        format!("job {}{others} uid {}", ids.join(","), lease.uid)
    };
    match &lease.key {
        LeaseKey::Session(session) => format!("session {} uid {}", session.get(..8).unwrap_or_default(), lease.uid),
        // Its jobs are not known yet.
        LeaseKey::Submission { handle, .. } if lease.jobs.is_empty() && lease.leaders.is_empty() => {
            format!("submission {} uid {}", handle.get(..8).unwrap_or_default(), lease.uid)
        }
        LeaseKey::Job(_) | LeaseKey::Submission { .. } => jobs(),
    }
}

#[cfg(test)]
mod tests {
    use mytoken::private_files::Owner;

    use super::*;

    #[test]
    fn each_lease_has_a_name_in_the_log() {
        let handle = "0123456789abcdef".to_owned();
        let of = |key| Lease::new(key, Owner { uid: 7, gid: 7 }, "default", 0);
        let mut lease = of(LeaseKey::Submission { uid: 7, handle: handle.clone() });
        assert_eq!(name(&lease), "submission 01234567 uid 7", "it was made on this host");
        for (job, expected) in [(1, "job 1 uid 7"), (2, "job 1,2 uid 7"), (4, "job 1,2,4 uid 7")] {
            lease.add_job(job, 7, None, 0);
            assert_eq!(name(&lease), expected);
        }
        lease.add_job(8, 7, None, 0);
        assert_eq!(name(&lease), "job 1,2,4 and 1 others uid 7");
        lease.jobs.values_mut().for_each(|job| job.running = false);
        assert_eq!(name(&lease), "job 8 uid 7", "the last one");
        lease.jobs.clear();
        lease.leaders = [5].into();
        assert_eq!(name(&lease), "job 5 uid 7", "its job has another credential now");
        assert_eq!(name(&of(LeaseKey::Session(handle))), "session 01234567 uid 7");
    }
}
