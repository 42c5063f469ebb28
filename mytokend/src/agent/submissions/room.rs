// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether there is room to follow one more submission. Thousands of a user's jobs may wait, but users choose how many there are and how
//! long a text they call their sub-token: they must fill neither the memory nor /run.

use crate::agent::lease::{Lease, LeaseCredential, Phase};

/// Most bytes of the followed submissions of one user that are not over.
const MOST_OF_USER: usize = 4 * 1024 * 1024;

/// The same with those that are over. Their sub-tokens are kept until they are revoked: after the time that nodes have for it, or later if
/// the budget of requests is used up.
const MOST_WITH_ENDED: usize = 8 * 1024 * 1024;

/// Most bytes of those of all users.
const MOST_OF_ALL: usize = 64 * 1024 * 1024;

/// What a submission needs beside its sub-token.
const EACH: usize = 2 * 1024;

/// What one costs with a sub-token of this length.
pub(super) const fn cost(sub_token: usize) -> usize {
    EACH + sub_token
}

/// Whether one more of the user `uid`, of this cost, has room among these leases.
///
/// # Errors
/// A sentence that says who has used it up.
pub(super) fn find<'l>(leases: impl Iterator<Item = &'l Lease>, uid: u32, more: usize) -> Result<(), String> {
    let (mut goes_on, mut of_user, mut of_all) = (more, more, more);
    for lease in leases.filter(|lease| lease.progress.is_some() && lease.jobs.is_empty()) {
        let sub_token = match &lease.credential {
            Some(LeaseCredential::SubToken { sub_token, .. }) => sub_token.len(),
            _ => 0,
        };
        let is_over = matches!(lease.phase, Phase::Ended { revoke: Some(_), .. });
        of_all += cost(sub_token);
        of_user += if lease.uid == uid { cost(sub_token) } else { 0 };
        goes_on += if lease.uid == uid && !is_over { cost(sub_token) } else { 0 };
    }
    match (goes_on > MOST_OF_USER || of_user > MOST_WITH_ENDED, of_all > MOST_OF_ALL) {
        (true, _) => Err("the agent follows as many submissions of this user as it can".to_owned()),
        (false, true) => Err("the agent follows as many submissions as it can".to_owned()),
        (false, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use mytoken::Secret;
    use mytoken::private_files::Owner;

    use super::*;
    use crate::agent::lease::LeaseKey;
    use crate::jobs::Progress;

    fn followed(uid: u32, number: usize, length: usize) -> Lease {
        let key = LeaseKey::Submission { uid, handle: format!("{number:032x}") };
        let mut lease = Lease::new(key, Owner { uid, gid: uid }, "default", 0);
        lease.progress = Some(Progress::Waiting);
        let sub_token = Secret::new("x".repeat(length));
        lease.credential = Some(LeaseCredential::SubToken { server: "main".into(), sub_token });
        lease
    }

    fn fit(leases: &[Lease], uid: u32, length: usize) -> bool {
        find(leases.iter(), uid, cost(length)).is_ok()
    }

    #[test]
    fn a_user_has_room_for_a_thousand_usual_submissions_and_for_fewer_large_ones() {
        let usual: Vec<Lease> = (0..1_200).map(|number| followed(1, number, 1_200)).collect();
        assert!(fit(&usual, 1, 1_200));
        let large: Vec<Lease> = (0..409).map(|number| followed(1, number, 8 * 1024)).collect();
        assert!(!fit(&large, 1, 8 * 1024) && fit(&large[1..], 1, 8 * 1024));
        assert!(fit(&large, 2, 8 * 1024), "another user has his own");
    }

    #[test]
    fn all_users_together_cannot_fill_the_memory() {
        let leases: Vec<Lease> = (0..6_600)
            .map(|number: usize| {
                let uid = u32::try_from(number % 20).unwrap();
                followed(uid, number, 8 * 1024)
            })
            .collect();
        assert!(!fit(&leases, 99, 0));
        assert!(fit(&leases[..6_500], 99, 0));
    }

    #[test]
    fn what_has_ended_or_is_a_job_of_this_node_takes_little_or_nothing() {
        let mut ended = followed(1, 0, 8 * 1024);
        ended.credential = None;
        let ended: Vec<Lease> = std::iter::repeat_n(ended, 2_047).collect();
        assert!(fit(&ended, 1, 0));
        let mut here = followed(1, 0, 8 * 1024);
        here.add_job(7, 1, None, 0);
        assert!(fit(&vec![here; 5_000], 1, 8 * 1024));
    }
}
