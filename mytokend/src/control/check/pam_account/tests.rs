// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::host::{Person, Ran};
use super::*;

const SUCCESS: i32 = 0;
const PERM_DENIED: i32 = 6;
const AUTH_ERR: i32 = 7;
const NEW_AUTHTOK_REQD: i32 = 12;
const ACCT_EXPIRED: i32 = 13;

/// A host whose modules answer by module, account and origin. An empty text stands for all; the first row counts.
struct Site {
    stack: &'static str,
    access: &'static str,
    answers: Vec<(&'static str, &'static str, &'static str, Result<i32, AccountError>)>,
    asked: RefCell<Vec<String>>,
}

impl Site {
    fn new(stack: &'static str, answers: &[(&'static str, &'static str, &'static str, i32)]) -> Self {
        let answers = answers.iter().map(|(module, user, origin, code)| (*module, *user, *origin, Ok(*code))).collect();
        Self { stack, access: "", answers, asked: RefCell::default() }
    }
}

impl Host for Site {
    fn read(&self, path: &Path) -> Option<String> {
        match path.to_str()? {
            "/etc/pam.d/sshd" => Some(self.stack.to_owned()),
            "/etc/security/access.conf" => Some(self.access.to_owned()),
            _ => None,
        }
    }
    fn exists(&self, _path: &Path) -> bool {
        true
    }
    fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
        Ran::Missing
    }
    fn person(&self, name: &str) -> Result<Option<Person>, NoAnswer> {
        if name == "away" {
            return Err(NoAnswer("the look-up did not answer".to_owned()));
        }
        let uid = if name == "daemon" { 2 } else { 2_001 };
        Ok((name != "nosuch").then(|| Person { uid, gid: uid, shell: "/bin/sh".into() }))
    }
    fn account(&self, question: &AccountQuestion<'_>) -> Result<AccountAnswer, AccountError> {
        let AccountQuestion { line, user, origin, .. } = *question;
        self.asked.borrow_mut().push(format!("{} {user} {origin}", line.name()));
        let is = |wanted: &str, what: &str| wanted.is_empty() || wanted == what;
        let row = self.answers.iter().find(|(m, u, o, _)| is(m, line.name()) && is(u, user) && is(o, origin));
        row.map_or(Ok(SUCCESS), |(_, _, _, answer)| answer.clone())
            .map(|code| AccountAnswer { code, messages: vec![" Your account\u{1b}[2J has expired ".to_owned()] })
    }
}

fn found(site: &Site, user: Option<&str>, mapped: &[&str]) -> Vec<String> {
    let login = toml::from_str("[[rule]]\nname = 'r'\nissuer = 'op'\ntemplate = '{sub}'\n").unwrap();
    let mapped: Vec<String> = mapped.iter().map(ToString::to_string).collect();
    let mut findings = Findings::default();
    findings.pam_account(site, "sshd", user, &login, &mapped);
    let shown = |found: super::super::CheckFinding| format!("{:?} {}: {}", found.level, found.id.unwrap(), found.text);
    findings.findings.into_iter().map(shown).collect()
}

const PLAIN: &str = "account required pam_mytoken.so\naccount required pam_unix.so\n";

#[test]
fn the_line_to_which_a_refusal_is_due_is_named() {
    let debian = "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\naccount requisite pam_deny.so\n\
                  account required pam_permit.so\n";
    let red_hat = "account required pam_unix.so\naccount sufficient pam_localuser.so\n\
                   account [default=bad success=ok user_unknown=ignore] pam_sss.so\naccount required pam_permit.so\n";
    let no = "PAM does not let \"alice\" in, whatever the token: /etc/pam.d/sshd:";
    let said = "(\"Your account?[2J has expired\")";
    for (stack, answers, expected) in [
        (PLAIN, &[][..], "Ok pam-ok: the account stack of sshd lets \"alice\" in".to_owned()),
        (
            PLAIN,
            &[("pam_unix", "", "", ACCT_EXPIRED)],
            format!("Warning pam-account-shut-out: {no}2: pam_unix.so returns acct_expired {said}"),
        ),
        (
            debian,
            &[("pam_unix", "", "", ACCT_EXPIRED)],
            format!("Warning pam-account-shut-out: {no}1: pam_unix.so returns acct_expired {said}"),
        ),
        (
            red_hat,
            &[("pam_localuser", "", "", AUTH_ERR), ("pam_sss", "", "", PERM_DENIED)],
            format!("Warning pam-account-shut-out: {no}3: pam_sss.so returns perm_denied {said}"),
        ),
        (
            debian,
            &[("pam_unix", "", "", NEW_AUTHTOK_REQD)],
            format!(
                "Warning pam-password-expired: PAM asks \"alice\" for a new password, and for the old one before: a \
                 token does not help, /etc/pam.d/sshd:1: pam_unix.so returns new_authtok_reqd {said}"
            ),
        ),
        // A number that pam.conf(5) has no word for.
        (PLAIN, &[("pam_unix", "", "", 77)], "Ok pam-ok: the account stack of sshd lets \"alice\" in".to_owned()),
        // Wrong for everybody: a finding of its own.
        ("account required pam_deny.so\n", &[], String::new()),
        ("account include no-such\n", &[], String::new()),
    ] {
        let shown = found(&Site::new(stack, answers), Some("alice"), &[]).join("; ");
        assert_eq!(shown, expected, "{stack}");
    }
    for nobody in ["nosuch", "daemon", "away"] {
        assert!(found(&Site::new(PLAIN, &[]), Some(nobody), &[]).is_empty(), "tokens do not open {nobody}");
    }
}

