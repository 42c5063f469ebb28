// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real clients in real jobs against real servers.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::drive::jobs::Job;
use testbed::drive::{people, tokens};
use testbed::site::paths;
use testbed::site::servers::AUDIENCE;
use testbed::{Error, Options, Result, Site, story_with_own_servers};

use super::storage::{self, CONTENT, PROFILE, SCOPE};
use super::table::{PAGE, Row, rows};

/// Runs each line of the table in a directory of its own, as a person pastes it. A line works if it brings the file's content, on its
/// standard output or in a file. Prints `line N STATUS works|fails`.
const EACH_LINE: &str = r#"for line in lines/*; do
  mkdir "$line.d"; cd "$line.d" || exit 1
  timeout 30 bash "../../$line" >out 2>err; status=$?
  if [ $status = 0 ] && cat -- * | grep -q "$CONTENT"; then result=works; else result=fails; fi
  cd ../..; echo "line ${line#lines/} $status $result"
done
"#;

/// Calls the servers until the token in the file was renewed, and once more. Prints the number of tokens and of failures.
const OVER_A_RENEWAL: &str = r#"tokens=1 failures=0 first=$(cat $BEARER_TOKEN_FILE) end=$((SECONDS + 40))
call() {
  RCLONE_WEBDAV_BEARER_TOKEN_COMMAND="cat $BEARER_TOKEN_FILE" rclone cat --webdav-url https://se.testbed :webdav:data 2>&1 |
    grep -q "$CONTENT" || failures=$((failures + 1))
  xrdcp -f roots://se.testbed//store/data - 2>&1 | grep -q "$CONTENT" || failures=$((failures + 1))
}
while call; test $SECONDS -lt $end; do
  [ "$(cat $BEARER_TOKEN_FILE)" = "$first" ] || { tokens=2; call; break; }
  sleep 1
done
echo "renewal $tokens $failures"
"#;

/// In a container with another root, no other processes and an empty /tmp.
const IN_A_CONTAINER: &str = r#"inside() { bwrap --ro-bind / / --dev /dev --tmpfs /tmp --unshare-user --unshare-pid --proc /proc "$@"; }
inside xrdcp -f roots://se.testbed//store/data - 2>&1 | grep -q "$CONTENT" && echo "container xrdcp"
inside mytokenctl with-token -- gfal-cat davs://se.testbed/data 2>&1 | grep -q "$CONTENT" && echo "container gfal"
"#;

#[test]
fn each_line_of_the_guide_does_what_it_says() -> Result<()> {
    let page = paths::repository().join(PAGE);
    let page =
        std::fs::read_to_string(&page).map_err(|source| Error::Io { what: page.display().to_string(), source })?;
    let table = rows(&page)?;
    assert!(table.len() > 5, "{table:?}");
    story_with_own_servers(Options { nodes: 1, data_clients: true, ..Options::new()? }, |site| {
        storage::start(site)?;
        give_mytoken(site)?;
        site.sh("alice", "mkdir lines")?.ok()?;
        for (number, row) in table.iter().enumerate() {
            let line = row.line.replace("se.example.org", "se.testbed");
            site.script("alice", &format!("cat >lines/{number:02}")).stdin(line).run()?.ok()?;
        }
        // A token of 20 s is renewed in time for the last part of the job.
        people::control(site, "/provider/lifetime", Some(&json!({"seconds": 20}).to_string()))?;
        let script = format!("#!/bin/bash\nCONTENT={CONTENT}\n{EACH_LINE}{IN_A_CONTAINER}{OVER_A_RENEWAL}");
        site.script("alice", "cat >job.sh").stdin(script).run()?.ok()?;
        let (job, _) = Job::submit(site, "alice", &format!("sbatch --mytoken={PROFILE} job.sh"))?;
        job.wait_for_end(site, Duration::from_secs(150))?;
        let output = job.output(site)?;
        let mut wrong = Vec::new();
        for (number, row) in table.iter().enumerate() {
            wrong.extend(differs(site, &output, number, row)?);
        }
        assert!(wrong.is_empty(), "{}\n{output}", wrong.join("\n"));
        for expected in ["container xrdcp", "container gfal", "renewal 2 0"] {
            assert!(output.lines().any(|line| line == expected), "{expected}:\n{output}");
        }
        other_tokens_are_refused(site)
    })
}

