// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands in the administrator guide and in the packages' README.Debian, word by word, on a machine with the packages.

use std::fs;
use std::time::Duration;

use testbed::drive::machine::{Machine, machine_story};
use testbed::drive::people::{self, Session};
use testbed::drive::{askpass, tokens};
use testbed::site::paths;
use testbed::site::servers::CA;
use testbed::{Error, Result, Site, wait};

use crate::built_packages::{EARLIER, bring_earlier_packages, bring_packages, difference, etc, login_by_key};
use crate::written::{Step, document, indented_steps, shell_steps};

const PAM: &str = "packaging/debian/libpam-mytoken.README.Debian";
const SLURM: &str = "packaging/debian/slurm-spank-mytoken.README.Debian";

/// The documents with commands, and where all of them are run; or why they are not.
const COMMANDS: &[(&str, &str)] = &[
    (PAM, "run by both_ways_of_the_module_and_the_ways_back"),
    (SLURM, "run by the_plugin_is_switched_on_and_off"),
    (
        "docs/admin/architectures.md",
        "not run: the cross build is a target of its own; the stories of arm64 install its packages",
    ),
    (
        "docs/admin/broker.md",
        "not run: they need several machines; the stories of broker run them on the hosts of a site",
    ),
    (
        "docs/admin/broker-operation.md",
        "not run: they need the files of a broker; a story of broker starts the unit and asks for its status",
    ),
    ("docs/admin/check.md", "run by the_plugin_is_switched_on_and_off"),
    (
        "docs/admin/container.md",
        "not run: nested containers have no processes of the host; the tests of portable run the image",
    ),
    ("docs/admin/install.md", "run by the_plugin_is_switched_on_and_off"),
    ("docs/admin/logs.md", "run by the story of fail2ban"),
    ("docs/admin/monitoring.md", "not run: they need a broker; the stories of broker read its metrics in this way"),
    ("docs/admin/motley-cue.md", "not run: no kernel of the tests has SELinux"),
    ("docs/admin/network.md", "run by both_ways_of_the_module_and_the_ways_back"),
    ("docs/admin/removal.md", "run by an_upgrade_and_a_removal"),
    ("docs/admin/selinux.md", "not run: no kernel of the tests has SELinux"),
    ("docs/admin/slurm.md", "run by the_plugin_is_switched_on_and_off"),
    ("docs/admin/upgrade.md", "run by an_upgrade_and_a_removal"),
    (
        "packaging/rpm/README.rpm",
        "not run: the tests have no system of Red Hat or SUSE; the tests of rpm install the packages",
    ),
];

const BY_PROMPT: &str =
    "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed id -un";
const PASSWORD: &str = "correct horse";

/// Runs a step as root in the directory with the packages, and agrees to the question of apt.
fn run(machine: &Machine<'_>, step: &str) -> Result<()> {
    let outcome = machine.sh_with_answers(&format!("cd /root/packages\n{step}"), "y\n")?;
    eprintln!("# {step}\n{}{}", outcome.stdout, outcome.stderr);
    if step.starts_with("mytokenctl check") && outcome.code == 1 {
        assert!(outcome.stdout.contains("\n0 errors"), "{outcome:?}");
        return Ok(());
    }
    outcome.ok().map(drop)
}

/// Runs all steps, with a login by key after each.
fn run_all(site: &Site, machine: &Machine<'_>, steps: &[Step]) -> Result<()> {
    assert!(!steps.is_empty(), "no steps were found");
    for step in steps {
        run(machine, &step.text)?;
        login_by_key(site)?;
    }
    Ok(())
}

/// The part of a text between two of its lines.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Result<&'a str> {
    let missing = || Error::Refused(format!("no text between \"{begin}\" and \"{end}\""));
    let rest = text.split_once(begin).ok_or_else(missing)?.1;
    if end.is_empty() { Ok(rest) } else { rest.split_once(end).map(|(part, _)| part).ok_or_else(missing) }
}

fn accepts(site: &Site, user: &str, answer: &str) -> Result<bool> {
    let login = askpass::run_with_answers(site, user, &[answer], BY_PROMPT)?;
    Ok(login.success() && login.stdout == format!("{user}\n"))
}

