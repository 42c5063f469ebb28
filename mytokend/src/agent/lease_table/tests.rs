// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the lease table: what is due, what waits, and what runs.

use mytoken::private_files::Owner;

use super::*;
use crate::agent::lease::CurrentToken;

fn lease(job: u32, due: u64) -> Lease {
    let mut lease = Lease::new(LeaseKey::Job(job), Owner { uid: 1, gid: 1 }, "default", 0);
    lease.phase = Phase::Active { due };
    lease
}

#[test]
fn due_actions_come_in_order_and_once() {
    let mut table = LeaseTable::default();
    for (job, due) in [(1, 30), (2, 10), (3, 20)] {
        table.insert(lease(job, due));
    }
    assert_eq!(table.take_due(5), None);
    assert_eq!(table.next_due(), Some(10));
    assert_eq!(table.take_due(25), Some((LeaseKey::Job(2), Action::Renew)));
    assert_eq!(table.take_due(25), Some((LeaseKey::Job(3), Action::Renew)));
    assert_eq!(table.take_due(25), None);
}

#[test]
fn a_new_time_replaces_the_old_one() {
    let mut table = LeaseTable::default();
    table.insert(lease(1, 100));
    table.get_mut(&LeaseKey::Job(1)).unwrap().phase = Phase::Ended { due: 10, tries: 0, revoke: None };
    table.schedule(&LeaseKey::Job(1));
    assert_eq!(table.take_due(10), Some((LeaseKey::Job(1), Action::Settle)));
    table.get_mut(&LeaseKey::Job(1)).unwrap().phase = Phase::Finished { due: 500 };
    table.schedule(&LeaseKey::Job(1));
    assert_eq!(table.take_due(400), None, "the old entry, due at 100, is ignored");
    assert_eq!(table.take_due(500), Some((LeaseKey::Job(1), Action::Delete)));
}

#[test]
fn a_lease_in_progress_and_a_removed_lease_are_not_due() {
    let mut table = LeaseTable::default();
    table.insert(lease(1, 10));
    table.insert(lease(2, 10));
    table.enqueue(&LeaseKey::Job(1), Action::Renew);
    table.remove(&LeaseKey::Job(2));
    assert_eq!(table.take_due(50), None);
    let (_, task) = table.dequeue(Queue::Tokens).unwrap();
    table.finish(&task);
    table.schedule(&LeaseKey::Job(1));
    assert!(table.take_due(50).is_some());
}

#[test]
fn a_task_of_a_replaced_lease_changes_nothing() {
    let mut table = LeaseTable::default();
    table.insert(lease(1, 10));
    table.enqueue(&LeaseKey::Job(1), Action::Renew);
    let (place, task) = table.dequeue(Queue::Tokens).unwrap();
    assert!(!table.is_idle(0) && table.begin(&task, |lease| Some(lease.uid)) == Some(1));
    table.insert(lease(1, 20));
    assert!(table.finish(&task).is_none() && table.begin(&task, |lease| Some(lease.uid)).is_none());
    assert_eq!(table.take_due(19), None);
    assert!(!table.is_idle(19), "the request still runs");
    table.done(Queue::Tokens, place.as_ref());
    assert!(table.is_idle(19) && !table.is_idle(20));
}

#[test]
fn a_task_is_work_from_its_queue_to_its_end_also_without_its_lease() {
    for (queue, action) in [
        (Queue::Tokens, Action::Renew),
        (Queue::Revocations, Action::Revoke),
        (Queue::Slurm, Action::Settle),
        (Queue::Slurm, Action::AskStart),
        (Queue::Slurm, Action::QueryJobs),
    ] {
        let mut table = LeaseTable::default();
        table.insert(lease(1, 10));
        table.enqueue(&LeaseKey::Job(1), action);
        assert_eq!((table.is_idle(0), table.asks_slurmctld()), (false, queue == Queue::Slurm), "{action:?} is queued");
        let (place, _) = table.dequeue(queue).unwrap();
        table.insert(lease(1, 10));
        assert_eq!((table.is_idle(0), table.asks_slurmctld()), (false, queue == Queue::Slurm), "{action:?} runs");
        table.done(queue, place.as_ref());
        assert!(table.is_idle(0) && !table.asks_slurmctld(), "{action:?} has ended");
    }
}

