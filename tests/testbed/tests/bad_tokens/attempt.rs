// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two ways to try a login: the PAM stack alone, for its return code, and real ssh.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use testbed::site::command::CommandOutcome;
use testbed::{Error, Result, Site};

const INSIDE: &str = "/usr/local/bin/pam_driver";
/// Stacks of the module alone.
pub(crate) const LONE: &str = "/etc/pam-lone";
/// The stack under a service name that the module accepts.
const STACK: &str = "auth required pam_mytoken.so\naccount required pam_mytoken.so\n";

/// The answer of a PAM stack.
pub(crate) struct PamAnswer {
    pub(crate) code: i32,
    pub(crate) said: String,
    pub(crate) packets: Option<u32>,
}

/// The program `pam_driver` in a site.
pub(crate) struct Driver;

impl Driver {
    pub(crate) fn build(site: &Site) -> Result<Self> {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bad_tokens/pam_driver.c");
        let folder = tempfile::tempdir().map_err(|error| Error::Refused(format!("a temporary folder: {error}")))?;
        let program = folder.path().join("pam_driver");
        // By soname: the development package with libpam.so may be missing.
        let output = Command::new("cc").arg("-o").arg(&program).arg(&source).arg("-l:libpam.so.0").output();
        let output = output.map_err(|error| Error::Refused(format!("cc: {error}")))?;
        if !output.status.success() {
            return Err(Error::Refused(format!("cc: {}", String::from_utf8_lossy(&output.stderr))));
        }
        let bytes =
            std::fs::read(&program).map_err(|error| Error::Refused(format!("{}: {error}", program.display())))?;
        site.script("root", &format!("cat >{INSIDE} && chmod 755 {INSIDE}")).stdin(bytes).run()?.ok()?;
        site.write(&format!("{LONE}/sshd"), STACK, "0644")?;
        Ok(Self)
    }

    pub(crate) fn authenticate(&self, site: &Site, user: &str, answers: &[String]) -> Result<PamAnswer> {
        self.run(site, &[LONE, "sshd", user], answers)
    }

    pub(crate) fn run(&self, site: &Site, arguments: &[&str], answers: &[String]) -> Result<PamAnswer> {
        let argv = [&[INSIDE], arguments].concat();
        let outcome = site.command("root", argv).stdin(terminated(answers)).run()?.ok()?;
        seen(outcome.stdout + &outcome.stderr)
    }

    /// The same in a network of its own, in which all packets are counted and none leaves.
    pub(crate) fn authenticate_without_network(
        &self,
        site: &Site,
        user: &str,
        answers: &[String],
    ) -> Result<PamAnswer> {
        seen(counted(site, &format!("{INSIDE} {LONE} sshd {user}"), answers)?)
    }
}

/// The output of `program` in a network of its own, and `packets N`: the number of packets that it sent, by IPv4 and
/// IPv6.
/// All addresses are local there, so that no packet fails for lack of a route.
pub(crate) fn counted(site: &Site, program: &str, answers: &[String]) -> Result<String> {
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

/// The number of packets in the output of [`counted`].
pub(crate) fn packets(said: &str) -> Option<u32> {
    number(said, "packets ").and_then(|count| u32::try_from(count).ok())
}

fn number(said: &str, word: &str) -> Option<i32> {
    said.lines().find_map(|line| line.strip_prefix(word)).and_then(|rest| rest.trim().parse().ok())
}

fn terminated(answers: &[String]) -> String {
    answers.iter().map(|answer| format!("{answer}\0")).collect()
}

fn seen(said: String) -> Result<PamAnswer> {
    let code = number(&said, "code ").ok_or_else(|| Error::Refused(format!("the driver gave no code:\n{said}")))?;
    let packets = packets(&said);
    Ok(PamAnswer { code, said, packets })
}

/// An ssh with an askpass that gives one answer per prompt, whatever is asked; each time from another address,
/// because sshd blocks one with several refusals.
pub(crate) fn ssh(site: &Site, user: &str, answers: &[String]) -> Result<CommandOutcome> {
    let destination = site.new_client()?.destination();
    ssh_with(
        site,
        user,
        answers,
        &format!("-o PreferredAuthentications=keyboard-interactive {destination} echo inside"),
    )
}

/// The same with these arguments of ssh.
pub(crate) fn ssh_with(site: &Site, user: &str, answers: &[String], arguments: &str) -> Result<CommandOutcome> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let dir = format!("/home/{user}/knock.{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let setup = format!(
        "mkdir -p {dir} && cd {dir} && echo 0 >count && n=0 && \
         while IFS= read -r -d '' answer; do printf '%s\\n' \"$answer\" >a$n; n=$((n+1)); done; \
         printf '#!/bin/sh\\ncd {dir}; n=$(cat count); echo $((n+1)) >count; cat a$n 2>/dev/null; exit 0\\n' >ask; chmod 755 ask"
    );
    site.script(user, &setup).stdin(terminated(answers)).run()?.ok()?;
    let command =
        format!("SSH_ASKPASS={dir}/ask SSH_ASKPASS_REQUIRE=force ssh -o NumberOfPasswordPrompts=1 {arguments}");
    site.sh(user, &command)
}
