// SPDX-License-Identifier: MIT OR Apache-2.0
//! What speaks against a stored token, and what a killed process has left.

use super::*;

fn server_error(error: ServerError) -> Result<(), Error> {
    Err(Error::Server(error))
}

fn refused() -> Result<(), Error> {
    server_error(ServerError::TokenRefused { server: SERVER.into() })
}

fn failed(status: u16) -> Result<(), Error> {
    server_error(ServerError::Failed { server: SERVER.into(), status })
}

fn too_late() -> Result<(), Error> {
    Err(Error::Http(crate::http::HttpError::TooLate { host: SERVER.into() }))
}

#[test]
fn what_a_request_says_of_the_token_is_noted() {
    use UsedFor::{AccessToken, Other, Question};
    let limited = || server_error(ServerError::TooManyRequests { server: SERVER.into(), retry_after: None });
    let restricted = || server_error(ServerError::UsageRestricted { server: SERVER.into() });
    let not_understood =
        |status| server_error(ServerError::NotUnderstood { server: SERVER.into(), status, reason: "x".into() });
    for rotates in [true, false] {
        let lost = rotates.then_some(Trouble::AnswerLost);
        let (_home, store) = store();
        store.lock(soon()).unwrap().put(&entry("one.one.one", rotates)).unwrap();
        let after = |outcome: Result<(), Error>, used_for| {
            let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
            acquired.ended(&outcome, used_for);
            let own = acquired.stored().trouble;
            drop(acquired);
            let stored = store.token(&server()).unwrap().unwrap();
            assert_eq!((stored.mytoken.expose(), stored.trouble), ("one.one.one", own));
            own
        };
        for (outcome, used_for) in [
            (limited(), AccessToken),
            (failed(500), AccessToken),
            (failed(503), AccessToken),
            (not_understood(404), AccessToken),
            // It is replaced after each access token only.
            (too_late(), Other),
            (too_late(), Question),
        ] {
            assert_eq!(after(outcome.clone(), used_for), None, "{outcome:?}");
        }
        for outcome in [too_late(), failed(502), failed(504), not_understood(200)] {
            assert_eq!(after(outcome.clone(), AccessToken), lost, "{outcome:?}");
            assert_eq!(after(limited(), AccessToken), lost, "it says nothing of the token");
            assert_eq!(after(restricted(), AccessToken), None, "the server has accepted it");
        }
        assert_eq!(after(refused(), Question), Some(Trouble::Refused));
        assert_eq!(after(limited(), AccessToken), Some(Trouble::Refused));
        assert_eq!(after(Ok(()), AccessToken), None);
        let file = store.disk.read("mytoken.example.org.json").unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&file).contains("trouble"), "an earlier release can read it");
    }
}

#[test]
fn a_token_that_begins_later_is_not_refused_for_good() {
    let (_home, store) = store();
    let clause = |nbf: u64| serde_json::from_value(serde_json::json!({"nbf": nbf})).unwrap();
    let ended = || serde_json::from_value(serde_json::json!({"exp": 1})).unwrap();
    for (restrictions, trouble) in [
        (vec![clause(3_000_000_000)], None),
        (vec![ended(), clause(3_000_000_000)], None),
        (vec![ended()], Some(Trouble::Refused)),
        (vec![clause(3_000_000_000), clause(1)], Some(Trouble::Refused)),
        (vec![], Some(Trouble::Refused)),
    ] {
        let entry = StoredToken { restrictions, ..entry("one.one.one", false) };
        store.lock(soon()).unwrap().put(&entry).unwrap();
        store.acquire(&server(), soon()).unwrap().unwrap().ended(&refused(), UsedFor::AccessToken);
        assert_eq!(store.token(&server()).unwrap().unwrap().trouble, trouble, "{entry:?}");
    }
}

#[test]
fn a_token_whose_successor_has_come_is_not_in_doubt() {
    let (_home, store) = store();
    store.lock(soon()).unwrap().put(&entry("one.one.one", true)).unwrap();
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    acquired.store_successor(&Secret::new("two.two.two")).unwrap();
    // The rest of the answer was cut.
    acquired.ended(&too_late(), UsedFor::AccessToken);
    drop(acquired);
    assert_eq!(store.token(&server()).unwrap(), Some(entry("two.two.two", true)));
}

