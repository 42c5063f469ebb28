// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes clauses, hosts and capabilities, as a user writes them and as a server answers, and whether one is within another.
#![no_main]

use fuzz::{NOW, split_input};
use libfuzzer_sys::fuzz_target;
use mytoken::capabilities::Capabilities;
use mytoken::restrictions::{Clause, Uses, narrow, within};

fuzz_target!(|data: &[u8]| {
    let Some([parent, wanted, owned, asked]) = split_input(data) else { return };
    for text in [parent, wanted] {
        if let Ok(clauses) = Clause::parse_strict(text) {
            let written = serde_json::to_string(&clauses).expect("JSON");
            assert_eq!(Clause::parse_strict(&written).ok(), Some(clauses), "{written}");
        }
    }
    let read = |text| serde_json::from_str::<Vec<Clause>>(text).ok();
    if let (Some(parent), Some(wanted)) = (read(parent), read(wanted)) {
        assert!(within(&parent, &parent) && within(&wanted, &wanted));
        let uses = Uses { access_tokens: true, others: data.len() % 2 == 0 };
        if let Ok(child) = narrow(&parent, &wanted, uses, NOW) {
            assert!(within(&child, &parent), "{child:?} of {parent:?}");
            assert!(within(&child, &wanted), "{child:?} for {wanted:?}");
        }
        for clause in &wanted {
            let _ =
                (clause.allows("openid", "https://testbed", NOW), parent.iter().any(|bound| clause.is_within(bound)));
        }
        let _ = mytoken::restrictions::latest_exp(&parent);
    }
    if let (Ok(owned), Ok(asked)) = (Capabilities::parse(owned), Capabilities::parse(asked)) {
        assert!(asked.within(&asked));
        let beyond = asked.beyond(&owned);
        assert_eq!(beyond.is_empty(), asked.within(&owned));
        assert_eq!(Capabilities::parse(&owned.to_string()).expect("its text is readable"), owned);
    }
    let _ = serde_json::from_str::<Capabilities>(owned);
});
