// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of a session, in a temporary directory of the user who runs the test, and the message to the agent.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::session_fixture::{NOW, Runtime, accepted, record, record_of};
use crate::skipped::skip;
use mytoken::Deadline;
use mytoken::private_files::Owner;
use mytoken_login::handover::Record;
use mytoken_login::session::{Installed, register};
use mytoken_login::{SessionDirectory, SessionSettings, SessionStore};
use mytoken_wire::agent::{Answer, Envelope, SessionPlace, SessionStarted};
use serde_json::{Value, json};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_session_gets_its_files_and_they_are_removed_at_its_end() {
    let runtime = Runtime::new();
    let me = Owner::current();
    let installed = runtime.sessions.install(&record(), &SessionSettings::default()).unwrap().unwrap();
    let (bearer, mytoken) = (installed.bearer_token_file.unwrap(), installed.mytoken_file.unwrap());
    assert_eq!(bearer, runtime.path.join(format!("sessions/{}/{}/bt_u{}", me.uid, installed.session, me.uid)));
    assert_eq!(fs::read_to_string(&bearer).unwrap(), "the.access.token");
    assert_eq!(fs::read_to_string(&mytoken).unwrap(), "the.my.token\n");
    for file in [&bearer, &mytoken] {
        assert_eq!((mode(file), fs::metadata(file).unwrap().uid()), (0o600, me.uid));
    }
    assert_eq!(mode(bearer.parent().unwrap()), 0o700);
    assert_eq!(mode(bearer.parent().unwrap().parent().unwrap()), 0o700);
    assert_eq!(mode(&runtime.path.join("sessions")), 0o711);

    let second = runtime.sessions.install(&record(), &SessionSettings::default()).unwrap().unwrap();
    runtime.sessions.remove(&installed.session, me, SessionPlace::Run);
    assert!(!bearer.parent().unwrap().exists());
    assert!(second.bearer_token_file.unwrap().exists(), "another session keeps its files");
    runtime.sessions.remove(&installed.session, me, SessionPlace::Run);
}

#[test]
fn a_session_gets_a_mytoken_only_when_it_is_delegated_and_configured() {
    for (delegated, store, bearer, mytoken) in [
        (true, SessionStore::Mytoken, true, true),
        (false, SessionStore::Mytoken, true, false),
        (true, SessionStore::AccessToken, true, false),
        (true, SessionStore::None, false, false),
    ] {
        let runtime = Runtime::new();
        let mut accepted = accepted();
        accepted.credential.as_mut().unwrap().delegated = delegated;
        let settings = SessionSettings { store, ..SessionSettings::default() };
        let installed = runtime.sessions.install(&record_of(&accepted), &settings).unwrap();
        assert_eq!(installed.is_some(), bearer || mytoken, "{store:?}");
        let installed = installed.unwrap_or_default();
        assert_eq!((installed.bearer_token_file.is_some(), installed.mytoken_file.is_some()), (bearer, mytoken));
        assert_eq!(runtime.path.exists(), bearer, "nothing is made for nothing");
    }
}

#[test]
fn as_root_the_files_belong_to_the_user() {
    if Owner::current().uid != 0 {
        return skip("only root can write as another user").unwrap();
    }
    let runtime = Runtime::new();
    let mut accepted = accepted();
    (accepted.account.uid, accepted.account.gid) = (4_242, 4_343);
    fs::set_permissions(runtime.path.parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();
    let installed = runtime.sessions.install(&record_of(&accepted), &SessionSettings::default()).unwrap().unwrap();
    let bearer = installed.bearer_token_file.unwrap();
    for path in [bearer.as_path(), bearer.parent().unwrap(), bearer.parent().unwrap().parent().unwrap()] {
        let meta = fs::metadata(path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (4_242, 4_343), "{}", path.display());
    }
    assert_eq!(fs::metadata(runtime.path.join("sessions")).unwrap().uid(), 0);

    // The user replaces the session's directory by a link to another directory. Nothing is removed there.
    let victim = runtime.path.join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("precious"), "x").unwrap();
    let session = bearer.parent().unwrap();
    fs::rename(session, session.with_extension("moved")).unwrap();
    symlink(&victim, session).unwrap();
    runtime.sessions.remove(&installed.session, Owner { uid: 4_242, gid: 4_343 }, SessionPlace::Run);
    assert!(victim.join("precious").exists());
}

