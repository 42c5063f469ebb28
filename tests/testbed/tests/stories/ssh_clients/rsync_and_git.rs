// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that start ssh, jump hosts, and a code of mytoken-ssh in another client.

use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::{Options, Result, story_with_own_servers};

/// Each line with the number of its connections.
const LINES: [(&str, usize); 19] = [
    ("mkdir src && echo treasure >src/a && rsync -e 'mytoken-ssh ssh' -a src/ testbed:there/ && cat there/a", 1),
    ("rsync -e 'mytoken-ssh ssh -p 22 -l alice' -a testbed:there/ back/ && cat back/a", 1),
    (
        "git init --quiet --bare repository.git && git init --quiet work && cd work && cp ../src/a . && git add a && \
         git -c user.name=a -c user.email=a@b.c commit --quiet -m first && \
         GIT_SSH_COMMAND='mytoken-ssh ssh' git push --quiet testbed:repository.git HEAD:main && cat a",
        1,
    ),
    (
        "GIT_SSH_COMMAND='mytoken-ssh ssh' git clone --quiet -b main ssh://alice@testbed:22/~/repository.git clone && cat clone/a",
        1,
    ),
    ("cd clone && export GIT_SSH_COMMAND='mytoken-ssh ssh' && git fetch --quiet && git pull --quiet && cat a", 2),
    ("mytoken-ssh rsync -a testbed:src/ by-name/ && cat by-name/a", 1),
    ("cd clone && mytoken-ssh git fetch --quiet && mytoken-ssh git -c pull.ff=only pull --quiet && cat a", 2),
    (
        "mytoken-ssh run sh -c 'scp -q testbed:src/a by-run; sftp -q testbed:src/a by-run >by-sftp; ssh testbed cat src/a'",
        3,
    ),
    ("mytoken-ssh run -- env -u MYTOKEN_SSH_OPTIONS ssh testbed cat src/a", 1),
    // The host is in a [[host]], so plain programs get a token for it, and for no other one.
    ("eval \"$(mytoken-ssh env)\" && ssh testbed cat src/a", 1),
    ("eval \"$(mytoken-ssh env)\" && rsync -a testbed:src/ by-env/ && scp -q testbed:src/a by-scp && cat by-scp", 2),
    (
        "eval \"$(mytoken-ssh env)\" && echo get src/a by-sftp | sftp -q -oBatchMode=no -b - testbed >out && cat by-sftp",
        1,
    ),
    ("eval \"$(mytoken-ssh env)\" && ! ssh -oBatchMode=yes 127.0.0.2 true 2>/dev/null && cat src/a", 0),
    // Each hop asks, and each gets a token of its own.
    ("mytoken-ssh ssh -J 127.0.0.1 testbed cat src/a", 2),
    ("mytoken-ssh ssh -J 127.0.0.1,localhost testbed cat src/a", 3),
    ("mytoken-ssh ssh -oProxyCommand='ssh -W %h:%p 127.0.0.1' testbed cat src/a", 2),
    ("mytoken-ssh scp -q -J 127.0.0.1 testbed:src/a by-jump && cat by-jump", 2),
    ("mytoken-ssh sftp -q -J 127.0.0.1 testbed:src/a by-jump >out && cat by-jump", 2),
    ("eval \"$(mytoken-ssh env)\" && ssh -J localhost testbed cat src/a", 2),
];

/// Gives the other names of the host its key, and the same token.
const OTHER_NAMES: &str = r#"for name in 127.0.0.1 127.0.0.2 localhost; do
    sed "s/^/$name /" /etc/ssh/ssh_host_ed25519_key.pub >>.ssh/known_hosts
done
for name in 127.0.0.1 localhost; do
    mytoken-ssh add $name --scope 'openid profile storage.read'
done"#;

#[test]
fn rsync_and_git_get_a_token_for_each_connection() -> Result<()> {
    let options = Options { nodes: 1, ssh_clients: true, penalties: false, ..Options::new()? };
    story_with_own_servers(options, |site| {
        people::first_mytoken(site, "alice")?;
        people::name_scope_of_host(site, "alice")?;
        site.sh("alice", OTHER_NAMES)?.ok()?;
        for (line, connections) in LINES {
            Journal::clear(site)?;
            let outcome = site.sh("alice", line)?.ok()?;
            assert_eq!(outcome.stdout, "treasure\n", "{line}");
            let journal = Journal::read(site)?;
            assert_eq!((journal.requests_to("access_token"), journal.sub_tokens()), (connections, 0), "{line}");
        }
        let plink = "mytoken-ssh code testbed >code && plink -batch -pwfile code -hostkey \
                     $(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d ' ' -f 2) alice@testbed \
                     'test -s $BEARER_TOKEN_FILE && echo inside'";
        assert_eq!(site.sh("alice", plink)?.ok()?.stdout, "inside\n");
        Ok(())
    })
}
