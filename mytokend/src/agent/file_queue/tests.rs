// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the order of directories.

use mytoken_wire::agent::SessionPlace;

use super::*;

const BEGIN: Duration = Duration::from_secs(100);

/// All that may run now.
fn taken(queue: &mut FileQueue) -> Vec<(u32, FilePlace)> {
    std::iter::from_fn(|| queue.take(BEGIN)).collect()
}

#[test]
fn in_a_directory_one_thread_works_at_a_time_and_does_the_last_change() {
    let (mut queue, place) = (FileQueue::default(), FilePlace::Job(7));
    queue.change(1, &place);
    queue.change(1, &place);
    let first = taken(&mut queue);
    assert_eq!(first.iter().map(|(_, place)| place).collect::<Vec<_>>(), [&place]);
    // A change during the work, also for another user, comes after it.
    queue.change(2, &place);
    queue.end(2, &place);
    assert!(taken(&mut queue).is_empty() && queue.is_ended(&place) && queue.has_work(&place));
    assert!(!queue.done(&place), "it did not take long");
    let second = taken(&mut queue);
    assert_eq!(second.len(), 1);
    assert!(queue.take_end(&place) && !queue.take_end(&place));
    queue.done(&place);
    assert!(queue.is_empty() && !queue.has_work(&place));
}

#[test]
fn a_user_whose_threads_hang_waits_with_all_directories() {
    let mut queue = FileQueue::default();
    (0..3).for_each(|job| queue.change(1, &FilePlace::Job(job)));
    let hanging = taken(&mut queue);
    let third = FilePlace::Job(2);
    let first = &hanging[0].1;
    assert!(!queue.is_held_up(1, first, BEGIN + ORDINARY), "a thread works there, as in ordinary operation");
    assert!(queue.is_held_up(1, first, BEGIN + ORDINARY * 2) && !queue.is_held_up(1, &third, BEGIN + ORDINARY * 2));
    assert_eq!(queue.overdue(BEGIN * 2, BEGIN / 2).len(), FILES.user);
    assert!(queue.is_held_up(1, first, BEGIN), "that is known");
    assert!(queue.is_held_up(1, &third, BEGIN * 2) && !queue.is_held_up(2, &third, BEGIN * 2));
}

#[test]
fn a_look_has_its_result_when_the_thread_that_began_it_has_ended() {
    let mut queue = FileQueue::default();
    let place = FilePlace::Session { uid: 1, gid: 2, session: "s".into(), place: SessionPlace::Run };
    queue.change(1, &place);
    assert_eq!(taken(&mut queue).len(), 1);
    queue.look(1, &place);
    queue.done(&place);
    assert!(queue.has_look(&place), "the first thread did not look");
    assert_eq!(taken(&mut queue).len(), 1);
    assert!(queue.take_look(&place) && !queue.take_look(&place) && queue.has_look(&place));
    queue.done(&place);
    assert!(!queue.has_look(&place));
}

#[test]
fn removals_that_were_not_done_are_done_with_the_next_change() {
    let (mut queue, place) = (FileQueue::default(), FilePlace::Job(7));
    let names = vec![FileName::parse("tape").unwrap()];
    queue.remove_further(1, 7, names.clone());
    queue.end(1, &place);
    let removals = queue.removals(&place);
    assert_eq!(taken(&mut queue).len(), 1);
    assert!(queue.take_end(&place));
    assert_eq!((queue.take_further(7), queue.removals(&place)), (names.clone(), Removals::default()));
    queue.give_back(1, &place, removals);
    queue.done(&place);
    assert!(!queue.has_work(&place) && queue.is_left(&place), "not at once: it may fail again");
    assert_eq!((queue.take_end(&place), queue.take_further(7)), (true, names));
}

#[test]
fn a_directory_that_gets_another_user_waits_with_his() {
    let mut queue = FileQueue::default();
    (0..10).for_each(|job| queue.change(1, &FilePlace::Job(job)));
    assert_eq!(taken(&mut queue).len(), FILES.user);
    queue.change(2, &FilePlace::Job(9));
    assert_eq!(taken(&mut queue), [(2, FilePlace::Job(9))]);
    // Also while a thread works there.
    queue.change(3, &FilePlace::Job(9));
    assert!(taken(&mut queue).is_empty());
    queue.done(&FilePlace::Job(9));
    assert_eq!(taken(&mut queue), [(3, FilePlace::Job(9))]);
}

