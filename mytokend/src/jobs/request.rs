// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sub-token that a submission requests from the mytoken server.

use mytoken::restrictions::Clause;
use mytoken_wire::Handle;

use super::settings::{ClusterSettings, ProfileSettings};

/// The restriction clause of a job's sub-token: scopes and audience of the profile, addresses of the cluster, expiry after the longest wait
/// and the longest job. At submission, Slurm does not say how long this job may run (SLURM-17). The caller narrows this clause to the
/// parent's clauses, which may shorten the expiry.
#[must_use]
pub fn wanted(profile: &ProfileSettings, cluster: &ClusterSettings, now: u64) -> Clause {
    let longest = cluster.max_pending.as_secs().saturating_add(cluster.max_wall.as_secs());
    Clause {
        exp: Some(now.saturating_add(longest)),
        scope: profile.scope.clone(),
        audience: vec![profile.audience.clone()],
        hosts: profile.hosts.clone(),
        ..Clause::default()
    }
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
    use crate::jobs::settings::JobsSettings;
    use mytoken::restrictions::{Uses, narrow, within};

    fn settings() -> JobsSettings {
        toml::from_str(
            "[cluster]\nname='c'\nmax_pending='1h'\nmax_wall='30m'\n[[profile]]\nname='default'\nserver='s'\nscope='a b'\naudience='https://x'\nhosts=['192.0.2.0/24']",
        )
        .unwrap()
    }

    #[test]
    fn a_sub_token_ends_after_the_longest_wait_and_the_longest_job() {
        let settings = settings();
        let clause = wanted(&settings.profile[0], &settings.cluster, 1000);
        assert_eq!(clause.exp, Some(1000 + 3600 + 1800));
        assert_eq!((clause.scope.as_str(), clause.audience.as_slice()), ("a b", ["https://x".to_owned()].as_slice()));
        assert_eq!(clause.hosts, ["192.0.2.0/24"]);
        assert_eq!((clause.usages_at, clause.nbf), (None, None));
        assert_eq!(name(&settings.cluster, &Handle::new(10)), "c:0000000000000000000000000000000a");
    }

    proptest! {
        #[test]
        fn a_sub_token_ends_with_its_parent(now in 0_u64..2_000_000_000, left in 1_u64..100_000) {
            let settings = settings();
            let clause = wanted(&settings.profile[0], &settings.cluster, now);
            let uses = Uses { access_tokens: true, others: false };
            let parent = [Clause { exp: Some(now + left), ..Clause::default() }];
            let child = narrow(&parent, std::slice::from_ref(&clause), uses, now).unwrap();
            prop_assert_eq!(child[0].exp, Some(now + left.min(5400)));
            prop_assert!(within(&child, &parent) && within(&child, &[clause]));
        }
    }
}