#[test]
fn a_word_of_a_later_release_is_no_damage() {
    let text = serde_json::to_string(&entry("one.one.one", true)).unwrap().replace('{', "{\"trouble\":\"later\",");
    assert!(text.contains("later"));
    let text = text.replacen("{\"trouble\":\"later\",\"on_AT\"", "{\"on_AT\"", 1).replacen(
        "[{\"trouble\":\"later\",",
        "[{",
        1,
    );
    assert_eq!(serde_json::from_str::<StoredToken>(&text).unwrap(), entry("one.one.one", true));
}

/// Where a successor comes into being.
fn next_file(home: &tempfile::TempDir) -> PathBuf {
    TokenStore::default_path(home.path()).join(".next-mytoken.example.org.json")
}

fn leave(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_token_whose_user_was_killed_is_in_doubt_until_a_successor_is_stored() {
    let (home, store) = store();
    let left = next_file(&home);
    let trouble = || store.token(&server()).unwrap().unwrap().trouble;
    store.lock(soon()).unwrap().put(&entry("one.one.one", true)).unwrap();
    let acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    assert!(left.exists() && trouble().is_none(), "somebody is using it");
    drop(acquired);
    assert!(!left.exists() && trouble().is_none());
    leave(&left, b"left");
    assert_eq!(trouble(), Some(Trouble::AnswerLost));
    assert_eq!(store.tokens().unwrap()[0].trouble, Some(Trouble::AnswerLost));
    assert_eq!(store.lock(soon()).unwrap().token(&server()).unwrap().unwrap().trouble, Some(Trouble::AnswerLost));
    // A login that ends early does not hide it, nor what a killed one has left.
    store.lock(soon()).unwrap().check_room(&server()).unwrap();
    leave(&left.with_file_name(".new-mytoken.example.org.json"), b"left");
    assert_eq!(trouble(), Some(Trouble::AnswerLost));
    // The space is used for another one, and what it says is kept.
    let acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    assert_eq!(acquired.stored().trouble, Some(Trouble::AnswerLost));
    drop(acquired);
    assert!(!left.exists() && trouble() == Some(Trouble::AnswerLost));
    store.acquire(&server(), soon()).unwrap().unwrap().store_successor(&Secret::new("two.two.two")).unwrap();
    assert_eq!(trouble(), None);
    // A question reserves nothing, so that its end leaves nothing.
    let asking = store.acquire_to_ask(&server(), soon()).unwrap().unwrap();
    assert!(!left.exists() && store.lock(Deadline::after(Duration::from_millis(50))).is_err());
    drop(asking);
    // What a killed login has left is worth nothing.
    leave(&left.with_file_name(".new-mytoken.example.org.json"), &store.bytes(&entry("evil.evil.evil", true)).unwrap());
    assert_eq!(store.token(&server()).unwrap(), Some(entry("two.two.two", true)));
    assert_eq!(store.acquire(&server(), soon()).unwrap().unwrap().stored().mytoken.expose(), "two.two.two");
}

#[test]
fn what_is_said_of_a_replaced_token_does_not_reach_the_new_one() {
    let (home, store) = store();
    store.lock(soon()).unwrap().put(&entry("one.one.one", false)).unwrap();
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    store.lock(soon()).unwrap().put(&entry("login.login.login", false)).unwrap();
    acquired.ended(&refused(), UsedFor::AccessToken);
    assert_eq!(store.token(&server()).unwrap(), Some(entry("login.login.login", false)));
    // Nor does an old copy of the entry take its place.
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    let renamed = StoredToken { name: "renamed".into(), ..entry("login.login.login", false) };
    store.lock(soon()).unwrap().put(&renamed).unwrap();
    acquired.ended(&refused(), UsedFor::AccessToken);
    assert_eq!(store.token(&server()).unwrap(), Some(StoredToken { trouble: Some(Trouble::Refused), ..renamed }));
    // A successor whose directory could not be synced is in its place, and this process does not know it.
    store.lock(soon()).unwrap().put(&entry("one.one.one", true)).unwrap();
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    let successor = entry("two.two.two", true);
    store.disk.replace("mytoken.example.org.json", &store.bytes(&successor).unwrap()).unwrap();
    let lost = || server_error(ServerError::RotatedTokenNotStored { reason: "x".into() });
    acquired.ended(&lost(), UsedFor::AccessToken);
    drop(acquired);
    assert_eq!(store.token(&server()).unwrap().as_ref(), Some(&successor));
    // One that is whole and not in its place.
    store.lock(soon()).unwrap().put(&entry("one.one.one", true)).unwrap();
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    acquired.reservation = None;
    leave(&next_file(&home), &store.bytes(&successor).unwrap());
    acquired.ended(&lost(), UsedFor::AccessToken);
    drop(acquired);
    assert_eq!(store.token(&server()).unwrap(), Some(successor));
}

#[test]
fn a_whole_successor_that_a_killed_process_has_left_is_the_token() {
    let (home, store) = store();
    let left = next_file(&home);
    let successor = entry("two.two.two", true);
    let put_first = || store.lock(soon()).unwrap().put(&entry("one.one.one", true)).unwrap();
    for step in [WriteStep::Written, WriteStep::Synced] {
        put_first();
        let acquired = store.acquire(&server(), soon()).unwrap().unwrap();
        let bytes = store.bytes(&successor).unwrap();
        let killed = &mut |at| if at == step { Err(std::io::Error::other("killed")) } else { Ok(()) };
        let mut acquired = std::mem::ManuallyDrop::new(acquired);
        let reservation = acquired.reservation.take();
        store.disk.replace_with("mytoken.example.org.json", reservation, &bytes, killed).unwrap_err();
        drop(std::mem::ManuallyDrop::into_inner(acquired));
        assert!(left.exists());
        assert_eq!(store.token(&server()).unwrap().as_ref(), Some(&successor), "{step:?}");
        assert_eq!(store.lock(soon()).unwrap().token(&server()).unwrap().as_ref(), Some(&successor), "{step:?}");
        assert_eq!(store.acquire(&server(), soon()).unwrap().unwrap().stored(), &successor);
        assert!(!left.exists());
        assert_eq!(store.token(&server()).unwrap().as_ref(), Some(&successor));
    }
    // Of another login, another token, or where none can be.
    for foreign in [
        StoredToken { created: 7, ..successor.clone() },
        StoredToken { mom_id: "b3RoZXI".into(), ..successor.clone() },
        StoredToken { mom_id: String::new(), ..successor.clone() },
    ] {
        put_first();
        leave(&left, &store.bytes(&foreign).unwrap());
        let found = store.acquire(&server(), soon()).unwrap().unwrap().stored().clone();
        assert_eq!((found.mytoken.expose(), found.trouble), ("one.one.one", Some(Trouble::AnswerLost)), "{foreign:?}");
    }
    store.lock(soon()).unwrap().put(&entry("still.still.still", false)).unwrap();
    leave(&left, &store.bytes(&successor).unwrap());
    assert_eq!(store.token(&server()).unwrap(), Some(entry("still.still.still", false)), "it does not rotate");
    assert_eq!(store.acquire(&server(), soon()).unwrap().unwrap().stored().mytoken.expose(), "still.still.still");
    // A login and a logout take it away.
    put_first();
    assert!(!left.exists());
    leave(&left, &store.bytes(&successor).unwrap());
    assert!(store.lock(soon()).unwrap().remove(&server()).unwrap() && !left.exists());
    assert_eq!(store.token(&server()).unwrap(), None);
}

/// The one look at the entry before it is used can be earlier than the kill of the process that used it.
#[test]
fn a_token_in_doubt_is_not_given_out_where_its_use_would_revoke_others() {
    for auto_revoke in [true, false] {
        let (home, store) = store();
        let rotation = serde_json::from_value(serde_json::json!({"on_AT": true, "auto_revoke": auto_revoke})).unwrap();
        let entry = StoredToken { rotation: Some(rotation), ..entry("one.one.one", true) };
        store.lock(soon()).unwrap().put(&entry).unwrap();
        assert!(store.acquire(&server(), soon()).is_ok());
        leave(&next_file(&home), b"left");
        let is_refused = |result: Result<Option<AcquiredToken<'_>>, StoreError>| matches!(result, Err(StoreError::Dangerous { server }) if server == SERVER);
        assert_eq!(is_refused(store.acquire_to_ask(&server(), soon())), auto_revoke);
        assert_eq!(is_refused(store.acquire(&server(), soon())), auto_revoke);
    }
}
