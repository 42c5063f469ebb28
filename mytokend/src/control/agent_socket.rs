// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the agent of this host listens: a site may have moved its runtime directory.

use std::path::{Path, PathBuf};

use mytoken::config::{FileTrust, Shared};
use mytoken_wire::paths::AGENT_SOCKET_NAME;

use crate::jobs::settings::JobsSettings;

/// The socket that the caller has given, or else the one of the configuration in `config`. A host without Slurm has no `jobs.toml`, and
/// its agent is at the usual place.
#[must_use]
pub fn agent_socket(given: Option<PathBuf>, config: &Path) -> PathBuf {
    agent_socket_by(given, config, FileTrust::current())
}

fn agent_socket_by(given: Option<PathBuf>, config: &Path, trust: FileTrust) -> PathBuf {
    let configured = || {
        let shared = Shared::load(config, trust).ok()?;
        JobsSettings::load(config, trust, &shared).ok().map(|settings| settings.agent)
    };
    given.unwrap_or_else(|| configured().unwrap_or_default().runtime_dir.join(AGENT_SOCKET_NAME))
}

#[cfg(test)]
mod tests {
    use mytoken::private_files::Owner;
    use mytoken_wire::paths::AGENT_SOCKET;

    use super::*;

    #[test]
    fn the_configuration_says_where_the_agent_listens() {
        let dir = tempfile::tempdir().unwrap();
        let of = |given: Option<&str>| {
            agent_socket_by(given.map(PathBuf::from), dir.path(), FileTrust::user(Owner::current().uid))
        };
        assert_eq!(of(None), Path::new(AGENT_SOCKET));
        std::fs::write(dir.path().join("mytoken.toml"), "").unwrap();
        std::fs::write(dir.path().join("jobs.toml"), "[cluster]\nname = 'c'\n[agent]\nruntime_dir = '/run/site'\n")
            .unwrap();
        assert_eq!(of(None), Path::new("/run/site/agent.sock"));
        assert_eq!(of(Some("/elsewhere")), Path::new("/elsewhere"));
    }
}
