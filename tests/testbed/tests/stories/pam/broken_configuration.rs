// SPDX-License-Identifier: MIT OR Apache-2.0
//! A broken configuration affects only the services that it lists, and a PAM stack can have a fallback for it.

use serde_json::json;
use testbed::drive::askpass;
use testbed::{Error, Result, Site, story_with_own_servers};

use super::harm::install_panicking;
use super::one_node;
use crate::bad_tokens::attempt::{Driver, STACKS};
use crate::bad_tokens::inputs;

const SERVICE_ERR: i32 = 3;
const USER_UNKNOWN: i32 = 10;
const CONV_ERR: i32 = 19;

const LOGIN: &str = "/etc/mytoken/login.toml";
const SSH: &str = "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed id -un";

/// Broken versions of `login.toml` with these services.
fn broken_files(services: &str) -> [String; 4] {
    let services = format!("services = [{services}]");
    [
        format!("{services}\nruel = 1\n"),
        format!("deadline = \"20s\n{services}\n"),
        format!("{services}\n[[rule]]\nname = \"hpc\"\nissuer = \"unknown\"\ntemplate = \"{{sub}}\"\n"),
        format!("{services}\n[[rule\n"),
    ]
}

/// The module's line in the product's example, with these arguments added.
fn recommended_line(site: &Site, arguments: &str) -> Result<String> {
    let example = site.read("/usr/share/mytoken/pam-sshd.example")?;
    let line = example.lines().find(|line| line.starts_with("auth ") && line.contains("pam_mytoken.so"));
    line.map(|line| format!("{line} {arguments}\n"))
        .ok_or_else(|| Error::Refused("the example has no line for the module".into()))
}

fn set_password(site: &Site, user: &str) -> Result<()> {
    site.script("root", "chpasswd").stdin(format!("{user}:much secret\n")).run()?.ok().map(drop)
}

#[test]
fn a_broken_configuration_affects_only_the_listed_services() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        let good = site.read(LOGIN)?;
        set_password(site, "bob")?;
        let rest = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_unix.so\n";
        site.write("/etc/pam.d/su", &(recommended_line(site, "")? + rest), "0644")?;
        for service in ["su", "passwd"] {
            let stack = "auth required pam_mytoken.so\naccount required pam_permit.so\n";
            site.write(&format!("{STACKS}/{service}"), stack, "0644")?;
        }
        let become_bob = || site.script("alice", "su bob -c 'id -un'").stdin("much secret\n").run();
        let code = |service: &str| driver.run(site, &[STACKS, service, "alice"], &[]).map(|result| result.code);

        assert_eq!(become_bob()?.ok()?.lines(), ["bob"], "with a good configuration");
        for broken in broken_files("\"sshd\"") {
            site.write(LOGIN, &broken, "0644")?;
            assert_eq!(become_bob()?.ok()?.lines(), ["bob"], "{broken}");
            assert_eq!((code("su")?, code("sshd")?), (USER_UNKNOWN, SERVICE_ERR), "{broken}");
        }
        for broken in broken_files("\"sshd\", \"su\"") {
            site.write(LOGIN, &broken, "0644")?;
            assert_eq!(
                (code("su")?, code("sshd")?, code("passwd")?),
                (SERVICE_ERR, SERVICE_ERR, USER_UNKNOWN),
                "{broken}"
            );
        }
        // The argument of the module overrides the file.
        let [broken, ..] = broken_files("\"sshd\"");
        for (configuration, arguments, su, sshd) in [
            (&broken, "services=sshd", USER_UNKNOWN, SERVICE_ERR),
            (&broken, "services=su", SERVICE_ERR, USER_UNKNOWN),
            (&broken, "services=sshd,su", SERVICE_ERR, SERVICE_ERR),
            // The module prompts, and there is no answer.
            (&good, "services=su", CONV_ERR, USER_UNKNOWN),
        ] {
            site.write(LOGIN, configuration, "0644")?;
            for service in ["su", "sshd"] {
                let stack = format!("auth required pam_mytoken.so {arguments}\naccount required pam_permit.so\n");
                site.write(&format!("{STACKS}/{service}"), &stack, "0644")?;
            }
            assert_eq!((code("su")?, code("sshd")?), (su, sshd), "{arguments}: {configuration}");
        }
        Ok(())
    })
}

#[test]
fn the_recommended_stack_falls_back_on_a_broken_configuration_and_never_on_a_bad_token() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        set_password(site, "alice")?;
        let login = site.read(LOGIN)?;
        let stack = site.read("/etc/pam.d/sshd")?;
        assert!(stack.contains("auth     requisite    pam_deny.so"), "{stack}");
        let stack = stack.replace("auth     requisite    pam_deny.so", "auth required pam_unix.so");
        site.write("/etc/pam.d/sshd", &stack, "0644")?;
        let log_in = |answers: &[&str]| -> Result<(bool, Vec<String>)> {
            let outcome = askpass::run_with_answers(site, "alice", answers, SSH)?;
            let prompts = askpass::prompts(site, "alice")?;
            Ok((
                outcome.success(),
                prompts.iter().map(|prompt| prompt.rsplit(')').next().unwrap_or(prompt).trim().to_owned()).collect(),
            ))
        };
        site.write(LOGIN, "services = [\"sshd\"]\nruel = 1\n", "0644")?;
        assert_eq!(log_in(&["much secret"])?, (true, vec!["Password:".to_owned()]));

        site.write(LOGIN, &login, "0644")?;
        let prompt = || vec!["Access Token:".to_owned()];
        let bobs = inputs::mint(site, &json!({"user": "bob"}))?;
        let forged = inputs::mint(site, &json!({"foreign_key": true}))?;
        for token in [bobs.as_str(), forged.as_str(), "nonsense"] {
            assert_eq!(log_in(&[token, "much secret"])?, (false, prompt()), "{token}");
        }
        // A panic in the module is a refusal too.
        install_panicking(site)?;
        site.write(
            "/etc/pam.d/sshd",
            &stack.replace("default=die]  pam_mytoken.so", "default=die] pam_mytoken.so panic=authenticate"),
            "0644",
        )?;
        assert_eq!(log_in(&["much secret", "much secret"])?, (false, Vec::new()));
        Ok(())
    })
}
