// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line about a refused login that scanners know from `pam_unix`, for `failure_line` of `[log]`.

use crate::context::Attempt;
use crate::log_line::escape_field;

/// `authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7  user=alice`, with the two blanks of `pam_unix`. A value
/// holds no blank and no `=`, so it cannot add a field.
#[must_use]
pub fn failure_line(attempt: &Attempt, (uid, euid): (u32, u32), tty: Option<&str>, ruser: Option<&str>) -> String {
    let field = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(escape_field).unwrap_or_default();
    format!(
        "authentication failure; logname= uid={uid} euid={euid} tty={} ruser={} rhost={}  user={}",
        field(tty),
        field(ruser),
        field(attempt.rhost.as_deref()),
        field(Some(&attempt.user))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_form_of_pam_unix() {
        let attempt = |user: &str, rhost: Option<&str>| Attempt {
            service: "sshd".into(),
            user: user.into(),
            rhost: rhost.map(str::to_owned),
            host: "login".into(),
        };
        assert_eq!(
            failure_line(&attempt("alice", Some("192.0.2.7")), (0, 0), Some("ssh"), Some("")),
            "authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7  user=alice"
        );
        let hostile = failure_line(&attempt("a rhost=198.51.100.9\n", None), (1_000, 0), None, Some("b user=root"));
        assert_eq!(
            hostile,
            "authentication failure; logname= uid=1000 euid=0 tty= ruser=b\\x20user\\x3droot rhost=  \
             user=a\\x20rhost\\x3d198.51.100.9\\x0a"
        );
    }
}
