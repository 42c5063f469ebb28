// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about the profiles of submissions that name none.

use mytoken_wire::profile::{DEFAULT_TABLES, SiteDefault};

use super::kinds::Kind;
use super::plugstack::PluginLine;
use super::{Findings, kinds_slurm as kinds};
use crate::jobs::settings::JobsSettings;

/// A partition, as `sinfo --format=%P` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    name: String,
    /// Whether jobs that name no partition go there.
    is_default: bool,
}

/// The partitions in the output of sinfo, which marks the default one with a star.
pub(super) fn partitions(output: &str) -> Vec<Partition> {
    let lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| Partition { name: line.trim_end_matches('*').to_owned(), is_default: line.ends_with('*') })
        .collect()
}

/// What `default=` of the plugin's first line says. `None`: no line loads the plugin, or the value is not valid.
pub(super) fn site_default(lines: &[PluginLine]) -> Option<SiteDefault> {
    lines.first()?.default().map_or(Some(SiteDefault::Off), SiteDefault::parse)
}

impl Findings {
    /// Compares the defaults with plugstack.conf and with the partitions of the cluster, as far as both are known. `add`: the command for
    /// a line without `default=`.
    pub(super) fn defaults(
        &mut self,
        jobs: &JobsSettings,
        site: Option<&SiteDefault>,
        partitions: &[Partition],
        add: &str,
    ) {
        for (kind, text) in faults(jobs, site, partitions) {
            if kind.id == kinds::PLUGIN_DEFAULT_OFF.id {
                self.add_fixed(kind, text, add.to_owned());
            } else {
                self.add_kind(kind, text);
            }
        }
    }
}

fn faults(jobs: &JobsSettings, site: Option<&SiteDefault>, partitions: &[Partition]) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    match site {
        Some(SiteDefault::Profile(name)) if jobs.profile(name.as_str()).is_none() => found.push((
            kinds::PLUGIN_DEFAULT_PROFILE,
            format!(
                "plugstack.conf has default={name}, and jobs.toml has no such profile: submissions without --mytoken get an error instead of a credential"
            ),
        )),
        Some(SiteDefault::Off) if !jobs.default.is_empty() => found.push((
            kinds::PLUGIN_DEFAULT_OFF,
            format!(
                "jobs.toml has [[default]] tables, but plugstack.conf does not have default={DEFAULT_TABLES}: they only name the profile of submissions with --mytoken and without a name"
            ),
        )),
        _ => {}
    }
    if jobs.default.is_empty() || partitions.is_empty() {
        return found;
    }
    let exists = |name: &str| partitions.iter().any(|partition| partition.name == name);
    let own = jobs.cluster.default_partition.as_deref();
    let named = jobs.default.iter().filter_map(|table| table.partition.as_deref().map(|name| ("[[default]]", name)));
    for (place, name) in named.chain(own.map(|name| ("cluster.default_partition", name))) {
        if !exists(name) {
            let text = format!("jobs.toml: {place} names the partition \"{name}\", which this cluster does not have");
            found.push((kinds::SLURM_PARTITION, text));
        }
    }
    let Some(default) = partitions.iter().find(|partition| partition.is_default).map(|one| one.name.as_str()) else {
        return found;
    };
    let is_named = || jobs.default.iter().any(|table| table.partition.as_deref() == Some(default));
    let text = match own {
        None if is_named() => format!(
            "submissions without --partition go to \"{default}\", and the [[default]] for it does not match them, because cluster.default_partition of jobs.toml is missing"
        ),
        Some(own) if own != default && exists(own) => format!(
            "cluster.default_partition of jobs.toml is \"{own}\", and Slurm's default partition is \"{default}\""
        ),
        _ => return found,
    };
    found.push((kinds::SLURM_DEFAULT_PARTITION, text));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(default_partition: &str, tables: &[&str], site: Option<&str>, sinfo: &str) -> Vec<&'static str> {
        let profile = "[[profile]]\nname = 'data'\nserver = 's'\nscope = 'a'\naudience = 'x'\n";
        let tables: String =
            tables.iter().map(|name| format!("[[default]]\npartition = '{name}'\nmytoken = 'data'\n")).collect();
        let jobs = toml::from_str(&format!("[cluster]\nname = 'c'\n{default_partition}\n{profile}{tables}")).unwrap();
        let line = |default: &str| PluginLine {
            file: "/p".into(),
            number: 1,
            required: false,
            plugin: "p".into(),
            relative: false,
            arguments: vec![format!("default={default}")].into_iter().filter(|_| !default.is_empty()).collect(),
        };
        let site = site_default(&site.map(line).into_iter().collect::<Vec<_>>());
        faults(&jobs, site.as_ref(), &partitions(sinfo)).iter().map(|(kind, _)| kind.id).collect()
    }

    #[test]
    fn defaults_must_fit_plugstack_and_the_partitions() {
        let main = "default_partition = 'main'";
        for (default_partition, tables, site, sinfo, wanted) in [
            ("", &[][..], Some(""), "main*\n", &[][..]),
            ("", &[], Some("data"), "", &[]),
            ("", &[], Some("other"), "", &["plugin-default-profile"]),
            ("", &["gpu"], Some(""), "main*\ngpu\n", &["plugin-default-off"]),
            ("", &["gpu"], Some("off"), "main*\ngpu\n", &["plugin-default-off"]),
            // What plugstack.conf says is not known.
            ("", &["gpu"], None, "main*\ngpu\n", &[]),
            ("", &["gpu"], Some("a b"), "main*\ngpu\n", &[]),
            ("", &["gpu"], Some("data"), "main*\ngpu\n", &[]),
            ("", &["gpu"], Some("jobs.toml"), "main*\ngpu\n", &[]),
            ("", &["gpu"], Some("jobs.toml"), "main*\n", &["slurm-partition"]),
            ("", &["gpu"], Some("jobs.toml"), "", &[]),
            ("", &["main"], Some("jobs.toml"), "main*\n", &["slurm-default-partition"]),
            (main, &["main"], Some("jobs.toml"), "main*\n", &[]),
            (main, &["main"], Some("jobs.toml"), "main\ngpu*\n", &["slurm-default-partition"]),
            (main, &["gpu"], Some("jobs.toml"), "gpu*\n", &["slurm-partition"]),
            (main, &["main"], Some("jobs.toml"), "main\n", &[]),
            (main, &[], Some("data"), "gpu*\n", &[]),
        ] {
            let found = ids(default_partition, tables, site, sinfo);
            assert_eq!(found, wanted, "{default_partition} {tables:?} {site:?} {sinfo:?}");
        }
    }
}
