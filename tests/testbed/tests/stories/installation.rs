// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of an installation on a machine that boots systemd: service, reload, upgrade, downgrade, removal, reboot. A session and a
//! job are alive meanwhile, and other people log in.

use std::time::Duration;

use testbed::drive::jobs::Job;
use testbed::drive::machine::{Machine, machine_story, machine_story_with};
use testbed::drive::people::{self, Session};
use testbed::site::command::finish;
use testbed::site::packages;
use testbed::{Options, Result, Site, skip, wait};

use crate::built_packages::{
    EARLIER, PURGE, bring, bring_earlier_packages, bring_packages, difference, etc, login_by_key,
};

const APT: &str = "DEBIAN_FRONTEND=noninteractive apt-get -q -y";
const OURS: &str = "libpam-mytoken mytoken-sshd-config mytokend slurm-spank-mytoken mytoken-ssh mytoken-doc";

fn active(machine: &Machine<'_>) -> Result<()> {
    let state = machine.sh("systemctl is-active mytokend")?;
    let log = machine.sh("journalctl -u mytokend --no-pager -o cat -n 20")?.stdout;
    assert_eq!(state.stdout.trim(), "active", "{log}");
    Ok(())
}

/// What an administrator does after the installation, as README says.
fn set_up(site: &Site, machine: &Machine<'_>) -> Result<()> {
    site.configure_product()?;
    for command in [
        // An earlier commit does not know this key.
        "mytokend agent --check 2>/dev/null || sed -i '/^share_for/d' /etc/mytoken/jobs.toml",
        "systemctl reload ssh",
        "DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session",
        "ln -s /usr/share/mytoken/plugstack.conf /etc/slurm/plugstack.conf.d/mytoken.conf",
        "systemctl restart mytokend slurmd",
    ] {
        machine.sh(command)?.ok()?;
    }
    machine.wait_for_slurm()?;
    active(machine)
}

/// Installs the packages, and sets up what they need.
pub fn install(site: &Site, machine: &Machine<'_>) -> Result<()> {
    bring_packages(site)?;
    machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
    set_up(site, machine)
}

/// A session of alice by token, and a job of hers that calls a service each second.
struct Work {
    session: Session,
    job: u32,
}

impl Work {
    fn begin(site: &Site) -> Result<Self> {
        people::first_mytoken(site, "alice")?;
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed")?;
        let call = people::call("-s -o /dev/null -w '%{http_code}\\n'");
        let script = format!("cat >calls.sh <<'END'\n#!/bin/bash\nwhile sleep 1; do {call}; done >>calls\nEND");
        session.run(&script, Duration::from_secs(10))?.ok()?;
        let submitted = session.run("sbatch --mytoken=required calls.sh", Duration::from_secs(30))?;
        let job = Job::submitted("alice", &submitted)?.id;
        let mut work = Self { session, job };
        work.assert_alive("the start")?;
        Ok(work)
    }

    /// The session's service accepts its token, and the job has made another call since, as all its calls, with success.
    fn assert_alive(&mut self, after: &str) -> Result<()> {
        self.assert_session(after)?;
        let before = self.calls()?.len();
        let calls = wait::until("the next calls of the job", Duration::from_secs(30), || {
            let calls = self.calls()?;
            Ok((calls.len() > before + 1).then_some(calls))
        })?;
        assert!(calls.iter().all(|code| code == "200"), "the job after {after}: {calls:?}");
        Ok(())
    }

    fn assert_session(&mut self, after: &str) -> Result<()> {
        let session = self.session.run(&people::call("-s -o /dev/null -w '%{http_code}'"), Duration::from_secs(20))?;
        assert_eq!(session.stdout, "200", "the session after {after}");
        Ok(())
    }

    /// A new session and a new job, instead of those that an agent did not know any more.
    fn begin_again(&mut self, site: &Site) -> Result<()> {
        self.session.run(&format!("scancel {}; rm -f calls", self.job), Duration::from_secs(20))?.ok()?;
        std::mem::replace(self, Self::begin(site)?).session.close()
    }

