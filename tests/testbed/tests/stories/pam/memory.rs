// SPDX-License-Identifier: MIT OR Apache-2.0
//! After `pam_end` no copy of what was entered is left in the memory of the process. The program is `tests/pam_driver`, which keeps the
//! answers in a form that its search does not find.
//!
//! A transfer code is not searched: it is used up when it has been sent.

use serde_json::json;
use testbed::drive::tokens;
use testbed::{Result, Site, story_with_own_servers};

use super::hooks::{STACKS, write_stack};
use super::one_node;
use crate::bad_tokens::attempt::{Driver, PamResult};
use crate::bad_tokens::inputs;

/// Values of `security/_pam_types.h`.
const PAM_SUCCESS: i32 = 0;
const PAM_PERM_DENIED: i32 = 6;
const PAM_AUTH_ERR: i32 = 7;
const PAM_AUTHINFO_UNAVAIL: i32 = 9;

/// A value that only one token has.
const CLAIM: &str = "c1a1mec0ffee4d00df00d5eed0dd1ce5";

/// Runs all hooks and searches the memory. `more` is searched too, but not entered.
fn scan(site: &Site, driver: &Driver, options: &[&str], answers: &[String], more: &[&str]) -> Result<PamResult> {
    let arguments = [&[STACKS, "sshd", "alice", "hooks", "scan"], options].concat();
    let all: Vec<String> = answers.iter().cloned().chain(more.iter().map(|text| (*text).to_owned())).collect();
    driver.run(site, &arguments, &all)
}

#[test]
fn no_copy_of_a_token_is_left_in_memory() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        write_stack(site, "")?;
        let token = inputs::mint(site, &json!({"claims": {"jti": CLAIM}}))?;
        let long = inputs::mint(site, &json!({"pad": 2_000, "claims": {"jti": CLAIM}}))?;
        let of_bob = inputs::mint(site, &json!({"user": "bob", "claims": {"jti": CLAIM}}))?;
        let forged = inputs::mint(site, &json!({"foreign_key": true, "claims": {"jti": CLAIM}}))?;
        let short = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        let mytoken = tokens::mytoken(site, "alice", &json!({}))?;
        let unknown = "abcdefgh".repeat(8);
        for (name, answers, code) in [
            ("an access token", vec![token.clone()], PAM_SUCCESS),
            ("a long access token", inputs::pieces(&long), PAM_SUCCESS),
            ("a short token, which is sent to the server", vec![short.clone()], PAM_SUCCESS),
            ("a mytoken, which is sent to the server", inputs::pieces(&mytoken), PAM_SUCCESS),
            ("another person's token", vec![of_bob], PAM_PERM_DENIED),
            ("a forged token", vec![forged], PAM_AUTH_ERR),
            ("an unknown short token", vec![unknown], PAM_AUTH_ERR),
            ("a password", vec!["correct horse battery staple".to_owned()], PAM_AUTH_ERR),
        ] {
            let result = scan(site, &driver, &[], &answers, &[CLAIM])?;
            assert_eq!(result.code, code, "{name}: {}", result.output);
            assert!(result.output.contains("\ncopies 0\n"), "{name}: {}", result.output);
        }
        site.sh("root", "pkill -STOP -f '[t]estserver serve'")?.ok()?;
        let result = scan(site, &driver, &[], std::slice::from_ref(&short), &[])?;
        site.sh("root", "pkill -CONT -f '[t]estserver serve'")?.ok()?;
        assert_eq!(result.code, PAM_AUTHINFO_UNAVAIL, "{}", result.output);
        assert!(result.output.contains("\ncopies 0\n"), "a silent server: {}", result.output);

        // A control: the search finds a copy.
        let result = scan(site, &driver, &["keep"], &[token], &[])?;
        assert!(result.output.contains("\ncopies 1\n") && result.output.contains("copy in "), "{}", result.output);
        Ok(())
    })
}
