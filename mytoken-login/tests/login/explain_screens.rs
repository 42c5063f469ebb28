// SPDX-License-Identifier: MIT OR Apache-2.0
//! The screens of `mytokenctl explain`, line by line, and the same in the log.

use std::cell::Cell;
use std::fs;
use std::time::Instant;

use crate::support::{Algorithm, NOW, TestKeys, access_token, claims, sign};
use mytoken::config::{FileTrust, Shared};
use mytoken::http::{HttpSettings, LazyClient};
use mytoken::{Deadline, Secret};
use mytoken_login::budget::{Allowance, BudgetSettings};
use mytoken_login::mapper::{HostMappers, MotleyCueRequests};
use mytoken_login::validation::{PresentedToken, Validator};
use mytoken_login::{
    AccountDatabase, AccountLookupFailed, Attempt, Explanation, LoginContext, LoginSettings, Maps, Refusal, Remote,
    SettingPlaces, examine, examine_claims,
};
use mytoken_wire::clock::FixedClock;
use serde_json::{Map, Value, json};

const SHARED: &str = "\
# Whose tokens are accepted.
[[issuer]]
name = \"other\"
url = \"https://other.example.org\"
audiences = [\"x\"]

[[issuer]]
name = \"op\"
url = \"https://op.example.org\"
audiences = [\"https://testbed\"]
algorithms = [\"RS256\", \"ES256\"]
";

const LOGIN: &str = "\
services = [\"sshd\"]

[accounts]
deny = [\"root\"]

[[rule]]
name = \"others\"
issuer = \"other\"
template = \"{sub}\"

[[rule]]
name = \"hpc\"
issuer = \"op\"
template = \"{preferred_username}\"
require_groups = [\"staff\"]
";

const DROP_IN: &str = "\
# Administrators.
[[rule]]
name = \"admins\"
issuer = \"op\"
template = \"adm-{preferred_username}\"
";

struct Accounts;

impl AccountDatabase for Accounts {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        Ok(["alice", "bob"].contains(&name).then_some((2_001, 2_001)))
    }
}

/// The provider's endpoint. It counts how often it is asked.
struct Provider<'a>(&'a Cell<u32>, Value);

impl Validator for Provider<'_> {
    fn validate(
        &self,
        _: PresentedToken<'_>,
        _: &mytoken::config::IssuerSettings,
        _: Deadline,
    ) -> Result<Map<String, Value>, Refusal> {
        self.0.set(self.0.get() + 1);
        Ok(self.1.as_object().unwrap().clone())
    }
}

/// The screen and the lines of the log for a token, or for claims. `more` is added to the last `[[issuer]]`.
fn explained(user: &str, token: Option<&str>, claims: &Value, more: &str) -> (String, Vec<String>) {
    explained_by(user, token, claims, more, LOGIN)
}

fn explained_by(user: &str, token: Option<&str>, claims: &Value, more: &str, login: &str) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("login.d")).unwrap();
    let shared = format!("{SHARED}{more}");
    for (name, text) in [("mytoken.toml", shared.as_str()), ("login.toml", login), ("login.d/10-admins.toml", DROP_IN)]
    {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let trust = FileTrust::user(nix::unistd::geteuid().as_raw());
    let shared = Shared::load(dir.path(), trust).unwrap();
    let settings = LoginSettings::load(dir.path(), trust, &shared).unwrap();
    let places = SettingPlaces::read(dir.path(), trust, &shared.issuers);
    let (asked, keys) = (Cell::new(0), TestKeys::default());
    // No test here asks motley_cue.
    let http_settings = HttpSettings::default();
    let http = LazyClient::new(&http_settings);
    let budget = BudgetSettings::default();
    let allowance = Allowance::new(None, &budget, Remote::of(None, None), None);
    let motley_cue = MotleyCueRequests::new(&http, &allowance);
    let context = LoginContext {
        settings: &settings,
        issuers: &shared.issuers,
        servers: &[],
        accounts: &Accounts,
        maps: &Maps::default(),
        mappers: &HostMappers::new(trust, &motley_cue),
        keys: &keys,
        userinfo: &Provider(&asked, json!({"sub": "s-2"})),
        introspection: &Provider(&asked, json!({"sub": "s-1"})),
        used_tokens: None,
        link: None,
        clock: &FixedClock(NOW),
        began: Instant::now(),
    };
    let attempt = Attempt { service: "sshd".into(), user: user.into(), rhost: None, host: "login".into() };
    let explanation = match token {
        Some(token) => Explanation::of(&examine(&attempt, &Secret::new(token), &context), &attempt, &settings, &places),
        None => {
            let decision = examine_claims(&attempt, claims.as_object().unwrap(), &context);
            assert_eq!((asked.get(), keys.calls.borrow().len()), (0, 0), "claims cause no request");
            Explanation::of_claims(&decision, &attempt, &settings, &places)
        }
    };
    let (screen, logged) = (explanation.screen(), explanation.log_lines());
    for part in token.unwrap_or_default().split('.').filter(|part| part.len() > 8) {
        assert!(!screen.contains(part) && !logged.concat().contains(part), "{screen}");
    }
    (screen, logged)
}

fn of_token(user: &str, changes: &Value) -> String {
    explained(user, Some(&access_token(changes)), &Value::Null, "").0
}

fn of_claims(user: &str, changes: &Value, more: &str) -> String {
    let claims = serde_json::from_str(&claims(changes)).unwrap();
    explained(user, None, &claims, more).0
}

#[test]
fn an_accepted_token() {
    let expected = "\
✓ account         login.toml (default)     uid 2001
  token                                    access token (JWT)
✓ issuer          mytoken.toml:9           \"op\", https://op.example.org
✓ algorithm       mytoken.toml:11          ES256
✓ typ             mytoken.toml:7 (default) typ at+jwt
✓ signature       mytoken.toml:7 (default) ES256, key ec
✓ times           mytoken.toml:7 (default) expires in 60 minutes
✓ audience        mytoken.toml:10          https://elsewhere https://testbed
✓ scope           mytoken.toml:7 (default) none required
✓ identity                                 s-1
- rule \"others\"   login.toml:8             is for issuer \"other\"
✓ rule \"hpc\"      login.toml:11            account template {preferred_username} gives the account; it has group staff
- rule \"admins\"   login.d/10-admins.toml:2 not reached: an earlier rule has decided
accepted: rule \"hpc\" (PAM_SUCCESS)
";
    assert_eq!(of_token("alice", &json!({"groups": ["staff"]})), expected);
}

#[test]
fn a_missing_requirement_stands_at_its_line() {
    let screen = of_token("alice", &json!({"groups": ["guests"]}));
    let expected = "\
- rule \"others\"   login.toml:8             is for issuer \"other\"
✗ rule \"hpc\"      login.toml:15            group staff missing
✗ rule \"admins\"   login.d/10-admins.toml:5 account template adm-{preferred_username} gives \"adm-alice\", asked for \"alice\"
refused: requirement (PAM_PERM_DENIED): your identity does not meet a requirement of this account: group staff
  group staff
";
    assert!(screen.ends_with(expected), "{screen}");
}

#[test]
fn what_comes_after_the_refusal_is_not_reached() {
    let expected = "\
✓ account         login.toml (default)     uid 2001
  token                                    access token (JWT)
✓ issuer          mytoken.toml:9           \"op\", https://op.example.org
✓ algorithm       mytoken.toml:11          ES256
✓ typ             mytoken.toml:7 (default) typ at+jwt
✓ signature       mytoken.toml:7 (default) ES256, key ec
✗ times           mytoken.toml:7 (default) the token has expired; get a new one; exp is 2 hours ago by this host's clock
- audience                                 not reached
- scope                                    not reached
- identity                                 not reached
- rule \"others\"   login.toml:6             not reached
- rule \"hpc\"      login.toml:11            not reached
- rule \"admins\"   login.d/10-admins.toml:2 not reached
refused: expired (PAM_AUTH_ERR): the token has expired; get a new one
";
    assert_eq!(of_token("alice", &json!({"exp": NOW - 7_200})), expected);
}

#[test]
fn each_check_names_its_line() {
    let forged = {
        let token = access_token(&json!({}));
        let (signed, _) = token.rsplit_once('.').unwrap();
        let other = access_token(&json!({"sub": "s-2"}));
        format!("{signed}.{}", other.rsplit_once('.').unwrap().1)
    };
    let hs256 = sign(r#"{"alg":"HS256","typ":"at+jwt","kid":"ec"}"#, &claims(&json!({})), "ec", Algorithm::HS256);
    let id_token = access_token(&json!({"token_use": "id"}));
    for (token, line) in [
        (
            forged.as_str(),
            "✗ signature       mytoken.toml:7 (default) ES256, key ec: the signature of the token is not valid",
        ),
        (&hs256, "✗ algorithm       mytoken.toml:11          HS256; accepted: RS256 ES256"),
        (
            &id_token,
            "✗ typ             mytoken.toml:7 (default) this is not an access token but an ID token (typ at+jwt)",
        ),
        (
            &access_token(&json!({"aud": "https://elsewhere"})),
            "✗ audience        mytoken.toml:10          for: https://elsewhere; accepted: https://testbed",
        ),
        (
            &access_token(&json!({"iss": "https://evil.example/\u{1b}[2J"})),
            "✗ issuer                                   no [[issuer]] of mytoken.toml has this url: https://evil.example/?[2J",
        ),
        (
            &access_token(&json!({"nbf": NOW + 20})),
            "! clock                                    valid only with the issuer's leeway: 20 s too early",
        ),
        ("nonsense of somebody", "✗ token                                    the token was not accepted"),
        ("", "✗ token                                    no token was entered"),
    ] {
        let (screen, _) = explained("alice", Some(token), &Value::Null, "");
        assert!(screen.lines().any(|found| found.starts_with(line)), "{line}\n{screen}");
    }
    let required = "required_scopes = ['compute']\n";
    let (screen, _) = explained("alice", Some(&access_token(&json!({}))), &Value::Null, required);
    let line = "✗ scope           mytoken.toml:12          compute is missing; held: openid profile storage.read";
    assert!(screen.contains(line), "{screen}");
    for (user, line) in [
        ("root", "✗ account         login.toml:4             the account is denied"),
        ("nobodyhere", "✗ account                                  this host has no such account"),
    ] {
        let (screen, _) = explained(user, Some(&access_token(&json!({}))), &Value::Null, "");
        assert!(screen.contains(line), "{screen}");
    }
}

#[test]
fn the_provider_is_asked_and_its_answer_is_a_check() {
    let modes = "validation = ['local', 'introspection', 'userinfo']\nclient_id = 'c'\nclient_secret_file = '/x'\n";
    let (screen, _) = explained("alice", Some(&access_token(&json!({}))), &Value::Null, modes);
    let expected = "\
✓ signature       mytoken.toml:12          ES256, key ec
✓ introspection   mytoken.toml:12          the provider says that it is active
✗ userinfo        mytoken.toml:12          what the provider says about the token does not agree with it (claim sub)
- times                                    not reached
";
    assert!(screen.contains(expected), "{screen}");
}

#[test]
fn claims_from_a_file_are_never_called_genuine() {
    let expected = "\
✓ account         login.toml (default)     uid 2001
  token                                    claims from a file
✓ issuer          mytoken.toml:9           \"op\", https://op.example.org
✓ typ                                      no claim of another kind of token
! signature                                not checked: there is no token, only its claims
✓ times           mytoken.toml:7 (default) expires in 60 minutes
✓ audience        mytoken.toml:10          https://elsewhere https://testbed
✓ scope           mytoken.toml:7 (default) none required
✓ identity                                 s-1
- rule \"others\"   login.toml:8             is for issuer \"other\"
✓ rule \"hpc\"      login.toml:11            account template {preferred_username} gives the account; it has group staff
- rule \"admins\"   login.d/10-admins.toml:2 not reached: an earlier rule has decided
would be accepted with a genuine token: rule \"hpc\" (PAM_SUCCESS)
The signature was not checked: this says nothing about a token.
";
    assert_eq!(of_claims("alice", &json!({"groups": ["staff"]}), ""), expected);
}

#[test]
fn a_mapper_stands_at_its_line_and_no_command_is_asked_about_claims() {
    let rules = "[[rule]]\nname = \"own\"\nissuer = \"op\"\nuser_file = \".config/ids\"\n\n[[rule]]\n\
                 name = \"asked\"\nissuer = \"op\"\ncommand = [\"/bin/true\"]\nrun_as = \"nobody\"\n";
    let login = format!("services = [\"sshd\"]\n\n{rules}");
    let claims: Value = serde_json::from_str(&claims(&json!({}))).unwrap();
    let (screen, _) = explained_by("bob", None, &claims, "", &login);
    let own = screen.lines().find(|line| line.contains("rule \"own\"")).unwrap();
    assert!(
        own.starts_with("\u{2717} rule \"own\"      login.toml:6 ") && own.contains("user file .config/ids"),
        "{screen}"
    );
    let line = "! rule \"asked\"    login.toml:11            command /bin/true is not asked about claims from a file";
    assert!(screen.contains(line), "{screen}");
    let end = "\
undecided: depends on what was not asked and could give the account: rule \"asked\"
otherwise refused: ";
    assert!(screen.contains(end), "{screen}");
}

#[test]
fn the_verdict_about_claims_depends_on_rules_that_are_not_asked() {
    let template = "[[rule]]\nname = \"hpc\"\nissuer = \"op\"\ntemplate = \"{preferred_username}\"\n";
    let command = "[[rule]]\nname = \"asked\"\nissuer = \"op\"\ncommand = [\"/bin/true\"]\nrun_as = \"nobody\"\n";
    // Nothing listens there: an answer would be that it cannot be reached.
    let motley_cue = "[[rule]]\nname = \"mc\"\nissuer = \"op\"\nmotley_cue = \"https://127.0.0.1:1\"\n";
    let of = |user: &str, changes: &Value, rules: &[&str]| {
        let login = format!("services = [\"sshd\"]\n\n{}", rules.join("\n"));
        explained_by(user, None, &serde_json::from_str(&claims(changes)).unwrap(), "", &login).0
    };
    let accepted = "would be accepted with a genuine token: rule \"hpc\" (PAM_SUCCESS)\n";

    let screen = of("alice", &json!({}), &[motley_cue, template]);
    let line = screen.lines().find(|line| line.contains("rule \"mc\"")).unwrap();
    assert!(line.starts_with("! rule") && line.ends_with("is not asked about claims from a file"), "{screen}");
    let end = format!(
        "undecided: depends on what was not asked and could refuse the login: rule \"mc\"\notherwise {accepted}"
    );
    assert!(screen.contains(&end), "{screen}");
    // A later rule is not reached, and a command ends no login.
    for rules in [[template, motley_cue], [command, template]] {
        let screen = of("alice", &json!({}), &rules);
        assert!(screen.contains(&format!("\n{accepted}")) && !screen.contains("undecided"), "{screen}");
    }
    let screen = of("bob", &json!({}), &[motley_cue, command, template]);
    let end = "undecided: depends on what was not asked and could give the account: rule \"mc\", rule \"asked\"\n\
               otherwise refused: not_mapped (PAM_PERM_DENIED): ";
    assert!(screen.contains(end), "{screen}");
    // A check decides, or the rule is not for this issuer.
    let screen = of("bob", &json!({"exp": NOW - 7_200}), &[motley_cue, template]);
    assert!(screen.contains("\nrefused: expired") && !screen.contains("undecided"), "{screen}");
    let screen = of("bob", &json!({}), &[motley_cue.replace("\"op\"", "\"other\"").as_str(), template]);
    assert!(screen.contains("\nrefused: not_mapped") && !screen.contains("undecided"), "{screen}");
}

#[test]
fn old_claims_are_refused_but_their_rules_are_shown() {
    let screen = of_claims("bob", &json!({"exp": NOW - 7_200, "aud": "x"}), "");
    for line in [
        "✗ times           mytoken.toml:7 (default) the token has expired",
        "✗ audience        mytoken.toml:10          for: x; accepted: https://testbed",
        "✗ rule \"hpc\"      login.toml:14            account template {preferred_username} gives \"alice\", asked for \"bob\"",
        "! the rules are shown although a check failed: a login would not reach them",
        "refused: expired (PAM_AUTH_ERR)",
        "The signature was not checked",
    ] {
        assert!(screen.contains(line), "{line}\n{screen}");
    }
    let asks = "validation = ['local', 'userinfo']\n";
    let screen = of_claims("bob", &json!({}), asks);
    assert!(screen.contains("! userinfo        mytoken.toml:12          not asked"), "{screen}");
    assert!(of_claims("root", &json!({}), "").contains("✗ account         login.toml:4"));
}

#[test]
fn the_log_has_the_same_in_one_line_for_each_check() {
    let (_, logged) = explained("alice", Some(&access_token(&json!({"exp": NOW - 7_200}))), &Value::Null, "");
    let expected = [
        r#"check user=alice what=account verdict=passed config=login.toml found="uid 2001""#,
        r#"check user=alice what=token verdict=noted config=- found="access token (JWT)""#,
        r#"check user=alice what=issuer verdict=passed config=mytoken.toml:9 found="\x22op\x22, https://op.example.org""#,
        r#"check user=alice what=algorithm verdict=passed config=mytoken.toml:11 found="ES256""#,
        r#"check user=alice what=typ verdict=passed config=mytoken.toml:7 found="typ at+jwt""#,
        r#"check user=alice what=signature verdict=passed config=mytoken.toml:7 found="ES256, key ec""#,
        r#"check user=alice what=times verdict=failed config=mytoken.toml:7 found="the token has expired; get a new one; exp is 2 hours ago by this host's clock""#,
    ];
    assert_eq!(logged, expected);
    let hostile = json!({"iss": "x\nrefuse user=root \" found="});
    let (_, logged) = explained("alice", Some(&access_token(&hostile)), &Value::Null, "");
    let last = logged.last().unwrap();
    assert!(last.ends_with(r#"this url: x\x0arefuse user\x3droot \x22 found\x3d""#), "{last}");
}