#[test]
fn the_idle_worker_with_the_lowest_number_takes_a_task() {
    let mut table = LeaseTable::default();
    assert!((0..3).all(|number| table.task_for(Queue::Tokens, number).is_none()));
    for job in [1, 2] {
        table.insert(lease(job, 10));
        table.enqueue(&LeaseKey::Job(job), Action::Renew);
    }
    assert!(table.task_for(Queue::Tokens, 2).is_none() && table.task_for(Queue::Tokens, 1).is_none());
    assert!(table.task_for(Queue::Tokens, 0).is_some() && table.has_waiting(Queue::Tokens));
    assert!(table.task_for(Queue::Tokens, 2).is_none(), "the first one works, and the second is idle");
    assert!(table.task_for(Queue::Tokens, 1).is_some() && !table.has_waiting(Queue::Tokens));
}

#[test]
fn only_directories_with_work_are_queued_for_a_change() {
    let (mut table, key) = (LeaseTable::default(), LeaseKey::Job(1));
    let mut array = lease(1, 10);
    array.token = Some(CurrentToken { exp: 50, lifetime: 10 });
    array.token_text = Some(mytoken::Secret::new("new"));
    for job in 1..=4 {
        array.add_job(job, 1, None, 0);
        array.jobs.get_mut(&job).unwrap().file = Some(50);
    }
    array.jobs.get_mut(&2).unwrap().file = None;
    array.jobs.get_mut(&3).unwrap().needs_directory = true;
    table.insert(array);
    // A thread works there by what it knew before.
    table.files.change(1, &FilePlace::Job(4));
    assert!(table.files.take(Duration::ZERO).is_some());
    assert_eq!(table.queue_files(&key, 0), 0, "nothing has changed");
    table.get_mut(&key).unwrap().files_due = true;
    assert_eq!(table.queue_files(&key, 0), 3);
    assert_eq!([1, 2, 3, 4].map(|job| table.files.has_work(&FilePlace::Job(job))), [false, true, true, true]);
    assert!(!table.files.done(&FilePlace::Job(4)) && table.files.has_work(&FilePlace::Job(4)), "it is done again");
}

#[test]
fn the_oldest_finished_leases_are_deleted_first() {
    let mut table = LeaseTable::default();
    for job in 0..4100 {
        let mut lease = lease(job, 0);
        lease.phase = if job == 0 { Phase::Refused } else { Phase::Finished { due: 10_000 - u64::from(job) } };
        table.insert(lease);
    }
    let surplus = table.surplus();
    assert_eq!(surplus, [4099, 4098, 4097, 4096].map(LeaseKey::Job));
}

/// While slurmctld is away, a broker answers nothing about a job that it does not know.
#[test]
fn first_tokens_from_a_broker_do_not_hold_up_renewals() {
    for (asks_broker, expected) in [(true, true), (false, false)] {
        let mut table = LeaseTable::default();
        let mut unknown = lease(3, 10);
        (unknown.lane, unknown.asks_broker) = ("https://mt op".into(), asks_broker);
        table.insert(unknown);
        let mut known = lease(1, 10);
        (known.lane, known.asks_broker, known.proven) = ("https://mt op".into(), asks_broker, true);
        table.insert(known);
        // As many as a user may have in a lane: the first, and two more while it has no answer.
        for _ in 0..super::super::lanes::TOKENS.user_in_lane {
            table.enqueue(&LeaseKey::Job(3), Action::Renew);
            assert_eq!(table.dequeue(Queue::Tokens).unwrap().1.key, LeaseKey::Job(3));
        }
        table.enqueue(&LeaseKey::Job(1), Action::Renew);
        let renewal = table.dequeue(Queue::Tokens).map(|(_, task)| task.key);
        assert_eq!(renewal == Some(LeaseKey::Job(1)), expected);
    }
}
