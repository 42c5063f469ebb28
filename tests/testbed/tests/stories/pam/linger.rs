// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that a login leaves behind, with `linger` and without.

use std::time::Duration;

use serde_json::json;
use testbed::drive::people;
use testbed::{Result, Site, story_with_own_servers};

use super::{login_with_answers, login_with_key, mytoken, one_node};
use crate::bad_tokens::inputs;

const LINGER: &str = "printf '[session]\\nlinger = true\\n' >>/etc/mytoken/login.toml";

/// The agent sweeps three times a minute.
const LONG: Duration = Duration::from_secs(60);

/// Leaves a program behind and prints the path of the session's token file. `how`: what detaches it.
fn leave(site: &Site, how: &str) -> Result<String> {
    let code = inputs::transfer_code(site, &mytoken(site, &["AT", "create_mytoken"])?)?;
    let command = format!(
        "touch stay; {how} sh -c \"while test -e stay; do sleep 0.2; done\" </dev/null >/dev/null 2>&1 & \
         echo $BEARER_TOKEN_FILE"
    );
    Ok(login_with_answers(site, &[code], &command)?.ok()?.stdout.trim().to_owned())
}

/// The token in a file. Without one it tells what the agent has said, and which processes run in which audit session.
fn token_in(site: &Site, file: &str) -> Result<String> {
    let found = site.sh("alice", &format!("cat {file}"))?;
    if !found.success() {
        let processes = "cd /proc && for id in [0-9]*; do echo $id $(cat $id/sessionid $id/stat); done 2>/dev/null";
        let seen = site.sh("root", &format!("grep -a ' mytokend' /var/log/all.log; {processes}"))?;
        eprintln!("{}", seen.stdout);
    }
    Ok(found.ok()?.stdout)
}

#[test]
fn a_program_that_a_login_leaves_keeps_its_token_fresh_until_it_ends() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        site.sh("root", LINGER)?.ok()?;
        people::control(site, "/provider/lifetime", Some(&json!({"seconds": 15}).to_string()))?;
        for how in ["nohup", "setsid --fork"] {
            let file = leave(site, how)?;
            let first = token_in(site, &file)?;
            // Longer than a sweep, and than the life of the first token.
            std::thread::sleep(Duration::from_secs(45));
            let later = token_in(site, &file)?;
            assert!(later.contains('.') && later != first, "{how}: it was not renewed");
            // Another login of the same user does not prolong it.
            login_with_key(site, "alice", "nohup sleep 300 </dev/null >/dev/null 2>&1 & echo in")?.ok()?;
            site.sh("alice", "rm stay")?.ok()?;
            site.wait_for("the end of the files", LONG, "root", &format!("! test -e {file}"))?;
        }
        Ok(())
    })
}

#[test]
fn by_default_the_files_go_with_the_session() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let file = leave(site, "nohup")?;
        site.wait_for("the end of the files", Duration::from_secs(10), "root", &format!("! test -e {file}"))?;
        site.sh("alice", "rm stay")?.ok().map(drop)
    })
}