#[test]
fn the_users_own_runtime_directory_is_used_if_it_is_safe_and_chosen() {
    let me = Owner::current();
    let auto = SessionSettings { directory: SessionDirectory::Auto, ..SessionSettings::default() };
    let (memory, disk) = (tempfile::tempdir_in("/dev/shm").unwrap(), tempfile::tempdir_in("/var/tmp").unwrap());
    for (users, mode, settings, expected) in [
        (memory.path(), Some(0o700), &auto, SessionPlace::User),
        (memory.path(), Some(0o700), &SessionSettings::default(), SessionPlace::Run),
        (memory.path(), Some(0o755), &auto, SessionPlace::Run),
        (memory.path(), None, &auto, SessionPlace::Run),
        (disk.path(), Some(0o700), &auto, SessionPlace::Run),
        (Path::new("/nowhere"), None, &auto, SessionPlace::Run),
    ] {
        let own = users.join(me.uid.to_string());
        if let Some(mode) = mode {
            fs::create_dir(&own).unwrap();
            fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
        }
        let runtime = Runtime::new();
        let sessions = runtime.sessions.clone().with_users(users);
        let installed = sessions.install(&record(), settings).unwrap().unwrap();
        assert_eq!(installed.place, expected, "{own:?} {mode:?}");
        let bearer = installed.bearer_token_file.unwrap();
        assert_eq!(bearer.starts_with(own.join("mytoken")), expected == SessionPlace::User, "{bearer:?}");
        sessions.remove(&installed.session, me, installed.place);
        assert!(!bearer.parent().unwrap().exists());
        let _ = fs::remove_dir_all(&own);
    }
}

#[test]
fn a_link_in_place_of_the_users_own_directory_is_not_followed() {
    let (me, users) = (Owner::current(), tempfile::tempdir_in("/dev/shm").unwrap());
    let (own, elsewhere) = (users.path().join(me.uid.to_string()), users.path().join("elsewhere"));
    for directory in [&own, &elsewhere] {
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    symlink(&elsewhere, own.join("mytoken")).unwrap();
    let runtime = Runtime::new();
    let auto = SessionSettings { directory: SessionDirectory::Auto, ..SessionSettings::default() };
    let installed = runtime.sessions.clone().with_users(users.path()).install(&record(), &auto).unwrap().unwrap();
    assert_eq!(installed.place, SessionPlace::Run);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

/// The message that `register` sends for this record.
fn registration(record: &Record, settings: &SessionSettings, installed: &Installed) -> Value {
    registered(record, settings, installed, |_| Answer::Done {}).0
}

/// The message that `register` sends for this record, and the keys that an agent with this answer ignores.
fn registered(
    record: &Record,
    settings: &SessionSettings,
    installed: &Installed,
    answer: fn(&Value) -> Answer,
) -> (Value, Vec<&'static str>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let message: Value = serde_json::from_str(&line).unwrap();
        let answer = serde_json::to_string(&Envelope::of(answer(&message))).unwrap();
        stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
        message
    });
    let deadline = Deadline::after(Duration::from_secs(30));
    let ignored = register(&socket, record, settings, installed, 4_242, deadline).unwrap();
    (agent.join().unwrap(), ignored)
}