#[test]
fn origins_of_pam_access_are_tried() {
    let mut site = Site::new("account required pam_access.so\n", &[("", "", "10.0.0.1", SUCCESS), ("", "", "", 6)]);
    site.access = "# +:x:192.0.2.99\n+:alice:10.0.0.0/8\n-:ALL:ALL\n";
    let shown = found(&site, Some("alice"), &[]);
    assert!(
        shown[0].starts_with("Ok pam-ok: the account stack of sshd lets \"alice\" in from 10.0.0.1, and not from 127."),
        "{shown:?}"
    );
    drop(site.answers.remove(0));
    let shown = found(&site, Some("alice"), &[]);
    assert!(shown[0].ends_with("(tried from 127.0.0.1, 192.0.2.1, 10.0.0.1)"), "{shown:?}");
    let many: String = (1..100).map(|number| format!("+:a:10.{number}.0.0/16\n")).collect();
    site.access = Box::leak(many.into_boxed_str());
    site.asked.take();
    found(&site, Some("alice"), &[]);
    assert_eq!(site.asked.take().len(), MOST_ORIGINS);
}

#[test]
fn modules_that_do_more_than_look_are_not_asked() {
    let site = Site::new(
        "account required pam_faillock.so\naccount required pam_exec.so /bin/x\naccount required /opt/pam_unix.so\n",
        &[],
    );
    let shown = found(&site, Some("alice"), &[]);
    let expected = "Ok pam-ok: the account stack of sshd lets \"alice\" in; not asked, because this could change something: \
                    pam_exec, pam_faillock";
    assert_eq!(shown, [expected]);
    assert!(site.asked.take().iter().all(|asked| asked.starts_with("pam_unix ")));
}

#[test]
fn a_line_without_an_answer_is_asked_once() {
    let mut site = Site::new(PLAIN, &[]);
    site.answers.push(("pam_unix", "", "", Err(AccountError::NoAnswer("it hung".to_owned()))));
    let shown = found(&site, Some("alice"), &[]);
    let expected =
        "Warning pam-account-unknown: /etc/pam.d/sshd:2: pam_unix.so gave no answer about the account: it hung";
    assert_eq!(shown, [expected]);
    assert_eq!(site.asked.take().len(), 1);
    site.answers = vec![("", "", "", Err(AccountError::Unsupported("no libpam".to_owned())))];
    let shown = found(&site, Some("alice"), &[]);
    assert_eq!(shown, ["Ok pam-ok: the account stack of sshd was not asked: no libpam"]);
    assert_eq!(site.asked.take().len(), 1);
}

#[test]
fn accounts_of_map_files_are_asked_until_one_is_let_in() {
    let site = Site::new(PLAIN, &[("pam_unix", "alice", "", ACCT_EXPIRED), ("pam_unix", "bob", "", ACCT_EXPIRED)]);
    let shown = found(&site, None, &["alice", "daemon", "carol", "dave"]);
    assert_eq!(shown, ["Ok pam-ok: it lets \"carol\" of the map files in, and not alice"]);
    assert!(!site.asked.take().iter().any(|asked| asked.contains("dave") || asked.contains("daemon")));
    let shown = found(&site, None, &["alice", "bob"]);
    assert!(shown[0].starts_with("Error pam-account-shut-out: PAM lets none of the 2 accounts of the map files in"));
    assert!(found(&site, None, &[]).is_empty());
    // Without an answer of NSS the others are not known.
    let shown = found(&site, None, &["alice", "away", "bob"]);
    assert!(shown[0].starts_with("Ok pam-ok: 1 accounts of the map files were asked"), "{shown:?}");
    // Of those that are not asked, some can be let in.
    let many = vec!["alice"; MOST_ASKED + 1];
    let shown = found(&site, None, &many);
    assert!(
        shown[0].starts_with("Ok pam-ok: 20 accounts of the map files were asked, and none is let in"),
        "{shown:?}"
    );
    assert!(found(&site, None, &many[1..])[0].starts_with("Error "));
}
