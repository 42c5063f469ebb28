// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options that the helper puts in front of the user's own. ssh takes the first value of an option (SSH-22), so the
//! user cannot change these.

use std::ffi::OsString;

use super::arguments::Program;
use super::resolution::{HostKeyChecking, ResolvedDestination};
use super::wrapper::Preferences;
use crate::askpass::message::{ASKPASS_VARIABLE, AUTHENTICATED_FLAG};

/// Options of `program` for connections to `destinations` with the user's own arguments `args`.
pub fn helper_options(
    program: Program,
    args: &[OsString],
    destinations: &[ResolvedDestination],
    preferences: Preferences,
    has_terminal: bool,
) -> Vec<OsString> {
    let mut options = vec![
        // SSH-21: if the askpass fails, ssh sends an empty answer and asks again, three times by default.
        "-oNumberOfPasswordPrompts=1".into(),
        format!("-oStrictHostKeyChecking={}", host_key_checking(destinations, has_terminal)).into(),
        "-oKbdInteractiveAuthentication=yes".into(),
    ];
    let is_preference = |arg: &OsString| arg.to_string_lossy().to_lowercase().contains("preferredauthentications");
    // Without `password`: after a refused token ssh would ask for a password.
    let order = match preferences {
        Preferences::OfSsh => None,
        Preferences::OfUser if args.iter().any(is_preference) => None,
        // Keys come last: a login by key leaves the session without a token.
        Preferences::OfUser | Preferences::TokenFirst => {
            Some("keyboard-interactive,gssapi-with-mic,hostbased,publickey")
        }
    };
    options.extend(order.map(|order| format!("-oPreferredAuthentications={order}").into()));
    if program != Program::Ssh {
        // A shared connection outlives the copy, and with it a delegated mytoken. OpenSSH 10 passes this option itself
        // (SSH-24).
        options.push("-oControlMaster=no".into());
    }
    // SSH-24: scp and sftp switch local commands off.
    if let (Program::Ssh, [destination]) = (program, destinations) {
        options.extend(report_authentication(destination.local_command.as_deref()));
    }
    options
}

/// The strictest value for one of the destinations. A token goes to whoever has the key, so a changed key is never accepted.
fn host_key_checking(destinations: &[ResolvedDestination], has_terminal: bool) -> &'static str {
    match destinations.iter().map(|destination| destination.host_keys).max() {
        Some(HostKeyChecking::Off | HostKeyChecking::AcceptNew) => "accept-new",
        // Without a terminal there is no user who could compare the key's fingerprint.
        Some(HostKeyChecking::Ask) if has_terminal => "ask",
        _ => "yes",
    }
}

/// Options by which ssh reports that it has authenticated: `LocalCommand` runs after the login and before the session.
/// The exit status does not show this (SSH-23): 255 means a refused login or a broken session. The user's own local
/// command runs afterwards.
fn report_authentication(local_command: Option<&str>) -> [OsString; 2] {
    let mut command = format!("-oLocalCommand=env \"${ASKPASS_VARIABLE}\" {AUTHENTICATED_FLAG}");
    if let Some(own) = local_command {
        command.push_str("; ");
        command.push_str(own);
    }
    ["-oPermitLocalCommand=yes".into(), command.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_rule_about_host_keys_counts() {
        use HostKeyChecking::{AcceptNew, Ask, Off, Strict};
        let destination = |host_keys| {
            let plain = crate::ssh::resolution::parse("user alice\nhostname tb\n").unwrap();
            ResolvedDestination { host_keys, ..plain }
        };
        for (values, with_terminal, without) in [
            (&[Ask][..], "ask", "yes"),
            (&[AcceptNew], "accept-new", "accept-new"),
            (&[Off], "accept-new", "accept-new"),
            (&[Strict], "yes", "yes"),
            (&[AcceptNew, Ask], "ask", "yes"),
            (&[Off, Strict, Ask], "yes", "yes"),
            (&[], "yes", "yes"),
        ] {
            let destinations: Vec<_> = values.iter().copied().map(destination).collect();
            let of = |has_terminal| host_key_checking(&destinations, has_terminal);
            assert_eq!((of(true), of(false)), (with_terminal, without), "{values:?}");
        }
    }

    #[test]
    fn the_users_local_command_runs_after_the_helpers() {
        let [permit, command] = report_authentication(Some("echo %h; date"));
        assert_eq!(permit, "-oPermitLocalCommand=yes");
        assert_eq!(command, "-oLocalCommand=env \"$MYTOKEN_SSH_ASKPASS\" --authenticated; echo %h; date");
    }
}