/// Stores a mytoken that may have the scope of the servers.
fn give_mytoken(site: &Site) -> Result<()> {
    let hour = site.sh("root", "echo $(($(date +%s) + 3600))")?.ok()?.stdout;
    let exp: u64 = hour.trim().parse().unwrap_or_default();
    let clause = json!({"exp": exp, "scope": format!("openid profile storage.read {SCOPE}"), "audience": [AUDIENCE]});
    tokens::store(site, "alice", &tokens::mytoken(site, "alice", &json!({"restrictions": [clause]}))?)
}

/// How the run of a row differs from what the table says.
fn differs(site: &Site, output: &str, number: usize, row: &Row) -> Result<Option<String>> {
    let start = format!("line {number:02} ");
    let ran = output.lines().find_map(|line| line.strip_prefix(&start));
    let expected = if row.works_on(site.options().release) { "works" } else { "fails" };
    let fault = match ran.and_then(|ran| ran.split_once(' ')) {
        None => "was not run".to_owned(),
        // 126 and 127: there is no such program, which proves nothing about the token.
        Some((status @ ("126" | "127" | "124"), _)) => format!("could not run: status {status}"),
        Some((_, result)) if result == expected => return Ok(None),
        Some((status, result)) => format!("{result} with status {status}"),
    };
    let said = site.sh("alice", &format!("tail -c 600 lines/{number:02}.d/err"))?.stdout;
    Ok(Some(format!("{}, `{}`: {fault}; the table says it {expected}\n{said}", row.tool, row.line)))
}

/// The servers look at the token: the tests above would prove nothing if they let everybody in.
fn other_tokens_are_refused(site: &Site) -> Result<()> {
    let order = |more: Value, tamper: Option<&str>| {
        let mut claims = json!({"aud": AUDIENCE});
        if let (Some(claims), Some(more)) = (claims.as_object_mut(), more.as_object()) {
            claims.extend(more.clone());
        }
        json!({"user": "alice", "scope": SCOPE, "claims": claims, "tamper": tamper})
    };
    for (what, order, accepted) in [
        ("a good token", order(json!({}), None), true),
        ("a foreign audience", order(json!({"aud": "https://elsewhere"}), None), false),
        ("a foreign issuer", order(json!({"iss": "https://elsewhere"}), None), false),
        ("a changed token", order(json!({}), Some("claims")), false),
        (
            "an expired token",
            order(json!({"exp": 1_700_000_000, "iat": 1_600_000_000, "nbf": 1_600_000_000}), None),
            false,
        ),
    ] {
        let answer = people::control(site, "/provider/mint", Some(&order.to_string()))?;
        let minted: Value =
            serde_json::from_str(&answer).map_err(|error| Error::Refused(format!("{error}: {answer}")))?;
        let token = minted.get("token").and_then(Value::as_str).unwrap_or_default();
        let script = "umask 077; cat >token; export BEARER_TOKEN_FILE=$PWD/token\n\
            curl -s -o /dev/null -w '%{http_code}\\n' -H @<(sed 's/^/Authorization: Bearer /' token) https://se.testbed/data\n\
            timeout 30 xrdcp -f roots://se.testbed//store/data - 2>/dev/null; true";
        let seen = site.script("alice", script).stdin(token).run()?.ok()?.stdout;
        let expected = if accepted { format!("200\n{CONTENT}\n") } else { "401\n".to_owned() };
        assert_eq!(seen, expected, "{what}");
    }
    let without = site.sh("alice", "curl -s -o /dev/null -w '%{http_code}' https://se.testbed/data")?.stdout;
    assert_eq!(without, "401");
    Ok(())
}
