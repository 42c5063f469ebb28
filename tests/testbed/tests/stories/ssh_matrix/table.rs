// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix: how sshd authenticates, and what a person starts.

/// How sshd authenticates a login with a token.
pub(super) struct Method {
    /// Lines of `sshd_config`.
    pub(super) sshd: &'static str,
    /// Options of ssh for a whole login.
    pub(super) client: &'static str,
    /// What sshd logs at the end of a whole login: `Accepted ...`.
    pub(super) accepted: &'static str,
    /// Logins that lack something.
    pub(super) incomplete: &'static [Incomplete],
}

/// A login that lacks something, and therefore must fail.
pub(super) struct Incomplete {
    pub(super) name: &'static str,
    /// Options of ssh.
    pub(super) client: &'static str,
    /// Whether the module sees the token, and accepts it.
    pub(super) is_token_accepted: bool,
}

/// What a person starts with ssh.
pub(super) struct Form {
    pub(super) name: &'static str,
    /// A bash script that runs in a directory of its own. `$OPTIONS` are those of ssh. It connects, waits until there
    /// is a file `go`, and ends the connection. What it prints with `in:` is printed only after a login. Without a
    /// login its status is that of ssh, 255.
    pub(super) script: &'static str,
    /// How the line with `in:` goes on.
    pub(super) shows: &'static str,
}

/// The key does not have a default name, so that ssh uses it only with this option.
const NO_TOKEN: Incomplete = Incomplete {
    name: "a key alone",
    client: "-i ../.ssh/site_key -o PreferredAuthentications=publickey",
    is_token_accepted: false,
};

pub(super) const KEYBOARD_INTERACTIVE: Method = Method {
    sshd: "AuthenticationMethods keyboard-interactive",
    client: "-o PreferredAuthentications=keyboard-interactive",
    accepted: "Accepted keyboard-interactive/pam for alice",
    incomplete: &[NO_TOKEN],
};

pub(super) const PASSWORD: Method = Method {
    sshd: "AuthenticationMethods password\nPasswordAuthentication yes\nKbdInteractiveAuthentication no",
    client: "-o PreferredAuthentications=password",
    accepted: "Accepted password for alice",
    incomplete: &[NO_TOKEN],
};

pub(super) const KEY_AND_KEYBOARD_INTERACTIVE: Method = Method {
    sshd: "AuthenticationMethods publickey,keyboard-interactive",
    client: "-i ../.ssh/site_key -o PreferredAuthentications=publickey,keyboard-interactive",
    accepted: "Accepted keyboard-interactive/pam for alice",
    incomplete: &[
        NO_TOKEN,
        Incomplete {
            name: "a token alone",
            client: "-o PreferredAuthentications=publickey,keyboard-interactive",
            is_token_accepted: false,
        },
    ],
};

pub(super) const KEYBOARD_INTERACTIVE_AND_KEY: Method = Method {
    sshd: "AuthenticationMethods keyboard-interactive,publickey",
    client: "-i ../.ssh/site_key -o PreferredAuthentications=keyboard-interactive,publickey",
    accepted: "Accepted publickey for alice",
    incomplete: &[
        NO_TOKEN,
        // The module opens a session that sshd never opens.
        Incomplete {
            name: "a token alone",
            client: "-o PreferredAuthentications=keyboard-interactive,publickey",
            is_token_accepted: true,
        },
    ],
};

pub(super) const FORMS: &[Form] = &[
    Form {
        name: "shell",
        script: r#"show='echo "in:$(tty):$(wc -c <$BEARER_TOKEN_FILE)"'
            printf '%s\n' "$show" "until test -e $PWD/go; do sleep 0.1; done" exit | ssh -tt $OPTIONS testbed"#,
        shows: "/dev/pts/",
    },
    Form {
        name: "command",
        script: r#"ssh $OPTIONS testbed "echo in:\$(tty):\$(test -s \$BEARER_TOKEN_FILE && echo token)
            until test -e $PWD/go; do sleep 0.1; done""#,
        shows: "not a tty:token",
    },
    Form {
        name: "sftp",
        // `-b` sets BatchMode, which forbids prompts. The first value of an option counts.
        script: r#"date +%N >sent
            printf '%s\n' "put sent $PWD/received" '!until test -e go; do sleep 0.1; done' >batch
            sftp -o BatchMode=no -b batch $OPTIONS testbed || exit
            cmp sent received && echo in:same"#,
        shows: "same",
    },
    Form {
        name: "-N",
        script: r#"ssh -N $OPTIONS testbed & pid=$!
            until test -e go || ! kill -0 $pid; do sleep 0.1; done
            if kill -0 $pid; then echo in:stayed; kill $pid; wait $pid; exit 0; fi
            wait $pid"#,
        shows: "stayed",
    },
    Form {
        name: "ControlMaster",
        script: r#"ssh -fN -o ControlMaster=yes -o ControlPath=mux $OPTIONS testbed </dev/null >/dev/null 2>told ||
                { cat told >&2; exit 255; }
            first=$(ssh -o ControlPath=mux testbed 'wc -c $BEARER_TOKEN_FILE')
            second=$(ssh -o ControlPath=mux testbed 'wc -c $BEARER_TOKEN_FILE')
            test "${first%% *}" -gt 0 && test "$first" = "$second" && echo "in:both $first"
            until test -e go; do sleep 0.1; done
            ssh -o ControlPath=mux -O exit testbed"#,
        shows: "both ",
    },
];
