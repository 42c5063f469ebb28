// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kept texts on a real disk.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

impl Escrow {
    /// Keeps a text, and waits for the disk. The same text again is no error.
    pub(crate) fn keep(self: &Arc<Self>, key: &TextKey, text: &KeptText) -> Result<(), EscrowError> {
        match self.reserve(key, text)? {
            Reserved::Kept => self.check_same(key, &text.sealed),
            Reserved::Free(writer, _claim) => writer.write(),
        }
    }
}

const SERVER: &str = "https://mytoken";

fn text(sealed: &str) -> KeptText {
    KeptText {
        sealed: format!("mt1.00000000.{sealed}"),
        exp: 1_000,
        follows: true,
        host: "login1".into(),
        server: SERVER.into(),
    }
}

fn key(uid: u32, digit: char) -> TextKey {
    TextKey { uid, handle: digit.to_string().repeat(32) }
}

fn open(path: &Path) -> Arc<Escrow> {
    Arc::new(Escrow::open(Directory::open(path).unwrap(), Owner::current()).unwrap())
}

fn count(escrow: &Escrow) -> usize {
    escrow.status(true).texts
}

fn reserved(escrow: &Arc<Escrow>, key: &TextKey) -> (Writer, Claim) {
    match escrow.reserve(key, &text("AAAA")).unwrap() {
        Reserved::Free(writer, claim) => (writer, claim),
        Reserved::Kept => panic!("{key:?} is kept"),
    }
}

#[test]
fn a_text_survives_the_broker_and_ends_with_its_sub_token() {
    let temp = tempfile::tempdir().unwrap();
    let (alice, bob) = (key(2001, 'a'), key(2002, 'a'));
    let escrow = open(temp.path());
    escrow.keep(&alice, &text("AAAA")).unwrap();
    escrow.keep(&alice, &text("AAAA")).unwrap();
    assert!(matches!(escrow.keep(&alice, &text("BBBB")), Err(EscrowError::InUse)));
    escrow.keep(&bob, &KeptText { exp: 2_000, ..text("BBBB") }).unwrap();
    let file = temp.path().join(format!("2001-{}.json", "a".repeat(32)));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    drop(escrow);

    std::fs::write(temp.path().join("other"), "x").unwrap();
    let escrow = open(temp.path());
    assert_eq!((count(&escrow), escrow.get(&alice).unwrap()), (2, Some(text("AAAA"))));
    assert_eq!(escrow.get(&key(2001, 'b')).unwrap(), None);
    escrow.expire(|_| 999);
    assert_eq!(count(&escrow), 2);
    escrow.expire(|server| if server == SERVER { 1_000 } else { 0 });
    assert_eq!((escrow.keys(), escrow.get(&alice).unwrap()), (vec![bob.clone()], None));
    escrow.sweep().unwrap();
    assert!(!file.exists());
    escrow.forget(&bob);
    escrow.forget(&bob);
    assert_eq!((count(&escrow), escrow.get(&bob).unwrap()), (0, None));
    escrow.sweep().unwrap();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1, "the other file");
    escrow.keep(&bob, &text("CCCC")).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_stays() {
    let temp = tempfile::tempdir().unwrap();
    let broken = key(2001, 'c');
    let escrow = open(temp.path());
    escrow.keep(&broken, &text("AAAA")).unwrap();
    std::fs::write(temp.path().join(file_name(&broken)), "{").unwrap();
    let escrow = open(temp.path());
    assert_eq!(escrow.get(&broken).unwrap(), None);
    assert!(matches!(escrow.keep(&broken, &text("AAAA")), Err(EscrowError::InUse)));
    escrow.expire(|_| 1 << 40);
    assert_eq!(escrow.status(true), EscrowStatus { on: true, texts: 1, bytes: 1, first_expiry: None });
}

#[test]
fn what_a_killed_broker_was_writing_is_removed_at_the_next_start() {
    let temp = tempfile::tempdir().unwrap();
    let half = temp.path().join(format!(".{}.00112233445566ff", file_name(&key(2001, 'a'))));
    std::fs::write(&half, "{\"sealed\":\"mt1.").unwrap();
    std::fs::write(temp.path().join(".other.json.x"), "x").unwrap();
    let escrow = open(temp.path());
    assert_eq!((count(&escrow), half.exists()), (0, false));
    assert!(temp.path().join(".other.json.x").exists(), "it is none of these files");
}

