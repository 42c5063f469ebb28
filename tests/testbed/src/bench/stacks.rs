// SPDX-License-Identifier: MIT OR Apache-2.0
//! Three configurations of Slurm in one site that differ in their plugins only. A command selects one by `SLURM_CONF`.

use super::c_program;
use super::timing::Step;
use crate::{Error, Result, Site};

const PLUGIN_SOURCE: &str = include_str!("empty_plugin.c");
const EMPTY_PLUGIN: &str = "spank_empty.so";
const OUR_PLUGIN: &str = "spank_mytoken.so";

/// The plugins that Slurm loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stack {
    /// No plugin.
    None,
    /// A plugin in C whose hooks return at once.
    Empty,
    /// The product's plugin.
    Ours,
}

impl Stack {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Empty => "empty",
            Self::Ours => "ours",
        }
    }

    fn plugstack(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Empty => "optional spank_empty.so\n",
            Self::Ours => "include /usr/share/mytoken/plugstack.conf\n",
        }
    }

    /// The file of its plugin in a site, if it has one.
    pub(super) fn plugin(self, site: &Site) -> Result<Option<String>> {
        let name = match self {
            Self::None => return Ok(None),
            Self::Empty => EMPTY_PLUGIN,
            Self::Ours => OUR_PLUGIN,
        };
        // Its directory depends on the machine's architecture.
        let directory = site.sh("root", &format!("dirname /usr/lib/*/slurm-wlm/{OUR_PLUGIN}"))?.ok()?.stdout;
        Ok(Some(format!("{}/{name}", directory.trim())))
    }

    fn directory(self) -> String {
        format!("/etc/bench/{}", self.name())
    }

    /// A command that uses this stack.
    pub(super) fn apply_to(self, step: Step) -> Step {
        step.env("SLURM_CONF", &format!("{}/slurm.conf", self.directory()))
    }
}

/// Makes the three configurations in a site.
pub(super) fn prepare(site: &Site) -> Result<()> {
    install_empty_plugin(site)?;
    for stack in [Stack::None, Stack::Empty, Stack::Ours] {
        let directory = stack.directory();
        site.sh("root", &format!("mkdir -p /etc/bench && cp -rL /etc/slurm {directory}"))?.ok()?;
        site.write(&format!("{directory}/plugstack.conf"), stack.plugstack(), "0644")?;
        check(site, stack)?;
    }
    Ok(())
}

/// Sets the stack of a node: mounts its plugstack.conf in the node's own mount namespace, where slurmd and steps read
/// it.
pub(super) fn set_on_node(site: &Site, node: &str, stack: Stack) -> Result<()> {
    let file = "/etc/slurm/plugstack.conf";
    let mount = format!("umount {file} 2>/dev/null; mount --bind {}/plugstack.conf {file}", stack.directory());
    site.on_node(node, &mount)?.ok().map(drop)
}

/// Checks that Slurm loads the stack: only our plugin adds its option, and no plugin fails to load.
fn check(site: &Site, stack: Stack) -> Result<()> {
    let help =
        site.command("alice", ["sbatch", "--help"]).env("SLURM_CONF", &format!("{}/slurm.conf", stack.directory()));
    let help = help.run()?.ok()?;
    if help.stdout.contains("--mytoken") == (stack == Stack::Ours) && help.stderr.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "Slurm did not load the plugin stack \"{}\" as expected: {}",
        stack.name(),
        help.stderr
    )))
}

fn install_empty_plugin(site: &Site) -> Result<()> {
    let version = site.sh("root", "sbatch --version")?.ok()?.stdout;
    let version = format!("-DSLURM_VERSION={}", version_number(&version)?);
    let Some(path) = Stack::Empty.plugin(site)? else { return Ok(()) };
    c_program::install(site, PLUGIN_SOURCE, &["-shared", "-fPIC", &version], &path)
}

/// Slurm's version number (SLURM-01) from the output of `sbatch --version`: "slurm-wlm 22.05.8" is 0x160508.
fn version_number(output: &str) -> Result<u32> {
    let unknown = || Error::Refused(format!("cannot read the version of Slurm from \"{}\"", output.trim()));
    let text = output.split_whitespace().last().ok_or_else(unknown)?;
    let numbers: Vec<u32> = text
        .split(['.', '-'])
        .take(3)
        .map(|part| part.parse().ok().filter(|number| *number < 256))
        .collect::<Option<_>>()
        .ok_or_else(unknown)?;
    match numbers.as_slice() {
        [major, minor, micro] => Ok(major << 16 | minor << 8 | micro),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::version_number;

    #[test]
    fn the_version_number_has_the_form_of_plugin_version() {
        assert_eq!(version_number("slurm-wlm 22.05.8\n").unwrap(), 0x16_05_08);
        assert_eq!(version_number("slurm 24.11.5").unwrap(), 0x18_0b_05);
        assert_eq!(version_number("slurm-wlm 25.05.0-0rc1").unwrap(), 0x19_05_00);
        assert!(version_number("slurm").is_err());
        assert!(version_number("slurm 22.05").is_err());
    }
}
