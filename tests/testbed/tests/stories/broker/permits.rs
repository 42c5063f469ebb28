// SPDX-License-Identifier: MIT OR Apache-2.0
//! One budget of requests for the site: a submit host draws its permits from a broker, and goes by its own share without one.

use std::time::Duration;

use serde_json::json;
use testbed::drive::jobs::Job;
use testbed::drive::journal::{Journal, fingerprint};
use testbed::drive::{askpass, people, tokens};
use testbed::site::command::finish;
use testbed::site::servers::AUDIENCE;
use testbed::site::services::broker;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

/// How long a story waits for a job or an agent.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What root sees of the broker.
const STATUS: &str = "mytokenctl broker status --runtime-dir /run/mytoken-broker.b1";

/// Gives a user a mytoken. It costs no request that the server counts, as a login through the browser would.
pub fn give_mytoken(site: &Site, user: &str) -> Result<String> {
    let clause = json!({"scope": "openid profile storage.read", "audience": [AUDIENCE]});
    let mytoken = tokens::mytoken(site, user, &json!({"restrictions": [clause]}))?;
    tokens::store(site, user, &mytoken)?;
    Ok(mytoken)
}

/// A site whose server has this limit, with a job of alice that has a token, which lives 20 s. `body` gets her mytoken, too.
fn with_job(request_limit: &'static str, body: impl FnOnce(&Site, &Job, &str) -> Result<()>) -> Result<()> {
    story_with_own_servers(Options { brokers: 1, nodes: 1, request_limit, ..Options::new()? }, |site| {
        people::control(site, "/provider/lifetime", Some("{\"seconds\": 20}"))?;
        let of_alice = give_mytoken(site, "alice")?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken -w n1 --wrap 'sleep 600'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        // The broker learns from the answer to its first request, which was for this job, whether the server has a limit. Until then it
        // assumes the usual one. A restart of the agent on the submit host forgets what its own first request has told there.
        site.wait_for("the enrolment of the submit host", TIMEOUT, "root", "test -e /var/lib/mytoken/node.pem")?;
        site.stop("agent", "TERM")?;
        site.restart("agent")?;
        site.wait_for("the agent", TIMEOUT, "root", "! mytokenctl status 2>&1 | grep 'did not answer'")?;
        body(site, &job, &of_alice)
    })
}

/// Number of sub-tokens that were made of a mytoken.
fn made_of(journal: &Journal, mytoken: &str) -> usize {
    let parent = fingerprint(mytoken);
    journal.each_sub_token().iter().filter(|token| token.parent == parent).count()
}

/// How many submissions of a user a status of the broker shows: `submissions 47 (alice 46, bob 1)`.
pub fn submissions_of(user: &str, status: &str) -> Option<usize> {
    let (_, uses) = status.split_once("submissions ")?;
    let (_, numbers) = uses.split_once(')')?.0.split_once(&format!("{user} "))?;
    numbers.split(',').next()?.parse().ok()
}

/// Whether a status shows to root what is left of the server's limit.
fn shows_the_rest(status: &str) -> bool {
    let is_rest = |line: &str| {
        line.starts_with("REQUESTS to https://mytoken.testbed:8443: ") && line.ends_with(" left of 100 in 300 s")
    };
    status.lines().any(is_rest)
}