/// A machine with these packages and a configuration, nothing switched on.
fn prepare(site: &Site, machine: &Machine<'_>, packages: &str) -> Result<()> {
    bring_packages(site)?;
    machine.trust_the_servers()?;
    let files: String = packages.split(' ').map(|name| format!(" ./{name}_*.deb")).collect();
    machine.sh(&format!("cd /root/packages && DEBIAN_FRONTEND=noninteractive apt-get -q -y install{files}"))?.ok()?;
    site.configure_product()?;
    machine.sh(&format!("echo 'bob:{PASSWORD}' | chpasswd"))?.ok().map(drop)
}

/// A log line behind its prefix of time and process, with `#` for each number and fingerprint.
fn form(line: &str) -> String {
    let begin = ["pam_mytoken(", "job "].iter().filter_map(|mark| line.find(mark)).min().unwrap_or_default();
    let is_variable = |word: &str| {
        !word.is_empty()
            && (word.bytes().all(|byte| byte.is_ascii_digit())
                || [8, 32].contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let mut form = String::new();
    for word in line[begin..].split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
        let end = word.chars().next_back().filter(|letter| !letter.is_ascii_alphanumeric());
        let bare = end.map_or(word, |end| word.strip_suffix(end).unwrap_or(word));
        form.push_str(if is_variable(bare) { "#" } else { bare });
        form.extend(end);
    }
    form
}

/// Lines of docs/admin/logs.md about a login and a job without trouble, against those that a login and a job just wrote.
fn the_log_has_the_lines_of_the_page(machine: &Machine<'_>) -> Result<()> {
    let page = document("docs/admin/logs.md")?;
    let real = machine.sh("journalctl -b --no-pager -o cat -t mytokend -t sshd -t sshd-session")?.ok()?.stdout;
    let real: Vec<String> = real.lines().map(form).collect();
    for mark in [": accept ", ": session ", ": opened: ", ": started: ", ": removed: ", ": revoked: "] {
        let lines: Vec<&str> = page.lines().filter(|line| line.contains(mark)).collect();
        assert_eq!(lines.len(), 1, "lines of the page with {mark}");
        for line in lines {
            assert!(real.contains(&form(line)), "{}\nis none of {real:#?}", form(line));
        }
    }
    Ok(())
}

#[test]
fn both_ways_of_the_module_and_the_ways_back() -> Result<()> {
    let readme = document(PAM)?;
    let (first, second) =
        (between(&readme, "Way 1:", "Way 2:")?, between(&readme, "Way 2:", "What each step changes")?);
    machine_story(|site, machine| {
        prepare(site, machine, "libpam-mytoken mytokend mytoken-ssh")?;
        // A login host without jobs.
        machine.sh("rm -r /etc/mytoken/jobs.toml /etc/mytoken/keys")?.ok()?;
        run_all(site, machine, &indented_steps(between(&readme, "pam_mytoken on Debian", "Way 1:")?))?;
        let before = etc(site)?;
        let token = tokens::access_token(site, "bob")?;
        for (way, passwords) in [(first, true), (second, false)] {
            let (there, back) = (between(way, "\n", "\nBack")?, between(way, "\nBack", "")?);
            run_all(site, machine, &indented_steps(there))?;
            assert!(accepts(site, "bob", &token)?, "a token after {there}");
            assert!(!accepts(site, "bob", PASSWORD)?, "the password after {there}");
            // The text says what becomes of logins while the token service is out.
            machine.sh("mv /etc/mytoken/mytoken.toml /etc/mytoken/away")?.ok()?;
            let without = askpass::run_with_answers(site, "bob", &[PASSWORD, PASSWORD], BY_PROMPT)?;
            assert_eq!(without.stdout == "bob\n", passwords, "{without:?} {:?}", askpass::prompts(site, "bob")?);
            machine.sh("mv /etc/mytoken/away /etc/mytoken/mytoken.toml")?.ok()?;
            run_all(site, machine, &indented_steps(back))?;
            let left: Vec<String> = difference(&before, &etc(site)?).into_iter().map(str::to_owned).collect();
            assert_eq!(left, [""; 0], "left by {back}");
            assert!(!accepts(site, "bob", &token)?);
        }
        // docs/admin/network.md: the same authority, named in both ways.
        site.sh("root", &format!("cp {CA} /etc/ssl/certs/site-ca.pem; install -m 644 {CA} /home/alice/site-ca.pem"))?
            .ok()?;
        for step in shell_steps(&document("docs/admin/network.md")?) {
            if step.text.starts_with("mytoken-ssh login") {
                people::log_in_by_link(site, "alice", &step.text)?;
            } else {
                run(machine, &step.text)?;
            }
        }
        Ok(())
    })
}

#[test]
fn the_plugin_is_switched_on_and_off() -> Result<()> {
    let readme = document(SLURM)?;
    let (there, back) = (between(&readme, "\n", "\nBack")?, between(&readme, "\nBack", "When the package")?);
    machine_story(|site, machine| {
        prepare(site, machine, "mytokend slurm-spank-mytoken mytoken-ssh libpam-mytoken mytoken-sshd-config")?;
        machine
            .sh("rm -f /etc/mytoken/keys/* && systemctl restart ssh && \
                    DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session")?
            .ok()?;
        machine.wait_for_slurm()?;
        run_all(site, machine, &shell_steps(&document("docs/admin/slurm.md")?))?;
        let before = etc(site)?;
        run_all(site, machine, &indented_steps(there))?;
        machine.wait_for_slurm()?;
        run_all(site, machine, &shell_steps(&document("docs/admin/install.md")?))?;
        // The stories of check_nodes have other hosts for `--nodes`.
        let steps = shell_steps(&document("docs/admin/check.md")?);
        for step in steps.iter().filter(|step| !step.text.contains("--nodes")) {
            let monitored = machine.sh(&step.text)?.ok()?;
            assert!(monitored.stdout.is_empty() || monitored.stdout == "WARNING\n", "{monitored:?}");
        }

        people::first_mytoken(site, "alice")?;
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed")?;
        let limit = Duration::from_secs(60);
        let job = "srun -Q --mytoken=required sh -c 'test -s \"$BEARER_TOKEN_FILE\" && echo token'";
        // Before it, the plugin says that the credential ends with the session's mytoken.
        let printed = session.run(job, limit)?.stdout;
        assert_eq!(printed.lines().last(), Some("token"), "{printed}");
        wait::until("the end of the job's credential", limit, || {
            let log = machine.sh("journalctl -b --no-pager -o cat -t mytokend")?.stdout;
            Ok(log.contains(": revoked: ").then_some(()))
        })?;
        the_log_has_the_lines_of_the_page(machine)?;
        run_all(site, machine, &indented_steps(back))?;
        assert_eq!(difference(&before, &etc(site)?), [""; 0]);
        let refused = session.run(job, limit)?;
        assert!(!refused.success() && refused.stdout.contains("unrecognized option"), "{refused:?}");
        assert_eq!(session.run("srun -Q echo ran", limit)?.stdout, "ran\n");
        session.close()
    })
}

#[test]
fn an_upgrade_and_a_removal() -> Result<()> {
    machine_story(|site, machine| {
        bring_packages(site)?;
        bring_earlier_packages(site)?;
        machine.trust_the_servers()?;
        let before = etc(site)?;
        machine.sh("DEBIAN_FRONTEND=noninteractive apt-get -q -y install /root/earlier/*.deb")?.ok()?;
        site.configure_product()?;
        machine.sh("systemctl reload ssh && ln -s /usr/share/mytoken/plugstack.conf /etc/slurm/plugstack.conf.d/mytoken.conf && \
                    DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session && \
                    systemctl restart mytokend slurmd")?.ok()?;
        machine.wait_for_slurm()?;
        let version = || {
            Ok::<_, Error>(
                machine.sh("dpkg-query -W -f '${Version}' mytokend libpam-mytoken slurm-spank-mytoken")?.stdout,
            )
        };
        assert_eq!(version()?, EARLIER.repeat(3));
        run_all(site, machine, &shell_steps(&document("docs/admin/upgrade.md")?))?;
        assert!(!version()?.contains(EARLIER));
        let token = tokens::access_token(site, "bob")?;
        assert!(accepts(site, "bob", &token)?, "a token after the upgrade");

        run_all(site, machine, &shell_steps(&document("docs/admin/removal.md")?))?;
        assert_eq!(machine.sh("sshd -t && sinfo -h -o %T")?.ok()?.stdout, "idle\n");
        machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --purge mytoken-ssh mytoken-doc")?.ok()?;
        let left: Vec<String> = difference(&before, &etc(site)?).into_iter().map(str::to_owned).collect();
        assert!(!left.is_empty() && left.iter().all(|line| line.starts_with("./mytoken/")), "{left:#?}");
        assert_eq!(machine.sh("dpkg --verify; systemctl --failed --no-legend")?.stdout, "");
        Ok(())
    })
}

#[test]
fn every_document_with_commands_for_administrators_is_run_or_says_why_not() -> Result<()> {
    let repository = paths::repository();
    let mut found = Vec::new();
    for folder in ["docs/admin", "packaging/debian", "packaging/rpm"] {
        let entries = fs::read_dir(repository.join(folder));
        let entries = entries.map_err(|source| Error::Io { what: folder.to_owned(), source })?;
        for entry in entries.filter_map(std::result::Result::ok) {
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            let has_commands = match name.ends_with(".md") {
                true => !shell_steps(&document(&name)?).is_empty(),
                false => name.contains("README") && !indented_steps(&document(&name)?).is_empty(),
            };
            found.extend(has_commands.then_some(name));
        }
    }
    found.sort();
    let mut listed: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(found, listed);
    let tests = include_str!("administrator_guide.rs");
    for test in COMMANDS.iter().filter_map(|(_, how)| how.strip_prefix("run by ")) {
        let is_file = test
            .strip_prefix("the story of ")
            .is_some_and(|name| repository.join(format!("tests/testbed/tests/stories/{name}.rs")).is_file());
        assert!(is_file || tests.contains(&format!("fn {test}()")), "there is no {test}");
    }
    Ok(())
}

/// The languages of blocks for administrators, each with the test that reads them.
const LANGUAGES: [(&str, &str); 3] = [
    ("sh", "this test, for administrators; documented_commands for all"),
    ("toml", "documented_configuration of mytokend"),
    ("text", "output and lists of accounts"),
];

#[test]
fn every_block_of_the_administrator_guide_says_what_it_is() -> Result<()> {
    let io = |source| Error::Io { what: "docs".to_owned(), source };
    for folder in ["docs/admin", "docs/providers"] {
        for entry in fs::read_dir(paths::repository().join(folder)).map_err(io)? {
            let name = format!("{folder}/{}", entry.map_err(io)?.file_name().to_string_lossy());
            let page = document(&name)?;
            for fence in page.lines().filter_map(|line| line.strip_prefix("```")).step_by(2) {
                assert!(LANGUAGES.iter().any(|(language, _)| *language == fence), "{name}: a block of \"{fence}\"");
            }
        }
    }
    Ok(())
}

#[test]
fn the_form_of_a_log_line_has_no_numbers() {
    let line =
        "sshd[341]: pam_mytoken(sshd:auth): accept uid=2001 rhost=192.0.2.10 token=tc:105a0126 ms=33 (map 0) deadbeef1";
    assert_eq!(form(line), "pam_mytoken(sshd:auth): accept uid=# rhost=#.#.#.# token=tc:# ms=# (map #) deadbeef1");
    assert_eq!(form("mytokend[1]: job 12 uid 3: a"), "job # uid #: a");
}

#[test]
fn commands_of_plain_texts_and_pages_are_found() -> Result<()> {
    let texts = |steps: Vec<Step>| steps.into_iter().map(|step| step.text).collect::<Vec<_>>();
    assert_eq!(texts(indented_steps("a\n\n    b c\n    d\n\ne\n   f\n    g\n")), ["b c", "d", "g"]);
    assert_eq!(
        texts(shell_steps("a\n```sh\nb \\\n  c\n```\n\n```text\nd\n```\n\n```sh\ne\n```\n")),
        ["b \\\n  c", "e"]
    );
    assert_eq!(between("a\nBack:\nb\nEnd", "Back:\n", "\nEnd")?, "b");
    assert!(between("a", "b", "").is_err());
    Ok(())
}
