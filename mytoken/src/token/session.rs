// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mytokens that were made for one login session.
//!
//! Neither the server nor its answer tells whether a transfer code was made for a new mytoken or for one that somebody uses already
//! (MT-35). So who makes a mytoken for one session says so in its name, which the mytoken carries as a claim.

use super::MytokenClaims;

/// How long after its creation such a mytoken can be redeemed, in seconds: the 300 s for which a code is valid (MT-33), and what the clocks
/// of the server and of the host may differ. One that is older was in use before: its code was made for an existing mytoken.
const LONGEST_AGE: u64 = 360;

/// How much a host's clock may be behind the server's, in seconds.
const CLOCK_DIFFERENCE: u64 = 60;

/// The name of a mytoken that is made for one session of `user` at `host`.
#[must_use]
pub fn session_mytoken_name(user: &str, host: &str) -> String {
    format!("{}{host}", prefix(user))
}

/// Whether a mytoken of this name was made by a login with a link: the name of a session's mytoken, and ` from ` with an address. The person
/// could change it, so it decides about nothing but sentences.
#[must_use]
pub fn is_name_of_link(name: &str) -> bool {
    let words: Vec<&str> = name.split(' ').collect();
    matches!(words.as_slice(), ["ssh", "session", session, "from", address] if session.contains('@') && !address.is_empty())
}

fn prefix(user: &str) -> String {
    format!("ssh session {user}@")
}

/// Whether these claims are those of a mytoken that was made for one session of `user`, and not long before `now` (Unix seconds). The
/// claims need no verification: a false name only takes the mytoken from the person who chose it.
#[must_use]
pub fn is_for_session(claims: &MytokenClaims, user: &str, now: u64) -> bool {
    let is_new = |iat: u64| iat <= now.saturating_add(CLOCK_DIFFERENCE) && now.saturating_sub(iat) <= LONGEST_AGE;
    claims.name.starts_with(&prefix(user)) && claims.iat.is_some_and(is_new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(name: &str, iat: Option<u64>) -> MytokenClaims {
        MytokenClaims { name: name.into(), iat, ..MytokenClaims::default() }
    }

    #[test]
    fn only_a_new_mytoken_with_the_name_of_a_session_of_the_user_is_for_one_session() {
        const NOW: u64 = 1_800_000_000;
        let name = session_mytoken_name("alice", "login.example.org");
        for (name, iat, expected) in [
            (name.as_str(), Some(NOW), true),
            (name.as_str(), Some(NOW - 360), true),
            (name.as_str(), Some(NOW - 361), false),
            (name.as_str(), Some(NOW + 60), true),
            (name.as_str(), Some(NOW + 61), false),
            (name.as_str(), None, false),
            ("ssh session bob@login.example.org", Some(NOW), false),
            ("ssh session alice", Some(NOW), false),
            ("ssh alice@login.example.org", Some(NOW), false),
            ("my laptop", Some(NOW), false),
            ("", Some(NOW), false),
        ] {
            assert_eq!(is_for_session(&claims(name, iat), "alice", NOW), expected, "{name} {iat:?}");
        }
    }
}