#[test]
fn a_loop_leaves_permits_of_the_site_for_others_and_each_host_has_a_share_without_brokers() -> Result<()> {
    with_job("100/300s", |site, job, of_alice| {
        give_mytoken(site, "bob")?;
        let submissions = "until test -e enough; do sbatch --hold --mytoken --output=/dev/null --wrap true || exit 1; done >sent 2>told";
        let alice = site.script("alice", submissions).timeout(Duration::from_secs(240)).spawn()?;
        site.wait_for("the end of her share", Duration::from_secs(120), "alice", "grep -q 'used up for you' told")?;

        // Her own job, another user's job, and a login. The loop goes on.
        let before = job.token(site, "n1")?;
        wait::until("the renewal", TIMEOUT, || {
            Ok(job.token(site, "n1")?.filter(|token| Some(token) != before.as_ref()).map(drop))
        })?;
        let script = "until test -s $BEARER_TOKEN_FILE; do sleep 0.1; done; echo has one";
        let submit = format!("sbatch --mytoken=required -w n1 --wrap '{script}'");
        let (of_bob, _) = Job::submit(site, "bob", &submit)?;
        of_bob.wait_for_end(site, TIMEOUT)?;
        let output = of_bob.output(site)?;
        assert!(output.ends_with("has one\n"), "{output}");
        // A transfer code costs two requests.
        let login = site.sh("bob", "mytoken-ssh ssh --delegate testbed id -un")?.ok()?;
        assert!(login.stdout.ends_with("bob\n"), "{login:?}");
        // A guess costs one, of nobody.
        let ssh = "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed true";
        let guess = askpass::run_with_answers(site, "bob", &["AbCdEfGh"], ssh)?;
        assert_ne!(guess.code, 0, "{guess:?}");
        // More than half of the limit, from one host.
        let more = "for i in $(seq 5); do sbatch --hold --mytoken=required --wrap true || exit 1; done";
        site.sh("bob", more)?.ok()?;
        site.sh("alice", "touch enough")?.ok()?;
        finish(alice)?.ok()?;
        let told = site.sh("alice", "cat told")?.ok()?.stdout;
        let reason = "the site's budget of requests to the mytoken server \"testbed\" is used up for you until ";
        assert!(told.contains(reason), "{told}");

        let shown = site.on_node("b1", STATUS)?.ok()?.stdout;
        // Her job was perhaps submitted before the submit host was enrolled.
        let of_loop = made_of(&Journal::read(site)?, of_alice) - 1;
        let counted = submissions_of("alice", &shown).unwrap_or_default();
        // A submission that waits too long for its permit on a busy machine goes on without one.
        assert!((30..=50).contains(&of_loop) && counted.abs_diff(of_loop) <= 2, "{of_loop} {shown}");
        // His first one has perhaps also requested the discovery document.
        assert!(matches!(submissions_of("bob", &shown), Some(6 | 7)), "{shown}");
        assert!(shows_the_rest(&shown) && shown.contains("logins 3 (bob 2)"), "{shown}");
        assert_eq!(site.script("alice", STATUS).on("b1").run()?.code, 3, "only root sees who has sent what");

        site.stop(&broker::name("b1"), "KILL")?;
        site.sh("bob", "sbatch --hold --mytoken=required --wrap true")?.ok()?;
        let more = "for i in $(seq 40); do sbatch --hold --mytoken --wrap true; done 2>&1 | grep -c 'used up for you'";
        site.sh("bob", more)?.ok()?;
        let shown = site.sh("root", "mytokenctl status")?.stdout;
        assert!(shows_the_rest(&shown), "{shown}");
        let journal = Journal::read(site)?;
        let statuses: Vec<Option<u16>> = journal.requests().iter().map(|request| request.status).collect();
        assert!(!statuses.contains(&Some(429)), "{statuses:?}");
        assert!(journal.sub_tokens() <= 70, "seven tenths are for submissions: {shown}");
        Ok(())
    })
}

#[test]
fn nobody_needs_a_permit_where_the_server_has_no_limit() -> Result<()> {
    with_job("", |site, _, of_alice| {
        let submit = "sbatch --hold --mytoken=required --wrap true";
        site.sh("alice", &format!("for i in $(seq 40); do {submit} || exit 1; done"))?.ok()?;
        let shown = site.on_node("b1", STATUS)?.ok()?.stdout;
        assert!(shown.starts_with("BROKER of the cluster testbed\n") && !shown.contains("REQUESTS to"), "{shown}");
        site.stop(&broker::name("b1"), "KILL")?;
        site.sh("alice", submit)?.ok()?;
        assert_eq!(made_of(&Journal::read(site)?, of_alice), 42);
        Ok(())
    })
}
