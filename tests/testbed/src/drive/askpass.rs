// SPDX-License-Identifier: MIT OR Apache-2.0
//! An askpass program for plain ssh. It answers prompts with prepared texts and records the prompts.

use crate::site::command::CommandOutcome;
use crate::{Result, Site};

/// Prints one line of `answers` per prompt. When no line is left it fails, like a user who cancels. The first answer comes not before
/// `ANSWER_FROM`, Unix milliseconds.
const ASKPASS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
printf '%s\n--\n' "$1" >>prompts
while [ "$(date +%s%3N)" -lt "${ANSWER_FROM:-0}" ]; do sleep 0.1; done
head -n 1 answers | grep . || exit 1
sed -i 1d answers
"#;

const FOLDER: &str = ".askpass";

/// Runs `command` (ssh, or a program that runs ssh) as `user`, with these answers to its prompts.
///
/// # Errors
/// When it could not be started.
pub fn run_with_answers(site: &Site, user: &str, answers: &[&str], command: &str) -> Result<CommandOutcome> {
    prepare(site, user, answers)?;
    run_with_prepared_answers(site, user, command)
}

/// Runs `command` as `user`, with the answers of an earlier [`prepare`].
///
/// # Errors
/// When it could not be started.
pub fn run_with_prepared_answers(site: &Site, user: &str, command: &str) -> Result<CommandOutcome> {
    let program = crate::site::users::home(user).join(FOLDER).join("ask").display().to_string();
    site.script(user, command).env("SSH_ASKPASS", &program).env("SSH_ASKPASS_REQUIRE", "force").run()
}

/// Prepares the answers and clears the record of prompts.
///
/// # Errors
/// When they cannot be written.
pub fn prepare(site: &Site, user: &str, answers: &[&str]) -> Result<()> {
    let lines: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    let setup = format!(
        "umask 077 && mkdir -p {FOLDER} && cd {FOLDER} && : >prompts && cat >answers && \
         cat >ask <<'END' && chmod 700 ask\n{ASKPASS}END\n"
    );
    site.script(user, &setup).stdin(lines).run()?.ok().map(drop)
}

/// The prompts since the answers were prepared.
///
/// # Errors
/// When they cannot be read.
pub fn prompts(site: &Site, user: &str) -> Result<Vec<String>> {
    let recorded = site.sh(user, &format!("cat {FOLDER}/prompts"))?.ok()?.stdout;
    Ok(recorded.split("\n--\n").filter(|prompt| !prompt.is_empty()).map(str::to_owned).collect())
}

/// Splits a long token into chunks `@1/3:...`, `@2/3:...`, `@3/3:...`, because ssh sends at most 1023 bytes per answer.
#[must_use]
pub fn split_token(token: &str) -> Vec<String> {
    const PIECE: usize = 900;
    let pieces: Vec<&str> =
        token.as_bytes().chunks(PIECE).filter_map(|piece| std::str::from_utf8(piece).ok()).collect();
    let count = pieces.len();
    pieces.iter().enumerate().map(|(index, piece)| format!("@{}/{count}:{piece}", index + 1)).collect()
}
