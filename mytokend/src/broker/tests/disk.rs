// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kept texts on a disk that hangs, or is full.

use std::collections::BTreeMap;
use std::time::Instant;

use mytoken::private_files::FileError;

use super::super::disk_work::PLACES;
use super::super::escrow::{Escrow, TextFiles};
use super::super::messages::KeptAnswer;
use super::kept::{HANDLE, refusal, request, sealed};
use super::*;

/// A disk that the test plays.
#[derive(Debug, Default)]
struct Disk {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    hangs: Mutex<bool>,
    released: Condvar,
    /// Number of writes that have begun while it hangs.
    stuck: AtomicUsize,
    /// Number of writes that have ended.
    written: AtomicUsize,
    is_full: std::sync::atomic::AtomicBool,
}

impl Disk {
    fn set_hanging(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
        self.released.notify_all();
    }

    fn count(&self) -> usize {
        self.files.lock().unwrap().len()
    }
}

impl TextFiles for Arc<Disk> {
    fn names(&self) -> Result<Vec<String>, FileError> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        Ok(self.files.lock().unwrap().get(name).cloned())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        if self.is_full.load(Ordering::Relaxed) {
            let reason = "No space left on device (os error 28)".to_owned();
            return Err(FileError::Unusable { path: name.to_owned(), reason });
        }
        let hangs = self.hangs.lock().unwrap();
        self.stuck.fetch_add(usize::from(*hangs), Ordering::Relaxed);
        // A test that fails ends all the same.
        let waited = self.released.wait_timeout_while(hangs, Duration::from_secs(30), |hangs| *hangs);
        drop(waited);
        self.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), FileError> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }
}

fn with_disk() -> (TestBroker, Arc<Disk>) {
    let (test, disk) = (TestBroker::new(RUNNING), Arc::new(Disk::default()));
    test.broker.use_escrow(Escrow::with_files(Box::new(Arc::clone(&disk))).unwrap());
    test.broker.take_texts(true);
    (test, disk)
}

#[test]
fn a_disk_that_hangs_holds_up_nobody_and_leaves_nothing() {
    let (test, disk) = with_disk();
    assert_eq!(test.keep(&request(2001, HANDLE)), "");
    disk.set_hanging(true);
    let begin = Instant::now();
    let reasons: Vec<String> = test.runtime.block_on(async {
        let mut asked = Vec::new();
        for number in 0..5 * PLACES {
            let (broker, request) = (Arc::clone(&test.broker), request(2001, &format!("{number:032x}")));
            asked.push(tokio::spawn(async move { broker.keep("login1", &request).await }));
        }
        let mut reasons = Vec::new();
        for answer in asked {
            reasons.push(refusal(answer.await.unwrap()));
        }
        reasons
    });
    assert!(reasons.iter().all(|reason| reason == "the disk of the broker does not answer"), "{reasons:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(disk.stuck.load(Ordering::Relaxed), PLACES, "more threads wait for the disk");
    // What the kernel has in memory is served, and jobs get their tokens.
    assert_eq!(test.kept(2001, HANDLE), KeptAnswer::Sealed(sealed(2001, HANDLE)));
    assert_eq!(test.token("n1", 1, 7, "7:a"), Ok("token-0".to_owned()));
    assert_eq!(test.kept_count(), 1);
    disk.set_hanging(false);
    // The agents were told that these texts are not kept.
    test.until("the late writes", || disk.written.load(Ordering::Relaxed) == 1 + PLACES);
    test.until("the end of what was written too late", || disk.count() == 1);
    let again = request(2001, &format!("{:032x}", 0));
    test.until("a text after the outage", || test.keep(&again).is_empty());
    assert_eq!((test.kept_count(), disk.count()), (2, 2));
}

#[test]
fn whoever_goes_away_before_the_answer_leaves_no_text() {
    let (test, disk) = with_disk();
    disk.set_hanging(true);
    test.runtime.block_on(async {
        let (broker, request) = (Arc::clone(&test.broker), request(2001, HANDLE));
        let asked = tokio::spawn(async move { broker.keep("login1", &request).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        // The server drops the answer when the connection ends.
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
    });
    assert_eq!(disk.stuck.load(Ordering::Relaxed), 1);
    disk.set_hanging(false);
    test.until("the late write", || disk.written.load(Ordering::Relaxed) == 1);
    test.until("the end of its file", || disk.count() == 0);
    assert_eq!(test.kept(2001, HANDLE), KeptAnswer::Unknown {});
}

#[test]
fn a_full_disk_is_told_and_the_same_text_is_kept_when_there_is_room() {
    let (test, disk) = with_disk();
    disk.is_full.store(true, Ordering::Relaxed);
    assert!(test.keep(&request(2001, HANDLE)).contains("No space left on device"));
    assert_eq!((test.kept_count(), disk.count()), (0, 0));
    disk.is_full.store(false, Ordering::Relaxed);
    test.until("a text in the room", || test.keep(&request(2001, HANDLE)).is_empty());
    assert_eq!((test.kept_count(), disk.count()), (1, 1));
}
