// SPDX-License-Identifier: MIT OR Apache-2.0
//! When the role links the shorter penalties of sshd, with an sshd that a test plays.

use std::process::Command;

use testbed::{Error, Result, can_hold_a_site, skip};

use super::{io, program, recap, role};

/// Its file in the directory of sshd, and sshd, which says `$PENALTIES` until it is there. `$BROKEN`: it does not start with it.
const PREPARE: &str = r#"
    set -e
    mount -t tmpfs tmpfs /mnt
    mkdir -p /mnt/bin /mnt/upper/mytoken /mnt/work /mnt/home
    cp "$ROLE/../sshd-penalties.conf" /mnt/upper/mytoken
    cat >/mnt/bin/sshd <<'END'
#!/bin/sh
link=/etc/ssh/sshd_config.d/11-mytoken-penalties.conf
case $1 in
    -T) if test -e $link; then echo persourcepenalties crash:90.000000 authfail:1.000000; else echo "$PENALTIES"; fi ;;
    -t) test -z "$BROKEN" || ! test -e $link ;;
esac
END
    cat >/mnt/play.yml <<END
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_tasks: $ROLE/roles/mytoken/tasks/penalties.yml
END
    chmod +x /mnt/bin/sshd
    mount -t overlay overlay -o lowerdir=/usr/share,upperdir=/mnt/upper,workdir=/mnt/work /usr/share
    mount -t tmpfs tmpfs /etc/ssh
    mkdir /etc/ssh/sshd_config.d
    export PATH=/mnt/bin:$PATH HOME=/mnt/home ANSIBLE_NOCOLOR=1 LC_ALL=C.UTF-8
    play() {
        "$PLAYBOOK" "$@" -i localhost, -c local -e 'ansible_python_interpreter={{ ansible_playbook_python }}' /mnt/play.yml || true
        readlink /etc/ssh/sshd_config.d/11-mytoken-penalties.conf || echo no link
    }
"#;

/// What the plays print, and whether there is a link after each.
fn play(script: &str, penalties: &str) -> Result<String> {
    let Some(program) = program::playbook() else { return Err(Error::Impossible(program::MISSING.into())) };
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &format!("{PREPARE}{script}")])
        .env("ROLE", role())
        .env("PLAYBOOK", program)
        .env("PENALTIES", penalties)
        .output()
        .map_err(io("starting unshare"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    Ok(said)
}

#[test]
fn the_role_links_shorter_penalties_only_where_sshd_has_its_own_long_ones() -> Result<()> {
    if let Err(error @ Error::Impossible(_)) = can_hold_a_site() {
        return skip(&error.to_string());
    }
    if program::playbook().is_none() {
        return skip(program::MISSING);
    }
    let linked = "\n/usr/share/mytoken/sshd-penalties.conf\n";
    let as_shipped = "persourcepenalties crash:90.000000 authfail:5.000000 noauth:1.000000";
    for (penalties, is_linked) in [
        (as_shipped, true),
        ("PerSourcePenalties authfail:10 min:15", true),
        // Before OpenSSH 9.8, and sites with settings of their own.
        ("port 22", false),
        ("persourcepenalties no", false),
        ("persourcepenalties crash:90.000000 authfail:0.500000 invaliduser:5.000000", false),
    ] {
        let said = play("play", penalties)?;
        assert_eq!(recap(&said, "localhost", "failed"), Some(0), "{penalties}:\n{said}");
        assert_eq!(recap(&said, "localhost", "changed"), Some(u32::from(is_linked)), "{penalties}:\n{said}");
        assert_eq!(said.contains(linked), is_linked, "{penalties}:\n{said}");
    }
    let twice = play("play >/dev/null; play", as_shipped)?;
    assert_eq!(recap(&twice, "localhost", "changed"), Some(0), "{twice}");
    assert!(twice.contains(linked), "{twice}");
    let predicted = play("play --check", as_shipped)?;
    assert_eq!(recap(&predicted, "localhost", "changed"), Some(1), "{predicted}");
    assert!(!predicted.contains(linked), "{predicted}");
    // sshd would not start at the next boot.
    let broken = play("export BROKEN=1; play", as_shipped)?;
    assert_eq!(recap(&broken, "localhost", "failed"), Some(1), "{broken}");
    assert!(
        broken.contains("sshd refuses /usr/share/mytoken/sshd-penalties.conf") && !broken.contains(linked),
        "{broken}"
    );
    // The administrator's own file.
    let own = play("echo >/etc/ssh/sshd_config.d/11-mytoken-penalties.conf; play", as_shipped)?;
    assert_eq!(recap(&own, "localhost", "changed"), Some(0), "{own}");
    Ok(())
}
