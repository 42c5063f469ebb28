// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl explain`: the decision about a login with this token as this user, or about claims, and its reasons.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use mytoken::config::{FileTrust, Shared};
use mytoken::{Error, Secret};
use mytoken_login::{
    Attempt, Explanation, LoginContext, LoginResources, LoginSettings, SettingPlaces, examine, examine_claims,
};
use serde_json::{Map, Value};

/// Largest file with claims, in bytes.
const CLAIMS_LIMIT: u64 = 1024 * 1024;

/// The explanation, and whether the login would be accepted. As in a login, a mytoken loses one use and a transfer code is used up.
///
/// # Errors
/// An error in the configuration.
pub fn explain(config: &Path, user: &str, token: &Secret) -> Result<(String, bool), Error> {
    with_configuration(config, FileTrust::current(), user, |attempt, context, places| {
        let report = examine(attempt, token, context);
        let explanation = Explanation::of(&report, attempt, context.settings, places);
        (explanation, report.outcome.is_ok())
    })
}

/// The explanation of the decision about the claims in a file, and whether a genuine token with them is accepted, whatever a rule says
/// that was not asked. No server is asked, and the claims are not verified.
///
/// # Errors
/// The file cannot be used, or an error in the configuration.
pub fn explain_claims(config: &Path, user: &str, file: &Path) -> Result<(String, bool), String> {
    explain_claims_with(config, FileTrust::current(), user, file)
}

fn explain_claims_with(config: &Path, trust: FileTrust, user: &str, file: &Path) -> Result<(String, bool), String> {
    let claims = read_claims(file).map_err(|problem| format!("{}: {problem}", file.display()))?;
    with_configuration(config, trust, user, |attempt, context, places| {
        let decision = examine_claims(attempt, &claims, context);
        let explanation = Explanation::of_claims(&decision, attempt, context.settings, places);
        (explanation, decision.is_accepted())
    })
    .map_err(|error| error.to_string())
}

fn with_configuration(
    config: &Path,
    trust: FileTrust,
    user: &str,
    decide: impl FnOnce(&Attempt, &LoginContext<'_>, &SettingPlaces) -> (Explanation, bool),
) -> Result<(String, bool), Error> {
    let shared = Shared::load(config, trust)?;
    let login = LoginSettings::load(config, trust, &shared)?;
    let places = SettingPlaces::read(config, trust, &shared.issuers);
    let attempt = Attempt {
        service: login.services.first().cloned().unwrap_or_default(),
        user: user.to_owned(),
        rhost: None,
        host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let resources = LoginResources::of_administrator();
    let allowance = resources.allowance(&login.budget);
    resources.with_context(&shared, &login, &allowance, |context| {
        let (explanation, accepted) = decide(&attempt, context, &places);
        let problems: String = context.maps.problems().iter().map(|line| format!("! {line}\n")).collect();
        (explanation.screen() + &problems, accepted)
    })
}

/// The claims in a file: one JSON object. Its text is never repeated: it may be a token by mistake.
fn read_claims(file: &Path) -> Result<Map<String, Value>, String> {
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|error| error.to_string())?;
    opened.take(CLAIMS_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > CLAIMS_LIMIT {
        return Err("it is larger than 1 MiB".to_owned());
    }
    serde_json::from_slice(&bytes).map_err(|_| {
        "it is no JSON object; it must hold the claims of a token, not the token: give that on standard input"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mytoken::{Clock as _, SystemClock};

    use super::*;

    const SHARED: &str =
        "[[issuer]]\nname = 'op'\nurl = 'https://op.example.org'\naudiences = ['https://login.example.org']\n";
    const LOGIN: &str = "[accounts]\nmin_uid = 0\ndeny = []\n\n[[rule]]\nname = 'hpc'\nissuer = 'op'\n\
                         template = '{preferred_username}'\nrequire_groups = ['staff']\n";

    fn explained(claims: &str) -> Result<(String, bool), String> {
        explained_by("no-such-account-here", LOGIN, claims)
    }

    fn explained_by(user: &str, login: &str, claims: &str) -> Result<(String, bool), String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("mytoken.toml", SHARED), ("login.toml", login), ("claims.json", claims)] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        explain_claims_with(dir.path(), me, user, &dir.path().join("claims.json"))
    }

    #[test]
    fn claims_are_accepted_only_if_no_rule_could_refuse_that_was_not_asked() {
        let now = SystemClock.now();
        let claims = serde_json::json!({
            "iss": "https://op.example.org", "sub": "s", "aud": "https://login.example.org", "iat": now,
            "exp": now + 3_600, "preferred_username": "daemon", "groups": ["staff"],
        });
        let claims = &claims.to_string();
        let (text, accepted) = explained_by("daemon", LOGIN, claims).unwrap();
        assert!(accepted && text.contains("would be accepted"), "{text}");
        let motley_cue = "[[rule]]\nname = 'mc'\nissuer = 'op'\nmotley_cue = 'https://127.0.0.1:1'\n\n[[rule]]";
        let (text, accepted) = explained_by("daemon", &LOGIN.replace("[[rule]]", motley_cue), claims).unwrap();
        assert!(!accepted && text.contains("undecided"), "{text}");
    }

    #[test]
    fn claims_are_explained_with_the_lines_of_the_configuration() {
        let (text, accepted) = explained("{\"iss\": \"https://op.example.org\", \"sub\": \"s\"}").unwrap();
        assert!(!accepted, "{text}");
        for part in [
            "✗ account",
            "! signature       ",
            "not checked",
            "- rule \"hpc\"      login.toml:5",
            "refused: user_unknown",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_file_that_holds_no_claims_is_told_and_not_repeated() {
        for text in ["eyJhbGciOiJSUzI1NiJ9.secret.secret", "[]", "\"secret\"", "", "{\"secret\": 1"] {
            let error = explained(text).unwrap_err();
            assert!(
                error.contains("no JSON object") && !error.contains("secret.") && !error.contains("eyJ"),
                "{error}"
            );
        }
        assert!(explained(&format!("{{\"a\": \"{}\"}}", "x".repeat(1024 * 1024))).unwrap_err().contains("1 MiB"));
        assert!(explain_claims(Path::new("/nowhere"), "a", Path::new("/nowhere/x")).is_err());
    }
}
