// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages of `make arm64`, with sshd and Slurm for arm64, on amd64: qemu-user runs them. The test servers are native.

use std::process::Command;
use std::time::Duration;

use testbed::drive::{askpass, tokens};
use testbed::site::packages;
use testbed::{Error, Options, Release, Result, Site, can_emulate, has_program, skip, story};

/// A login by the prompt of PAM.
const BY_PROMPT: &str =
    "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed id -un";

// The session of such a login has no token: qemu-user itself answers a program that reads its own start time from /proc, with another
// time than other processes see, so that sshd's monitor is not the process for which its child keeps the token.

/// The programs and modules, as the packages install them.
const FILES: [&str; 6] = [
    "/usr/bin/mytoken-ssh",
    "/usr/bin/mytokenctl",
    "/usr/sbin/mytokend",
    "/usr/libexec/mytoken/mytoken-submit",
    "/usr/lib/aarch64-linux-gnu/security/pam_mytoken.so",
    "/usr/lib/aarch64-linux-gnu/slurm-wlm/spank_mytoken.so",
];

/// Runs a story in an emulated site with the packages, or records why it cannot.
fn emulated(body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    match can_emulate() {
        Err(error @ Error::Impossible(_)) => return skip(&error.to_string()),
        other => other?,
    }
    if packages::built_for_arm64().is_none() {
        return skip("there are no packages for arm64; run `make arm64`");
    }
    let options = Options { emulated: true, release: Release::Trixie, nodes: 1, ..Options::new()? };
    if options.foreign.is_some() {
        return skip("it needs the site's own test server");
    }
    story(options, body)
}

#[test]
fn programs_for_arm64_start_and_check_the_site() -> Result<()> {
    emulated(|site| {
        for file in FILES.into_iter().chain(["/usr/sbin/sshd", "/usr/bin/srun", "/usr/sbin/slurmd"]) {
            // The machine in the header of an ELF file: 183 is EM_AARCH64.
            let machine = site.sh("root", &format!("od -An -j18 -N2 -tu2 {file}"))?.ok()?.stdout;
            assert_eq!(machine.trim(), "183", "{file}");
        }
        for program in &FILES[..4] {
            let answer = site.sh("alice", &format!("{program} --version"))?.ok()?.stdout;
            assert!(answer.trim().ends_with(env!("CARGO_PKG_VERSION")), "{program}: {answer}");
        }
        site.sh("root", "mytokend agent --check")?.ok()?;
        let check = site.script("root", "mytokenctl check").timeout(Duration::from_secs(180)).run()?;
        assert!(check.code == 0 || check.code == 1, "{check:?}");
        Ok(())
    })
}

#[test]
fn sshd_for_arm64_loads_the_module_and_asks_for_a_token() -> Result<()> {
    emulated(|site| {
        let token = tokens::access_token(site, "alice")?;
        let login = askpass::run_with_answers(site, "alice", &[&token], BY_PROMPT)?.ok()?;
        assert_eq!(login.stdout.trim(), "alice", "{login:?}");
        let refused = askpass::run_with_answers(site, "alice", &["aaaaaaaa.bbbbbbbb.cccccccc"], BY_PROMPT)?;
        assert!(!refused.success(), "{refused:?}");
        assert!(refused.stderr.starts_with("opaque access tokens are not accepted here;"), "{refused:?}");
        Ok(())
    })
}

#[test]
fn slurm_for_arm64_loads_the_plugin_and_the_job_has_a_token() -> Result<()> {
    emulated(|site| {
        let help = site.sh("alice", "srun --help")?.ok()?.stdout;
        assert!(help.contains("--mytoken"), "{help}");
        tokens::store(site, "alice", &tokens::mytoken(site, "alice", &serde_json::json!({}))?)?;
        // An emulated agent may need longer than the plugin waits for the token before the job begins.
        let job = "srun --mytoken bash -c 'until [ -s $BEARER_TOKEN_FILE ]; do sleep 0.2; done; cut -c1-3 $BEARER_TOKEN_FILE'";
        let job = site.script("alice", job).timeout(Duration::from_secs(120)).run()?.ok()?;
        assert_eq!(job.stdout.trim(), "eyJ", "{job:?}");
        Ok(())
    })
}

#[test]
fn packages_for_arm64_say_so_and_lintian_has_no_complaint() -> Result<()> {
    let Some(packages) = packages::built_for_arm64() else {
        return skip("there are no packages for arm64; run `make arm64`");
    };
    if !has_program("lintian") {
        return skip("lintian is not installed");
    }
    let mut architectures = Vec::new();
    for package in &packages {
        let output = Command::new("dpkg-deb").arg("--field").arg(package).arg("Architecture").output();
        let output = output.map_err(|source| Error::Io { what: "running dpkg-deb".into(), source })?;
        architectures.push(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    architectures.sort();
    assert_eq!(architectures, ["all", "all", "arm64", "arm64", "arm64", "arm64"], "{packages:#?}");
    let output = Command::new("lintian").args(["--no-cfg", "--fail-on", "error,warning"]).args(&packages).output();
    let output = output.map_err(|source| Error::Io { what: "running lintian".into(), source })?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