#[test]
fn users_take_turns() {
    let mut queue = FileQueue::default();
    for uid in 1..=3 {
        (0..4).for_each(|job| queue.change(uid, &FilePlace::Job(uid * 10 + job)));
    }
    let mut order = Vec::new();
    while let Some((uid, place)) = queue.take(BEGIN) {
        order.push(uid);
        queue.done(&place);
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
    assert!(queue.is_empty() && queue.users.is_empty());
}

#[test]
fn threads_that_hang_have_others_in_their_place_and_the_users_who_wait_are_told() {
    let mut queue = FileQueue::default();
    // As many users as it takes, each with as many threads as he gets.
    (1..=20).for_each(|uid| (0..3).for_each(|job| queue.change(uid, &FilePlace::Job(uid * 10 + job))));
    let first = taken(&mut queue);
    assert_eq!((first.len(), queue.missing_threads()), (FILES.all, 0));
    let longest = Duration::from_secs(30);
    assert!(queue.overdue(BEGIN, longest).is_empty() && queue.newly_full(BEGIN, longest).is_none());
    let later = BEGIN + longest * 2;
    assert!(queue.newly_full(later, longest).is_some() && queue.newly_full(later, longest).is_none());
    // Those that hang, and all that wait.
    assert_eq!(queue.overdue(later, longest).len(), 60);
    assert!(queue.hangs(&FilePlace::Job(202)) && queue.overdue(later, longest).is_empty());
    assert_eq!((queue.missing_threads(), queue.missing_threads()), (FILES.all, 0));
    let second: Vec<(u32, FilePlace)> = std::iter::from_fn(|| queue.take(later)).collect();
    assert_eq!(second.len(), 8, "the last ones are for users who have none");
    let of = |uid: u32| first.iter().chain(&second).filter(|(other, _)| *other == uid).count();
    assert!((1..=20).all(|uid| of(uid) > 0 && of(uid) <= FILES.user));
    // One that goes on again is one too many.
    assert!(!queue.ends_thread() && queue.done(&first[0].1));
    assert!(queue.ends_thread() && !queue.ends_thread());
}

#[test]
fn users_whose_directories_hang_leave_threads_to_the_others() {
    let mut queue = FileQueue::default();
    (0..100).for_each(|job| queue.change(1, &FilePlace::Job(job)));
    assert_eq!(taken(&mut queue).len(), FILES.user);
    for uid in 2..=6 {
        (0..10).for_each(|job| queue.change(uid, &FilePlace::Job(uid * 1_000 + job)));
    }
    let hanging = FILES.user + taken(&mut queue).len();
    assert!(hanging < FILES.all, "{hanging}");
    queue.change(7, &FilePlace::Job(9));
    assert_eq!(taken(&mut queue).len(), 1);
}

#[test]
fn what_takes_long_is_told_once_and_what_stays_is_remembered() {
    let mut queue = FileQueue::default();
    let session = FilePlace::Session { uid: 1, gid: 2, session: "0123456789abcdef".into(), place: SessionPlace::Run };
    queue.change(1, &session);
    assert_eq!(taken(&mut queue).len(), 1);
    let longest = Duration::from_secs(30);
    assert!(queue.overdue(BEGIN + longest, longest).is_empty());
    let later = BEGIN + longest * 2;
    assert_eq!(queue.overdue(later, longest), [(session.clone(), 1)]);
    assert!(queue.overdue(later, longest).is_empty() && queue.hangs(&session));
    assert!(queue.done(&session) && !queue.hangs(&session));
    assert_eq!(session.to_string(), "session 01234567 uid 1");
    let job = FilePlace::Job(7);
    assert!(queue.removed(&job, 1, false) && !queue.removed(&job, 1, false));
    assert_eq!((queue.left(), queue.is_left(&job)), (vec![(job.clone(), 1)], true));
    assert!(queue.removed(&job, 1, true) && !queue.is_left(&job));
}