    /// A new job starts too; one with a token has it. Each with a token costs the server three requests of its limit.
    fn assert_jobs_start(&mut self, with_token: bool, after: &str) -> Result<()> {
        let token = if with_token { "--mytoken=required" } else { "" };
        let begun = format!("srun -Q {token} sh -c 'test -s \"$BEARER_TOKEN_FILE\" && echo with; echo ran'");
        let job = self.session.run(&begun, Duration::from_secs(40))?;
        assert!(job.success() && job.stdout.ends_with("ran\n"), "a new job after {after}: {job:?}");
        // The session's mytoken lives for a day, and the plugin says that a job may live longer.
        let printed: Vec<&str> =
            job.stdout.lines().filter(|line| !line.contains("this job's credential ends")).collect();
        assert!(!with_token || printed == ["with", "ran"], "a new job after {after}: {job:?}");
        Ok(())
    }

    fn calls(&mut self) -> Result<Vec<String>> {
        let calls = self.session.run("cat calls", Duration::from_secs(10))?.stdout;
        Ok(calls.lines().map(str::to_owned).collect())
    }

    /// Cancels the job, waits until its mytoken is revoked, and logs out.
    fn end(mut self) -> Result<()> {
        let job = self.job;
        self.session.run(&format!("scancel {job}"), Duration::from_secs(20))?.ok()?;
        wait::until("the end of the job's credential", Duration::from_secs(60), || {
            let status = self.session.run(&format!("mytokenctl status {job}"), Duration::from_secs(20))?.stdout;
            Ok(status.contains("ended, revoked").then_some(()))
        })?;
        self.session.close()
    }
}

/// People log in every few seconds for as long as the story takes, on a slow machine more often than the limit of requests allows.
fn busy() -> Result<Options> {
    Ok(Options { request_limit: "", ..Options::new()? })
}

/// Logs in again and again while `body` runs, by key and by token. No login may fail.
fn while_people_log_in(site: &Site, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let again = |login: &str, pause: &str| {
        format!("touch busy; while test -e busy; do {login} 2>&1 || echo FAILED; sleep {pause}; done")
    };
    let spawn = |user, script: &str| site.script(user, script).timeout(Duration::from_secs(300)).spawn();
    let key = spawn("bob", &again("ssh -o BatchMode=yes -i .ssh/site_key testbed echo bob is in", "0.2"))?;
    let token = spawn("carol", &again("mytoken-ssh ssh testbed echo carol is in", "3"))?;
    let done = body();
    site.sh("root", "rm -f /home/bob/busy /home/carol/busy")?.ok()?;
    for (child, least) in [(key, 20), (token, 3)] {
        let logins = finish(child)?.stdout;
        let good = logins.lines().filter(|line| line.ends_with("is in")).count();
        assert!(good >= least && !logins.contains("FAILED"), "{good} logins:\n{logins}");
    }
    done
}

