// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that run `mytoken-ssh ssh` in the place of ssh, and a code of it in another client.

use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::{Options, Result, story_with_own_servers};

/// Each line with the number of its connections.
const LINES: [(&str, usize); 5] = [
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
];

#[test]
fn rsync_and_git_get_a_token_for_each_connection() -> Result<()> {
    let options = Options { nodes: 1, ssh_clients: true, penalties: false, ..Options::new()? };
    story_with_own_servers(options, |site| {
        people::first_mytoken(site, "alice")?;
        people::name_scope_of_host(site, "alice")?;
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
