// SPDX-License-Identifier: MIT OR Apache-2.0
//! Three configurations of Slurm that differ in their plugins only, side by side in one site. A command chooses by `SLURM_CONF`.

use std::process::{Command, Stdio};

use super::laps::Step;
use crate::error::Trying;
use crate::{Error, Result, Site};

const PLUGIN_SOURCE: &str = include_str!("empty_plugin.c");

/// Plugins that Slurm loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stack {
    /// None.
    None,
    /// One in C whose hooks return at once.
    Empty,
    /// The product's.
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

    fn directory(self) -> String {
        format!("/etc/bench/{}", self.name())
    }

    /// Lets a command use this stack.
    pub(super) fn of(self, step: Step) -> Step {
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

/// Gives a node the stack: slurmd and the steps there read the file of the node's own mount namespace.
pub(super) fn give(site: &Site, node: &str, stack: Stack) -> Result<()> {
    let file = "/etc/slurm/plugstack.conf";
    let mount = format!("umount {file} 2>/dev/null; mount --bind {}/plugstack.conf {file}", stack.directory());
    site.on_node(node, &mount)?.ok().map(drop)
}

/// A bench that compares nothing with nothing would look good: our plugin shows itself by its option, nobody's load complains.
fn check(site: &Site, stack: Stack) -> Result<()> {
    let told =
        site.command("alice", ["sbatch", "--help"]).env("SLURM_CONF", &format!("{}/slurm.conf", stack.directory()));
    let told = told.run()?.ok()?;
    if told.stdout.contains("--mytoken") == (stack == Stack::Ours) && told.stderr.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!("the plugin stack \"{}\" is not what it should be: {}", stack.name(), told.stderr)))
}

fn install_empty_plugin(site: &Site) -> Result<()> {
    let version = site.sh("root", "sbatch --version")?.ok()?.stdout;
    let directory = site.sh("root", "dirname /usr/lib/*/slurm-wlm/spank_mytoken.so")?.ok()?.stdout;
    let built = tempfile::NamedTempFile::new().trying(|| "a temporary file".into())?;
    let source = tempfile::Builder::new().suffix(".c").tempfile().trying(|| "a temporary file".into())?;
    std::fs::write(source.path(), PLUGIN_SOURCE).trying(|| format!("writing {}", source.path().display()))?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-Os", "-s"])
        .arg(format!("-DSLURM_VERSION={}", version_number(&version)?))
        .arg("-o")
        .args([built.path(), source.path()])
        .stdin(Stdio::null())
        .output()
        .trying(|| "starting cc".into())?;
    if !output.status.success() {
        return Err(Error::Refused(format!("cc: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let bytes = std::fs::read(built.path()).trying(|| format!("reading {}", built.path().display()))?;
    let write = format!("cat >{0}/spank_empty.so && chmod 644 {0}/spank_empty.so", directory.trim());
    site.script("root", &write).stdin(bytes).run()?.ok().map(drop)
}

/// Slurm's number for what `sbatch --version` says: "slurm-wlm 22.05.8" is 0x160508.
fn version_number(said: &str) -> Result<u32> {
    let unknown = || Error::Refused(format!("what version of Slurm is \"{}\"?", said.trim()));
    let text = said.split_whitespace().last().ok_or_else(unknown)?;
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
    fn slurms_version_as_its_plugins_carry_it() {
        assert_eq!(version_number("slurm-wlm 22.05.8\n").unwrap(), 0x16_05_08);
        assert_eq!(version_number("slurm 24.11.5").unwrap(), 0x18_0b_05);
        assert_eq!(version_number("slurm-wlm 25.05.0-0rc1").unwrap(), 0x19_05_00);
        assert!(version_number("slurm").is_err());
        assert!(version_number("slurm 22.05").is_err());
    }
}