#[test]
fn what_an_agent_of_an_earlier_release_ignores_is_found() {
    let installed = Installed {
        session: "0123456789abcdef0123456789abcdef".into(),
        place: SessionPlace::User,
        bearer_token_file: Some(PathBuf::from("/x")),
        mytoken_file: None,
    };
    let mut accepted = accepted();
    accepted.credential.as_mut().unwrap().for_session = true;
    let record = record_of(&accepted);
    let settings = SessionSettings { revoke_at_logout: true, linger: true, retain: true, ..SessionSettings::default() };
    let ignored = |settings: &SessionSettings, installed: &Installed, answer: fn(&Value) -> Answer| {
        registered(&record, settings, installed, answer).1
    };
    let all = ["revoke_at_logout", "linger", "retain", "directory"];
    assert_eq!(ignored(&settings, &installed, |_| Answer::Done {}), all);
    let present = |message: &Value| {
        let mut started = SessionStarted { place: SessionPlace::User, ..SessionStarted::default() };
        let asked = |name: &str| message[name] == json!(true);
        (started.revoke_at_end, started.linger, started.retain) =
            (asked("revoke_at_end"), asked("linger"), asked("retain"));
        Answer::SessionStarted(started)
    };
    assert!(ignored(&settings, &installed, present).is_empty(), "this release knows them");
    let installed = Installed { place: SessionPlace::Run, ..installed };
    assert!(ignored(&SessionSettings::default(), &installed, |_| Answer::Done {}).is_empty(), "nothing is asked for");
}

#[test]
fn the_agent_gets_the_mytoken_and_the_expiry_and_lifetime_of_the_access_token() {
    let installed = Installed {
        session: "0123456789abcdef0123456789abcdef".into(),
        place: SessionPlace::Run,
        bearer_token_file: Some(PathBuf::from("/x")),
        mytoken_file: None,
    };
    let me = Owner::current();
    let start = json!({"v": 1, "call": "session_start", "session": installed.session, "uid": me.uid, "gid": me.gid,
        "pid": 4_242, "server": "testbed", "mytoken": "the.my.token", "scope": "openid", "audience": "https://testbed",
        "exp": NOW + 3_600, "lifetime": 3_500, "told": true});
    let settings = SessionSettings::default();
    assert_eq!(registration(&record(), &settings, &installed), start);
    let mut untold = record();
    untold.untold = true;
    assert_eq!(registration(&untold, &settings, &installed).get("told"), None, "the agent counts the login now");

    // Without the file or without a mytoken there is nothing to renew. The message holds no secret then.
    let without = json!({"v": 1, "call": "session_start", "session": installed.session, "uid": me.uid, "gid": me.gid,
        "pid": 4_242, "exp": NOW + 3_600, "lifetime": 3_500, "told": true});
    let mut by_access_token = accepted();
    by_access_token.credential.as_mut().unwrap().renewal = None;
    assert_eq!(registration(&record_of(&by_access_token), &settings, &installed), without);
    let own = Installed { place: SessionPlace::User, ..installed.clone() };
    assert_eq!(registration(&record(), &settings, &own)["place"], "user");
    let installed = Installed { bearer_token_file: None, ..installed };
    assert_eq!(registration(&record(), &settings, &installed), without);
}

#[test]
fn the_agent_is_asked_to_revoke_only_the_mytoken_of_this_session_and_only_if_that_is_configured() {
    let installed = Installed {
        session: "0123456789abcdef0123456789abcdef".into(),
        place: SessionPlace::Run,
        bearer_token_file: Some(PathBuf::from("/x")),
        mytoken_file: None,
    };
    for (delegated, for_session, revoke_at_logout, expected) in [
        (true, true, true, Some(true)),
        (true, true, false, None),
        (true, false, true, None),
        // Of a login with a link, without jobs.
        (false, true, true, Some(true)),
        (false, false, true, None),
    ] {
        let mut accepted = accepted();
        let credential = accepted.credential.as_mut().unwrap();
        (credential.delegated, credential.for_session) = (delegated, for_session);
        let settings = SessionSettings { revoke_at_logout, ..SessionSettings::default() };
        let message = registration(&record_of(&accepted), &settings, &installed);
        assert_eq!(message.get("revoke_at_end").and_then(Value::as_bool), expected, "{delegated} {for_session}");
    }
}
