// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the order of requests: cases, and properties of any mix.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::lease::{Action, LeaseKey};
use super::*;

fn task(number: u32) -> Task {
    Task { key: LeaseKey::Job(number), action: Action::Renew, generation: 1, round: 0 }
}

fn place(lane: &str, uid: u32) -> Place {
    Place { lane: lane.into(), uid }
}

fn taken(lanes: &mut Lanes) -> Vec<(String, u32, LeaseKey)> {
    std::iter::from_fn(|| lanes.take()).map(|(place, task)| (place.lane, place.uid, task.key)).collect()
}

#[test]
fn a_lane_that_hangs_delays_no_other_lane_and_no_other_user() {
    let mut lanes = Lanes::new(TOKENS);
    (0..100).for_each(|number| lanes.push(place("hangs", 1), 0, task(number)));
    assert_eq!(taken(&mut lanes).len(), TOKENS.user_in_lane);
    assert_eq!([lanes.waiting_of(1), lanes.waiting_of(2)], [100 - TOKENS.user_in_lane, 0]);
    lanes.push(place("hangs", 2), 0, task(200));
    lanes.push(place("works", 1), 0, task(300));
    let next = taken(&mut lanes);
    assert!(next.contains(&("hangs".into(), 2, LeaseKey::Job(200))), "{next:?}");
    assert!(next.contains(&("works".into(), 1, LeaseKey::Job(300))), "{next:?}");
    (3..20).for_each(|uid| lanes.push(place("hangs", uid), 0, task(uid)));
    assert_eq!(taken(&mut lanes).len(), TOKENS.lane - TOKENS.user_in_lane - 1);
    lanes.done(&place("hangs", 1));
    assert_eq!(taken(&mut lanes).len(), 1);
}

#[test]
fn new_jobs_of_a_user_do_not_let_his_tokens_expire() {
    let mut lanes = Lanes::new(TOKENS);
    let lane = || place("busy", 1);
    (0..1500).for_each(|number| lanes.push(lane(), needed(None, u64::from(number)), task(number)));
    // That of a job which has had a token for a minute: it has 20 s left.
    lanes.push(lane(), needed(Some(25_000), 5_000), task(2000));
    lanes.push(lane(), needed(Some(900_000), 5_000), task(3000));
    lanes.push(place("busy", 2), needed(None, 5_000), task(4000));
    let keys = |lanes: &mut Lanes| taken(lanes).into_iter().map(|(_, _, key)| key).collect::<Vec<_>>();
    assert_eq!(keys(&mut lanes), [2000, 4000, 0, 1].map(LeaseKey::Job), "the users still take turns");
    for _ in 0..4 {
        (0..3).for_each(|_| lanes.done(&lane()));
        assert_eq!(keys(&mut lanes).len(), 3);
    }
    // Those that come much later do not hold it up for ever.
    (5000..6500).for_each(|number| lanes.push(lane(), needed(None, 900_000), task(number)));
    let (mut served, mut all) = (0, 0);
    while lanes.has_waiting() {
        (0..3).for_each(|_| lanes.done(&lane()));
        for key in keys(&mut lanes) {
            all += 1;
            served = if key == LeaseKey::Job(3000) { all } else { served };
        }
    }
    assert!((1400..=1500).contains(&served), "{served} of {all}");
}

#[test]
fn users_and_lanes_take_turns() {
    let mut lanes = Lanes::new(TOKENS);
    let places = [("a", 1), ("a", 1), ("a", 1), ("a", 2), ("b", 1)].map(|(lane, uid)| place(lane, uid));
    for (number, place) in (0..).zip(places.clone()) {
        lanes.push(place, 0, task(number));
    }
    let order: Vec<LeaseKey> = taken(&mut lanes).into_iter().map(|(_, _, key)| key).collect();
    assert_eq!(order, [0, 3, 4, 1, 2].map(LeaseKey::Job));
    for place in places {
        assert!(!lanes.is_empty());
        lanes.done(&place);
    }
    assert!(lanes.is_empty());
}

#[test]
fn a_user_with_many_lanes_that_hang_leaves_workers_to_the_others() {
    for limits in [TOKENS, REVOCATIONS] {
        let mut lanes = Lanes::new(limits);
        (0..100).for_each(|number| lanes.push(place(&format!("hangs {number}"), 1), 0, task(number)));
        assert_eq!(taken(&mut lanes).len(), limits.user);
        lanes.push(place("works", 2), 0, task(200));
        assert_eq!(taken(&mut lanes), [("works".into(), 2, LeaseKey::Job(200))]);
    }
}

#[test]
fn the_last_workers_are_for_users_and_lanes_with_nothing_that_runs() {
    let mut lanes = Lanes::new(TOKENS);
    // As many users as it takes, each with as many lanes as he likes.
    (10..30).for_each(|uid| (0..9).for_each(|lane| lanes.push(place(&format!("{uid} {lane}"), uid), 0, task(uid))));
    let begun = taken(&mut lanes);
    assert_eq!(begun.len(), TOKENS.all - TOKENS.reserve);
    for (number, (lane, uid)) in [(&*begun[0].0, 7), ("quiet", begun[0].1), ("quiet", 7)].into_iter().enumerate() {
        lanes.push(place(lane, uid), 0, task(u32::try_from(number).unwrap()));
        let next = taken(&mut lanes);
        assert_eq!(next.len(), usize::from(number == 2), "{next:?}");
    }
}

/// What happens in a step: a request comes, or one of the running requests ends.
#[derive(Debug, Clone)]
enum Step {
    Comes { lane: u8, uid: u32 },
    Ends(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let comes = || (0..6_u8, 1..6_u32).prop_map(|(lane, uid)| Step::Comes { lane, uid });
    prop::collection::vec(prop_oneof![comes(), comes(), any::<prop::sample::Index>().prop_map(Step::Ends)], 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_the_mix_a_single_request_waits_for_one_of_each_other_user(
        before in steps(),
        after in steps(),
        limits in prop::sample::select(vec![TOKENS, REVOCATIONS]),
    ) {
        const BOB: u32 = 99;
        let mut lanes = Lanes::new(limits);
        let mut running: Vec<Place> = Vec::new();
        let mut served: BTreeMap<u32, usize> = BTreeMap::new();
        let (mut arrived, mut got) = (false, false);
        let then = std::iter::once(Step::Comes { lane: 77, uid: BOB }).chain(after);
        for step in before.into_iter().chain(then) {
            match step {
                Step::Comes { lane, uid } => {
                    arrived |= uid == BOB;
                    lanes.push(place(&format!("lane {lane}"), uid), 0, task(uid));
                }
                Step::Ends(_) if running.is_empty() => {}
                Step::Ends(which) => lanes.done(&running.swap_remove(which.index(running.len()))),
            }
            while let Some((place, _)) = lanes.take() {
                got |= place.uid == BOB;
                if arrived && !got {
                    *served.entry(place.uid).or_default() += 1;
                }
                running.push(place);
                let by = |of: &dyn Fn(&Place) -> bool| running.iter().filter(|place| of(place)).count();
                let last = running.last().unwrap();
                prop_assert!(running.len() <= limits.all);
                prop_assert!(by(&|place| place.uid == last.uid) <= limits.user);
                prop_assert!(by(&|place| place.lane == last.lane) <= limits.lane);
                prop_assert!(by(&|place| place == last) <= limits.user_in_lane);
            }
            prop_assert!(!arrived || got || running.len() == limits.all, "a worker is free, and he waits");
            prop_assert!(served.values().all(|count| *count <= 1), "{served:?} came before him");
        }
    }
}