#[test]
fn a_text_of_which_nobody_waits_for_the_end_of_the_write_is_removed() {
    let temp = tempfile::tempdir().unwrap();
    let (escrow, key) = (open(temp.path()), key(2001, 'a'));
    let file = temp.path().join(file_name(&key));
    let (writer, claim) = reserved(&escrow, &key);
    assert!(matches!(escrow.keep(&key, &text("AAAA")), Err(EscrowError::Busy)));
    assert_eq!((count(&escrow), escrow.get(&key).unwrap()), (0, None), "it is not written yet");
    assert!(!claim.give_up());
    escrow.sweep().unwrap();
    writer.write().unwrap();
    assert!(file.exists() && !escrow.has(&key), "the disk was late");
    assert!(matches!(escrow.keep(&key, &text("AAAA")), Err(EscrowError::Busy)));
    escrow.sweep().unwrap();
    assert!(!file.exists());
    // Now it is written at the last moment.
    let (writer, second) = reserved(&escrow, &key);
    drop(claim);
    writer.write().unwrap();
    assert!(second.give_up());
    drop(second);
    assert_eq!((count(&escrow), escrow.get(&key).unwrap()), (1, Some(text("AAAA"))));
}

#[test]
fn a_user_cannot_fill_the_disk() {
    let temp = tempfile::tempdir().unwrap();
    let escrow = open(temp.path());
    let of = |number| TextKey { uid: 1, handle: format!("{number:032x}") };
    let known = || Known {
        text: None,
        exp: 1,
        bytes: 1,
        host: String::new(),
        server: String::new(),
        writer: None,
        is_over: false,
    };
    escrow.texts().known.extend((0..MOST_OF_USER).map(|number| (of(number), known())));
    assert!(matches!(escrow.keep(&key(1, 'f'), &text("AAAA")), Err(EscrowError::TooManyOfUser)));
    escrow.keep(&key(2, 'f'), &text("AAAA")).unwrap();
    assert_eq!(escrow.status(true).first_expiry, Some(1));
}

#[test]
fn one_host_leaves_places_to_the_others_of_each_user_and_of_all() {
    let temp = tempfile::tempdir().unwrap();
    let escrow = open(temp.path());
    let known = || Known {
        text: None,
        exp: 1,
        bytes: 1,
        host: "n1".into(),
        server: String::new(),
        writer: None,
        is_over: false,
    };
    let fill = |uid, count: usize| {
        let of = |number| TextKey { uid, handle: format!("{number:032x}") };
        let mut texts = escrow.texts();
        (0..count).for_each(|number| texts.insert(of(number), known()));
    };
    let stolen = KeptText { host: "n1".into(), ..text("AAAA") };
    fill(1, MOST_OF_USER_ON_HOST);
    assert!(matches!(escrow.keep(&key(1, 'f'), &stolen), Err(EscrowError::TooManyOfUserOnHost)));
    escrow.keep(&key(1, 'f'), &text("AAAA")).unwrap();
    escrow.keep(&key(2, 'f'), &stolen).unwrap();
    fill(3, MOST_OF_HOST - MOST_OF_USER_ON_HOST - 1);
    assert!(matches!(escrow.keep(&key(4, 'f'), &stolen), Err(EscrowError::TooManyOfHost)));
    escrow.keep(&key(4, 'f'), &text("AAAA")).unwrap();
    escrow.forget(&key(2, 'f'));
    escrow.sweep().unwrap();
    escrow.keep(&key(5, 'f'), &stolen).unwrap();
}

#[test]
fn the_end_of_another_text_with_the_same_handle_removes_none() {
    let temp = tempfile::tempdir().unwrap();
    let (escrow, key) = (open(temp.path()), key(2001, 'a'));
    escrow.keep(&key, &text("AAAA")).unwrap();
    let of = |sealed: &str| SubmissionKey::new(2001, &key.handle, &text(sealed).sealed);
    let again = open(temp.path());
    for escrow in [&escrow, &again] {
        assert_eq!(escrow.submission(&key), Some(of("AAAA")));
        escrow.forget_submission(&of("BBBB"));
        assert!(escrow.has(&key));
        escrow.forget_submission(&of("AAAA"));
        assert!(!escrow.has(&key));
    }
}
