// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two ways to log in: through a PAM stack without sshd, which shows its return code, and by real ssh.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use testbed::site::command::CommandOutcome;
use testbed::{Error, Result, Site};

pub(crate) const PROGRAM: &str = "/usr/local/bin/pam_driver";
/// The directory of PAM stacks that contain only the module.
pub(crate) const STACKS: &str = "/etc/pam-module-only";
/// The stack of the service `sshd`, which the module accepts.
const STACK: &str = "auth required pam_mytoken.so\naccount required pam_mytoken.so\n";

/// The result of a PAM stack.
pub(crate) struct PamResult {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) packets: Option<u32>,
}

/// The program `pam_driver` in a site.
pub(crate) struct Driver;

impl Driver {
    pub(crate) fn build(site: &Site) -> Result<Self> {
        let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pam_driver");
        let sources = ["pam_driver.c", "process_state.c", "memory_scan.c"].map(|name| sources.join(name));
        // By soname: the development package with libpam.so may be missing.
        install_compiled(site, PROGRAM, &sources, &["-O1", "-g", "-pthread"], &["-l:libpam.so.0"])?;
        site.write(&format!("{STACKS}/sshd"), STACK, "0644")?;
        Ok(Self)
    }

    pub(crate) fn authenticate(&self, site: &Site, user: &str, answers: &[String]) -> Result<PamResult> {
        self.run(site, &[STACKS, "sshd", user], answers)
    }

    pub(crate) fn run(&self, site: &Site, arguments: &[&str], answers: &[String]) -> Result<PamResult> {
        let argv = [&[PROGRAM], arguments].concat();
        let outcome = site.command("root", argv).stdin(terminated(answers)).run()?.ok()?;
        parse_result(outcome.stdout + &outcome.stderr)
    }

    /// The same in a network of its own, which no packet leaves. Counts all packets.
    pub(crate) fn authenticate_without_network(
        &self,
        site: &Site,
        user: &str,
        answers: &[String],
    ) -> Result<PamResult> {
        parse_result(run_and_count_packets(site, &format!("{PROGRAM} {STACKS} sshd {user}"), answers)?)
    }
}

/// Runs `program` in a network of its own and returns its output, followed by `packets N`: the number of packets that
/// it sent by IPv4 and IPv6. All addresses are local there, so that no packet fails for lack of a route.
pub(crate) fn run_and_count_packets(site: &Site, program: &str, answers: &[String]) -> Result<String> {
    let script = format!(
        r#"set -e
ip link set lo up
ip -4 route add local default dev lo
v6=/proc/net/snmp6
if [ -e $v6 ]; then ip -6 route add local default dev lo; else v6=; fi
sent() {{
  awk '$1=="Ip:" {{ if (!column) {{ for (i = 1; i <= NF; i++) if ($i == "OutRequests") column = i }} else sum += $column }}
       $1=="Ip6OutRequests" {{ sum += $2 }}
       END {{ print sum + 0 }}' /proc/net/snmp $v6
}}
before=$(sent)
{program} || true
echo "packets $(($(sent) - before))""#
    );
    let argv = ["unshare", "--net", "sh", "-c", &script];
    Ok(site.command("root", argv).stdin(terminated(answers)).run()?.ok()?.stdout)
}

/// The number of packets in the output of [`run_and_count_packets`].
pub(crate) fn packets(output: &str) -> Option<u32> {
    number_after(output, "packets ").and_then(|count| u32::try_from(count).ok())
}

/// Compiles these sources with `cc` on this machine and installs the result in the site as `path`.
pub(crate) fn install_compiled(
    site: &Site,
    path: &str,
    sources: &[PathBuf],
    options: &[&str],
    libraries: &[&str],
) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| Error::Refused(format!("a temporary folder: {error}")))?;
    let program = folder.path().join("compiled");
    let output = Command::new("cc").args(options).arg("-o").arg(&program).args(sources).args(libraries).output();
    let output = output.map_err(|error| Error::Refused(format!("cc: {error}")))?;
    if !output.status.success() {
        return Err(Error::Refused(format!("cc: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let bytes = std::fs::read(&program).map_err(|error| Error::Refused(format!("{}: {error}", program.display())))?;
    site.script("root", &format!("cat >{path} && chmod 755 {path}")).stdin(bytes).run()?.ok().map(drop)
}

fn number_after(output: &str, word: &str) -> Option<i32> {
    output.lines().find_map(|line| line.strip_prefix(word)).and_then(|rest| rest.trim().parse().ok())
}

pub(crate) fn terminated(answers: &[String]) -> String {
    answers.iter().map(|answer| format!("{answer}\0")).collect()
}

pub(crate) fn parse_result(output: String) -> Result<PamResult> {
    let code = number_after(&output, "code ");
    let code = code.ok_or_else(|| Error::Refused(format!("the driver printed no code:\n{output}")))?;
    let packets = packets(&output);
    Ok(PamResult { code, output, packets })
}

/// Runs ssh with an askpass that gives the next answer at each prompt, whatever the prompt says. Each call has its own
/// client address, because sshd blocks an address after several refusals.
pub(crate) fn ssh(site: &Site, user: &str, answers: &[String]) -> Result<CommandOutcome> {
    let destination = site.new_client()?.destination();
    ssh_with(
        site,
        user,
        answers,
        &format!("-o PreferredAuthentications=keyboard-interactive {destination} echo inside"),
    )
}

/// As [`ssh`], with these arguments of ssh.
pub(crate) fn ssh_with(site: &Site, user: &str, answers: &[String], arguments: &str) -> Result<CommandOutcome> {
    let dir = prepare_answers(site, user, answers)?;
    let command =
        format!("SSH_ASKPASS={dir}/ask SSH_ASKPASS_REQUIRE=force ssh -o NumberOfPasswordPrompts=1 {arguments}");
    site.sh(user, &command)
}

/// Makes a new directory in the user's home with a program `ask`, which gives the next answer each time, and returns it.
pub(crate) fn prepare_answers(site: &Site, user: &str, answers: &[String]) -> Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let dir = format!("/home/{user}/login.{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let setup = format!(
        "mkdir -p {dir} && cd {dir} && echo 0 >count && n=0 && \
         while IFS= read -r -d '' answer; do printf '%s\\n' \"$answer\" >a$n; n=$((n+1)); done; \
         printf '#!/bin/sh\\ncd {dir}; n=$(cat count); echo $((n+1)) >count; cat a$n 2>/dev/null; exit 0\\n' >ask; chmod 755 ask"
    );
    site.script(user, &setup).stdin(terminated(answers)).run()?.ok()?;
    Ok(dir)
}