/// A machine with an earlier version and people at work goes through everything that an administrator does to it but removal. The
/// packages are in /root/earlier and /root/packages.
///
/// `reads_leases`: whether the earlier version reads the leases of jobs that the present one stored.
fn upgrade_and_downgrade(site: &Site, machine: &Machine<'_>, reads_leases: bool) -> Result<()> {
    machine.sh(&format!("{APT} install /root/earlier/*.deb"))?.ok()?;
    set_up(site, machine)?;
    people::first_mytoken(site, "carol")?;
    let mut work = Work::begin(site)?;
    let version = || Ok::<_, testbed::Error>(machine.sh("dpkg-query -W -f '${Version}' mytokend")?.stdout);
    assert_eq!(version()?, EARLIER);
    while_people_log_in(site, || {
        for (step, command) in [
            ("restart", "systemctl restart mytokend"),
            ("reload", "systemctl reload mytokend"),
            ("upgrade", &format!("{APT} install /root/packages/*.deb")),
            ("refused downgrade", &format!("! {APT} install /root/earlier/*.deb")),
            ("reinstallation", &format!("{APT} install --reinstall /root/packages/*.deb")),
            ("downgrade", &format!("{APT} install --allow-downgrades /root/earlier/*.deb")),
            ("second upgrade", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb"),
            ("crash", "kill -KILL $(systemctl show --property MainPID --value mytokend) && sleep 4"),
            ("restart of Slurm", "systemctl restart slurmctld slurmd"),
        ] {
            machine.sh(command)?.ok()?;
            active(machine)?;
            let is_earlier = version()? == EARLIER;
            assert_eq!(is_earlier, ["restart", "reload", "downgrade"].contains(&step), "after {step}");
            if step == "downgrade" && !reads_leases {
                // It removes such leases, and the job's access token with them.
                work.assert_session(step)?;
                work.begin_again(site)?;
            }
            work.assert_alive(step)?;
            work.assert_jobs_start(["upgrade", "downgrade"].contains(&step), step)?;
        }
        Ok(())
    })?;
    assert_eq!(machine.sh("dpkg --verify; systemctl --failed --no-legend")?.stdout, "");
    // sshd refuses connections for a moment when it restarts; its sessions stay.
    machine.sh("systemctl restart ssh")?.ok()?;
    login_by_key(site)?;
    work.assert_alive("restart of sshd")?;
    work.end()
}

#[test]
fn sessions_jobs_and_logins_live_through_restart_upgrade_downgrade_and_a_crash() -> Result<()> {
    machine_story_with(busy()?, |site, machine| {
        bring_packages(site)?;
        bring_earlier_packages(site)?;
        upgrade_and_downgrade(site, machine, true)
    })
}

#[test]
fn sessions_jobs_and_logins_live_through_an_upgrade_from_an_earlier_commit_and_back() -> Result<()> {
    let Some(earlier) = packages::earlier() else {
        return skip("there are no packages of an earlier commit; run `make earlier` in a clone with its history");
    };
    machine_story_with(busy()?, |site, machine| {
        bring_packages(site)?;
        bring(site, &earlier, "/root/earlier")?;
        upgrade_and_downgrade(site, machine, false)
    })
}

#[test]
fn agent_logins_and_jobs_are_back_after_a_reboot() -> Result<()> {
    machine_story(|site, machine| {
        install(site, machine)?;
        // A job that waits keeps its credential, which only the cluster's key opens.
        people::first_mytoken(site, "alice")?;
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed")?;
        let call = people::call("-s -o /dev/null -w '%{http_code}'");
        let script = format!("cat >waiting.sh <<'END'\n#!/bin/bash\n{call}\nEND");
        session.run(&script, Duration::from_secs(10))?.ok()?;
        let submitted = session.run("sbatch --hold --mytoken=required waiting.sh", Duration::from_secs(30))?;
        let waiting = Job::submitted("alice", &submitted)?.id;
        session.close()?;

        machine.reboot()?;
        active(machine)?;
        machine.wait_for_slurm()?;
        machine.sh(&format!("scontrol release {waiting}"))?.ok()?;
        wait::until("the token of the job that waited", Duration::from_secs(60), || {
            Ok((site.sh("alice", &format!("cat slurm-{waiting}.out"))?.stdout == "200").then_some(()))
        })?;
        Work::begin(site)?.end()
    })
}

#[test]
fn removal_spares_sessions_and_jobs_reinstallation_serves_them_again_and_purge_leaves_nothing() -> Result<()> {
    machine_story(|site, machine| {
        let before = etc(site)?;
        install(site, machine)?;
        let mut work = Work::begin(site)?;

        machine.sh(&format!("{APT} remove {OURS}"))?.ok()?;
        assert!(!machine.sh("systemctl is-active mytokend")?.success());
        login_by_key(site)?;
        // The other services start without us, and what ran goes on.
        machine.sh("sshd -t && systemctl restart ssh slurmctld slurmd")?.ok()?;
        login_by_key(site)?;
        work.assert_alive("removal")?;
        let job = work.session.run("srun -Q echo ran", Duration::from_secs(40))?;
        assert_eq!(job.stdout, "ran\n", "a job without token after the removal");
        let login = site.sh("bob", "ssh -o BatchMode=yes -i .ssh/site_key testbed 'echo $BEARER_TOKEN_FILE'")?.ok()?;
        assert_eq!(login.stdout, "\n");

        machine.sh(&format!("{APT} install /root/packages/*.deb"))?.ok()?;
        // The configuration was still there, so the agent starts by itself, and knows its sessions and jobs.
        active(machine)?;
        work.assert_alive("reinstallation")?;
        let status = work.session.run("mytokenctl status", Duration::from_secs(20))?.ok()?.stdout;
        assert!(status.contains(&format!("JOB {}", work.job)) && status.contains("SESSION"), "{status}");
        machine.sh("systemctl reload ssh && systemctl restart slurmd")?.ok()?;
        work.end()?;

        machine.sh(PURGE)?.ok()?;
        login_by_key(site)?;
        machine.sh("sshd -t && systemctl restart ssh slurmd")?.ok()?;
        login_by_key(site)?;
        // The administrator's own files stay, and nothing else.
        let after = etc(site)?;
        let left = difference(&before, &after);
        let own = |line: &&str| {
            line.starts_with("./mytoken/") || line.starts_with("./slurm/plugstack.conf.d/mytoken.conf -> ")
        };
        assert!(!left.is_empty() && left.iter().all(own), "{left:#?}");
        let find = "find / -xdev -name '*mytoken*' -not -path '/root/*' -not -path '/home/*' -not -path '/etc/*'";
        assert_eq!(site.sh("root", find)?.ok()?.stdout, "");
        assert_eq!(machine.sh("dpkg --verify; systemctl --failed --no-legend")?.stdout, "");

        machine.sh(&format!("{APT} install /root/packages/*.deb"))?.ok()?;
        active(machine)?;
        login_by_key(site)
    })
}

#[test]
fn a_reload_with_a_broken_configuration_fails_and_changes_nothing() -> Result<()> {
    machine_story(|site, machine| {
        install(site, machine)?;
        machine.sh("echo 'audience_typo = 1' >>/etc/mytoken/mytoken.toml")?.ok()?;
        let reload = machine.sh("systemctl reload mytokend")?;
        assert!(!reload.success(), "{reload:?}");
        let log = machine.sh("journalctl -u mytokend --no-pager -o cat")?.stdout;
        assert!(log.contains("unknown key \"audience_typo\""), "{log}");
        active(machine)
    })
}

#[test]
fn without_configuration_the_service_is_inactive_and_nothing_has_failed() -> Result<()> {
    machine_story(|site, machine| {
        bring_packages(site)?;
        machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        assert_eq!(machine.sh("systemctl is-active mytokend")?.stdout.trim(), "inactive");
        assert_eq!(machine.sh("systemctl --failed --no-legend")?.stdout, "");
        machine.sh(PURGE)?.ok()?;
        assert_eq!(
            machine.sh("systemctl --failed --no-legend; systemctl list-unit-files --no-legend 'mytoken*'")?.stdout,
            ""
        );
        Ok(())
    })
}

/// What hardening.md says of agent and broker with a release of systemd: in its row, else in that of the newest release before it.
fn written_exposure(version: &str) -> [&'static str; 2] {
    let number = |text: &str| text.split([' ', '.', '~']).next().and_then(|number| number.parse::<u32>().ok());
    let page = include_str!("../../../../docs/admin/hardening.md");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split('|').map(str::trim);
        Some((number(cells.next()?)?, [cells.next()?, cells.next()?]))
    });
    let known = rows.filter(|(release, _)| number(version).is_some_and(|version| *release <= version));
    known.max_by_key(|(release, _)| *release).map(|(_, row)| row).unwrap_or_default()
}

