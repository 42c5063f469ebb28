// SPDX-License-Identifier: MIT OR Apache-2.0
//! A site whose Slurm loads `probe.c`, and the calls that the plugin recorded.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::{Error, Options, Release, Result, Site, story};

pub(crate) const PLUGIN: &str = "/usr/local/lib/spank_probe.so";

pub(crate) fn without_product() -> Result<Options> {
    Ok(Options { nodes: 1, product: false, foreign: None, ..Options::new()? })
}

/// Compiles the plugin for the Slurm of this release.
pub(crate) fn compile(release: Release) -> Result<Vec<u8>> {
    let version = match release {
        Release::Bookworm => "0x160500",
        Release::Trixie => "0x180b00",
        Release::Sid => "0x1a0500",
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories/facts/probe.c");
    let folder = tempfile::tempdir().map_err(|error| Error::Refused(error.to_string()))?;
    let library = folder.path().join("probe.so");
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-D_GNU_SOURCE", &format!("-DVERSION={version}"), "-o"])
        .args([&library, &source])
        .output()
        .map_err(|error| Error::Refused(format!("cc: {error}")))?;
    if !compiler.status.success() {
        return Err(Error::Refused(String::from_utf8_lossy(&compiler.stderr).into_owned()));
    }
    std::fs::read(library).map_err(|error| Error::Refused(error.to_string()))
}

/// A story in a site whose plugstack.conf has this line. In the line `probe` stands for `PLUGIN`.
pub(crate) fn with_probe(line: &str, options: Options, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let release = options.release;
    story(options, |site| {
        let library = compile(release)?;
        site.script("root", &format!("cat >{PLUGIN}; touch /var/probe; chmod 666 /var/probe"))
            .stdin(library)
            .run()?
            .ok()?;
        configure(site, line)?;
        // SLURM-04: slurmd checks for an epilog only when it starts.
        restart_slurmd(site)?;
        clear_calls(site)?;
        body(site)
    })
}

pub(crate) fn configure(site: &Site, line: &str) -> Result<()> {
    site.write("/etc/slurm/plugstack.conf", &format!("{}\n", line.replace("probe", PLUGIN)), "0644")
}

pub(crate) fn restart_slurmd(site: &Site) -> Result<()> {
    for node in site.nodes() {
        site.stop(&format!("slurmd.{node}"), "TERM")?;
        site.restart(&format!("slurmd.{node}"))?;
    }
    let idle = "sinfo -h -N -o %T | grep -vx idle && exit 1; true";
    site.wait_for("idle nodes", Duration::from_secs(30), "root", idle).map(drop)
}

pub(crate) fn clear_calls(site: &Site) -> Result<()> {
    site.sh("root", "truncate -s0 /var/probe")?.ok().map(drop)
}

/// Runs a job of alice, waits for the end of its epilog, and returns the job's output.
pub(crate) fn run_job(site: &Site, options: &str, script: &str) -> Result<String> {
    let submission = format!(
        "cat >job.sh; rm -f job.out; id=$(sbatch --parsable -o job.out {options} job.sh) || exit 9
         while squeue -h -j $id 2>/dev/null | grep -q .; do sleep 0.1; done; cat job.out"
    );
    Ok(site.script("alice", &submission).stdin(format!("#!/bin/sh\n{script}\n")).run()?.ok()?.stdout)
}

/// A recorded call of a hook.
pub(crate) struct Call(String);

impl Call {
    fn is_of(&self, hook: &str) -> bool {
        self.0.split(' ').next() == Some(hook)
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap_or("")
    }
}

pub(crate) fn calls(site: &Site, hook: &str) -> Result<Vec<Call>> {
    let recorded = site.read("/var/probe")?;
    Ok(recorded.lines().map(|line| Call(line.to_owned())).filter(|call| call.is_of(hook)).collect())
}
