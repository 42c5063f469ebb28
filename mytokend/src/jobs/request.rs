// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sub-token that a submission requests from the mytoken server.

use mytoken::restrictions::Clause;
use mytoken_wire::Handle;

use super::profile::ProfileSettings;
use super::settings::ClusterSettings;

/// The restrictions of a job's sub-token: scopes and audience of the profile, addresses of the cluster, the profile's windows, expiry after
/// the longest wait and the longest job. At submission, Slurm does not say how long this job may run (SLURM-17). The caller narrows these
/// clauses to the parent's, which may shorten the expiry.
#[must_use]
pub fn wanted(profile: &ProfileSettings, cluster: &ClusterSettings, now: u64) -> Vec<Clause> {
    profile.clauses(cluster.longest(), now)
}

/// The name of the sub-token in the server's lists. The job has no id yet (SLURM-17), so the name contains the handle, which is in the
/// job's record as `MYTOKEN_H`.
#[must_use]
pub fn name(cluster: &ClusterSettings, handle: &Handle) -> String {
    format!("{}:{handle}", cluster.name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jobs::profile::WindowSettings;
    use crate::jobs::settings::JobsSettings;
    use mytoken::config::Duration;
    use mytoken::restrictions::{Uses, narrow, within};

    const fn seconds(seconds: u64) -> Duration {
        Duration::seconds(seconds)
    }

    fn settings() -> JobsSettings {
        toml::from_str(
            "[cluster]\nname='c'\nmax_pending='1h'\nmax_wall='30m'\n[[profile]]\nname='default'\nserver='s'\nscope='a b'\naudience='https://x'\nhosts=['192.0.2.0/24']",
        )
        .unwrap()
    }

    #[test]
    fn a_sub_token_ends_after_the_longest_wait_and_the_longest_job() {
        let settings = settings();
        let [clause] = &wanted(&settings.profile[0], &settings.cluster, 1000)[..] else { panic!() };
        assert_eq!(clause.exp, Some(1000 + 3600 + 1800));
        assert_eq!((clause.scope.as_str(), clause.audience.as_slice()), ("a b", ["https://x".to_owned()].as_slice()));
        assert_eq!(clause.hosts, ["192.0.2.0/24"]);
        assert_eq!((clause.usages_at, clause.nbf), (None, None));
        assert_eq!(name(&settings.cluster, &Handle::new(10)), "c:0000000000000000000000000000000a");
    }

    #[test]
    fn each_window_of_a_profile_is_a_clause() {
        let mut settings = settings();
        settings.profile[0].windows = vec![
            WindowSettings { from: seconds(0), until: seconds(600) },
            WindowSettings { from: seconds(3600), until: seconds(9000) },
        ];
        settings.profile[0].usages = Some(5);
        let windows = |settings: &JobsSettings| -> Vec<_> {
            let clauses = wanted(&settings.profile[0], &settings.cluster, 1000);
            clauses.iter().map(|clause| (clause.nbf, clause.exp, clause.usages_at)).collect()
        };
        let first = (None, Some(1600), Some(5));
        assert_eq!(windows(&settings), [first, (Some(4600), Some(6400), Some(5))], "the end of the longest job");
        settings.profile[0].max_lifetime = Some(seconds(4000));
        assert_eq!(windows(&settings), [first, (Some(4600), Some(5000), Some(5))]);
        settings.profile[0].max_lifetime = Some(seconds(3600));
        assert_eq!(windows(&settings), [first]);
    }

    proptest! {
        #[test]
        fn a_sub_token_ends_with_its_parent(now in 0_u64..2_000_000_000, left in 1_u64..100_000) {
            let settings = settings();
            let clauses = wanted(&settings.profile[0], &settings.cluster, now);
            let uses = Uses { access_tokens: true, others: false };
            let parent = [Clause { exp: Some(now + left), ..Clause::default() }];
            let child = narrow(&parent, &clauses, uses, now).unwrap();
            prop_assert_eq!(child[0].exp, Some(now + left.min(5400)));
            prop_assert!(within(&child, &parent) && within(&child, &clauses));
        }
    }
}