#[test]
fn the_units_pass_systemds_own_checks() -> Result<()> {
    machine_story(|site, machine| {
        bring_packages(site)?;
        machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        let version = machine.sh("systemctl --version | head -n 1 | cut -d ' ' -f 2")?.ok()?.stdout;
        let [agent, broker] = written_exposure(version.trim());
        for (unit, written) in [("mytokend.service", agent), ("mytokend-broker.service", broker)] {
            let verified = machine.sh(&format!("systemd-analyze verify --man=no {unit}"))?;
            assert!(verified.success() && verified.stderr.is_empty(), "{verified:?}");
            // "→ Overall exposure level for mytokend.service: 2.6 OK"; 10 is the worst.
            let exposure = |of: &str| -> Result<String> {
                let said = machine.sh(&format!("systemd-analyze security --no-pager {of} | tail -n 1"))?.ok()?.stdout;
                let level = said.split_whitespace().find(|word| word.parse::<f64>().is_ok());
                Ok(level.unwrap_or(&said).to_owned())
            };
            let file = format!("--offline=true /usr/lib/systemd/system/{unit}");
            assert_eq!(exposure(&file)?, written, "hardening.md is wrong about {unit} and systemd {version}");
            let tenths = |level: &str| level.replace('.', "").parse::<i32>().unwrap_or(i32::MIN / 2);
            let loaded = exposure(unit)?;
            assert!(tenths(&loaded) - tenths(written) <= 1, "{unit}: {loaded}, written is {written}");
        }
        Ok(())
    })
}
