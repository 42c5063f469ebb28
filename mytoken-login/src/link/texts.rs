// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a person sees. The link and its QR code are in the prompt itself, not in texts beside it: these come before the prompt or alone,
//! by the release of sshd (SSH-18), and no application needs to show them.

use mytoken::qr_code::{Room, half_blocks};

use super::flow::Ask;

/// Before the prompt for a token.
pub(crate) const HINT: &str = "No token? Press Enter to log in with a link.";

/// Longest link that is shown, in bytes: it must fit into the shortest prompt, with the words around it.
pub(super) const LINK_LIMIT: usize = 300;

/// Room for the QR code: a screen of 24 lines also has the address of the account, an invitation, the link and the prompt.
const ROOM: Room = Room { columns: 80, lines: 19 };

/// The prompt. It has at most `limit` bytes.
pub(super) fn prompt(ask: Ask, link: &str, qr_on_request: bool, limit: usize) -> String {
    let Ask::Link { qr } = ask else {
        return "Not confirmed yet. Confirm in your browser, then press Enter here:".to_owned();
    };
    let then = if qr_on_request && !qr {
        "Then press Enter here. For a QR code type q and press Enter:"
    } else {
        "Then press Enter here:"
    };
    // ssh writes `(user@host) ` in front of it (SSH-17): the code must begin on a line of its own.
    let alone = format!("\nOpen this link in your own browser and confirm. Pass it on to nobody:\n{link}\n{then}");
    let code = if qr { half_blocks(link, ROOM) } else { None };
    let whole = code.map(|code| format!("\n{code}{alone}")).filter(|whole| whole.len() <= limit);
    whole.unwrap_or(alone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::PLAIN_PROMPT;

    const LINK: &str = "https://mytoken.example.org/c/AbCdEfGh";

    #[test]
    fn link_and_code_fit_on_a_screen_of_24_lines_of_80_columns() {
        let long = format!("{LINK}{}", "x".repeat(78 - LINK.len()));
        for link in [LINK, &long] {
            let shown = prompt(Ask::Link { qr: true }, link, false, 8_192);
            assert!(shown.contains('\u{2588}'), "{shown}");
            // The first line has only what ssh writes.
            assert!(shown.starts_with('\n') && shown.split('\n').count() <= 24, "{shown}");
            assert!(shown.split('\n').all(|line| line.chars().count() <= 80), "{shown}");
        }
    }

    #[test]
    fn without_room_for_the_code_the_link_is_alone_and_readable_without_utf_8() {
        for (ask, on_request, limit) in [
            (Ask::Link { qr: true }, false, PLAIN_PROMPT),
            (Ask::Link { qr: false }, true, 8_192),
            (Ask::Link { qr: false }, false, 8_192),
        ] {
            let shown = prompt(ask, LINK, on_request, limit);
            assert!(shown.is_ascii() && shown.lines().any(|line| line == LINK), "{shown}");
            assert_eq!(shown.contains("type q"), on_request, "{shown}");
        }
        let long = "x".repeat(LINK_LIMIT);
        assert!(prompt(Ask::Link { qr: true }, &long, true, 8_192).len() <= PLAIN_PROMPT);
        assert!(prompt(Ask::Link { qr: false }, &long, true, 8_192).len() <= PLAIN_PROMPT);
        assert!(HINT.is_ascii() && HINT.len() <= PLAIN_PROMPT);
    }

    #[test]
    fn who_was_too_early_does_not_see_the_link_again() {
        assert!(!prompt(Ask::Again, LINK, true, 8_192).contains("https"));
    }
}
