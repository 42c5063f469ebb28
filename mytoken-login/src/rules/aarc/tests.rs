// SPDX-License-Identifier: MIT OR Apache-2.0
//! The grammar and the comparison.

use proptest::prelude::*;

use super::AarcForm::{G002, G069};
use super::*;

/// required, held, and whether it is enough. As `aarc-entitlement` 1.0.5 decides in both forms.
const IN_BOTH_FORMS: &[(&str, &str, bool)] = &[
    ("urn:geant:h-df.de:group:aai-admin", "urn:geant:h-df.de:group:aai-admin", true),
    ("urn:geant:h-df.de:group:aai-admin", "urn:geant:kit.edu:group:aai-admin", false),
    ("urn:geant:h-df.de:group:aai-admin", "urn:mace:h-df.de:group:aai-admin", false),
    ("urn:geant:h-df.de:group:aai-admin", "urn:geant:h-df.de:group:AAI-admin", false),
    ("urn:geant:h-df.de:group:aai-admin", "urn:geant:h-df.de:group:aai-admins", false),
    ("urn:geant:h-df.de:group:aai-admin#foo.de", "urn:geant:h-df.de:group:aai-admin#bar.de", true),
    ("urn:geant:h-df.de:group:aai-admin#foo.de", "urn:geant:h-df.de:group:aai-admin", true),
    ("urn:geant:h-df.de:group:aai-admin", "urn:geant:h-df.de:group:aai-admin:special#foo.de", true),
    ("urn:geant:h-df.de:group:aai-admin", "urn:geant:h-df.de:group:aai-admin:role=member", true),
    ("urn:geant:h-df.de:group:aai-admin", "urn:geant:h-df.de:group:aai-admin:special:role=member#foo.de", true),
    ("urn:geant:h-df.de:group:aai-admin:special", "urn:geant:h-df.de:group:aai-admin", false),
    ("urn:geant:h-df.de:group:aai-admin:special", "urn:geant:h-df.de:group:special", false),
    ("urn:geant:h-df.de:group:a:s1:s2", "urn:geant:h-df.de:group:a:s2:s1", false),
    ("urn:geant:h-df.de:group:a:role=member", "urn:geant:h-df.de:group:a:role=member#foo.de", true),
    ("urn:geant:h-df.de:group:a:role=member", "urn:geant:h-df.de:group:a", false),
    ("urn:geant:h-df.de:group:a:role=member", "urn:geant:h-df.de:group:a:role=manager", false),
    ("urn:geant:h-df.de:group:a:role=member", "urn:geant:h-df.de:group:a:s1:role=member", false),
    ("urn:geant:h-df.de:group:a:s1:role=member", "urn:geant:h-df.de:group:a:s1:role=member", true),
    ("urn:geant:h-df.de:sub:group:a", "urn:geant:h-df.de:sub:group:a", true),
    ("urn:geant:h-df.de:sub:group:a", "urn:geant:h-df.de:group:a", false),
    ("urn:geant:h-df.de:s1:s2:group:a", "urn:geant:h-df.de:s2:s1:group:a", false),
    (
        "urn:mace:egi.eu:group:vo.example.org:role=member",
        "urn:mace:egi.eu:group:vo.example.org:role=member#aai.egi.eu",
        true,
    ),
];

/// form, required, held, enough. As the same package decides, but for the signs of the grammar in G002: the package decodes first, so that
/// who may choose the name of a group may choose another group, a role, or a subgroup.
const IN_ONE_FORM: &[(AarcForm, &str, &str, bool)] = &[
    (G002, "urn:n:e.org:group:a:b", "urn:n:e.org:group:a%3Ab", false),
    (G002, "urn:n:e.org:group:a", "urn:n:e.org:group:a%3Ab", false),
    (G002, "urn:n:e.org:group:a%3Ab", "urn:n:e.org:group:a%3ab", true),
    (G002, "urn:n:e.org:group:a:role=admin", "urn:n:e.org:group:a%3Arole%3Dadmin", false),
    (G002, "urn:n:e.org:group:a:role=admin", "urn:n:e.org:group:a:role%3Dadmin", false),
    (G002, "urn:n:e.org:group:a:role=an admin", "urn:n:e.org:group:a:role=an%20admin", true),
    (G069, "urn:n:e.org:group:a:b", "urn:n:e.org:group:a%3Ab", false),
    (G002, "urn:n:e.org:group:a", "urn:n:e.org:group:a%23x", false),
    (G069, "urn:n:e.org:group:a", "urn:n:e.org:group:a%23x", false),
    (G002, "urn:n:e.org:group:a b", "urn:n:e.org:group:a%20b", true),
    (G069, "urn:n:e.org:group:a b", "urn:n:e.org:group:a%20b", false),
    (G002, "urn:n:e.org:group:Ryhm%C3%A4", "urn:n:e.org:group:Ryhm\u{e4}", true),
    (G069, "urn:n:e.org:group:Ryhm%C3%A4", "urn:n:e.org:group:Ryhm\u{e4}", false),
    (G069, "urn:n:e.org:group:Ryhm%C3%A4", "URN:N:E.Org:group:Ryhm%c3%a4", true),
    (G069, "urn:n:e.org:group:Ryhm%C3%A4", "urn:n:e.org:group:rYHM%c3%a4", false),
    (G002, "urn:n:e.org:group:a", "urn:N:e.org:group:a", false),
];

fn satisfies(form: AarcForm, required: &str, held: &str) -> bool {
    let parse = |text: &str| AarcEntitlement::parse(text, form).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    parse(held).satisfies(&parse(required))
}

#[test]
fn the_subset_rule_decides() {
    let both = |&(required, held, expected)| [(G002, required, held, expected), (G069, required, held, expected)];
    for (form, required, held, expected) in IN_BOTH_FORMS.iter().flat_map(both).chain(IN_ONE_FORM.iter().copied()) {
        assert_eq!(satisfies(form, required, held), expected, "{form}: {required} by {held}");
    }
}

/// Here `aarc-entitlement` accepts. But a sub-namespace may be that of another organisation.
#[test]
fn sub_namespaces_must_be_equal() {
    for form in [G002, G069] {
        assert!(!satisfies(form, "urn:geant:h-df.de:group:a", "urn:geant:h-df.de:sub:group:a"));
    }
}

#[test]
fn the_optional_components_of_a_urn_are_ignored() {
    for held in
        ["urn:n:e.org:group:g?+r", "urn:n:e.org:group:g?=q", "urn:n:e.org:group:g?+r?=q#f", "urn:n:e.org:group:g#f?+r"]
    {
        assert!(satisfies(G069, "urn:n:e.org:group:g", held), "{held}");
    }
}

#[test]
fn texts_of_another_form_are_faults() {
    let both: &[(&str, AarcFault)] = &[
        ("", AarcFault::Scheme),
        ("urn", AarcFault::Scheme),
        ("ulf:foo:bar:group:baz", AarcFault::Scheme),
        (" urn:n:e.org:group:a", AarcFault::Scheme),
        ("urn:mace:dir:entitlement:common-lib-terms", AarcFault::Group),
        ("urn:n:group:a", AarcFault::Group),
        ("urn:n:e.org:group", AarcFault::Group),
        ("urn:n:e.org:group#auth", AarcFault::Group),
        ("urn:n:e.org:group:role=member", AarcFault::Group),
        ("urn:n:e.org:Group:a", AarcFault::Group),
        ("urn:n:e.org:group:", AarcFault::Empty),
        ("urn:n::group:a", AarcFault::Empty),
        ("urn:n:e.org:group:a::b", AarcFault::Empty),
        ("urn:n:e.org:group:a:", AarcFault::Empty),
        ("urn:n:e.org:group:a:role=", AarcFault::Role),
        ("urn:n:e.org:group:a:role=b:c", AarcFault::Role),
        ("urn:n:e.org:group:a:role=b:role=c", AarcFault::Role),
        ("urn:n:e.org:group:a#", AarcFault::Authority),
        ("urn:n:e.org:group:vo:group:admin", AarcFault::Ambiguous),
        ("urn:n:e.org:group:a%", AarcFault::Encoding),
        ("urn:n:e.org:group:a%3", AarcFault::Encoding),
        ("urn:n:e.org:group:a%+1", AarcFault::Encoding),
        ("urn:n:e.org:group:a%zz", AarcFault::Encoding),
    ];
    for (text, fault) in both {
        for form in [G002, G069] {
            assert_eq!(AarcEntitlement::parse(text, form), Err(*fault), "{form}: {text}");
        }
    }
    assert_eq!(AarcEntitlement::parse("urn:n:e.org:group:a%ff", G002), Err(AarcFault::Encoding));
    assert_eq!(AarcEntitlement::parse("URN:n:e.org:group:a", G002), Err(AarcFault::Scheme));
    assert_eq!(AarcEntitlement::parse("urn:n:e.org:group:a?", G069), Err(AarcFault::QuestionMark));
    assert_eq!(AarcEntitlement::parse("urn:n:e.org?+r:group:a", G069), Err(AarcFault::Group));
}

/// Names of groups, roles and namespaces that mean nothing to the grammar.
fn name() -> impl Strategy<Value = String> {
    "[a-z0-9._@/ \u{e4}-]{1,8}".prop_filter("a word of the grammar", |name| name != "group")
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,60}", tail in "[:#%?a-f0-9gruopl=+]{0,30}") {
        for form in [G002, G069] {
            let _ = AarcEntitlement::parse(&text, form);
            if let Ok(read) = AarcEntitlement::parse(&format!("urn:n:e.org:group:a{tail}"), form) {
                prop_assert!(read.satisfies(&read));
            }
        }
    }

    /// Whatever a person chooses as the name of a group, encoded as providers do, it never opens another group or role.
    #[test]
    fn the_encoded_name_of_a_group_opens_no_other_one(tail in "[:#?=%a-z]{1,4}(role=|group:)?[a-z]{0,4}") {
        let encoded: String = tail.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for form in [G002, G069] {
            let held = AarcEntitlement::parse(&format!("urn:n:e.org:group:hpc{encoded}"), form).unwrap();
            for required in ["hpc", "hpc:role=admin", "hpc:role=a", "hpc:a"] {
                let required = AarcEntitlement::parse(&format!("urn:n:e.org:group:{required}"), form).unwrap();
                prop_assert!(!held.satisfies(&required));
            }
        }
    }

    #[test]
    fn a_subgroup_satisfies_what_asks_for_no_role(
        namespaces in proptest::collection::vec(name(), 2..4),
        groups in proptest::collection::vec(name(), 1..4),
        subgroup in name(),
        role in proptest::option::of(name()),
        authority in proptest::option::of(name()),
    ) {
        let groups = groups.join(":");
        let group = format!("urn:{}:group:{groups}", namespaces.join(":"));
        let end = format!(
            "{}{}",
            role.as_ref().map(|role| format!(":role={role}")).unwrap_or_default(),
            authority.map(|authority| format!("#{authority}")).unwrap_or_default()
        );
        for form in [G002, G069] {
            let of = |text: String| AarcEntitlement::parse(&text, form).unwrap();
            let (plain, held) = (of(group.clone()), of(format!("{group}{end}")));
            let below = of(format!("{group}:{subgroup}{end}"));
            prop_assert!(held.satisfies(&plain) && below.satisfies(&plain) && held.satisfies(&held));
            prop_assert_eq!(plain.satisfies(&held), role.is_none());
            prop_assert_eq!(below.satisfies(&held), role.is_none());
            prop_assert!(!held.satisfies(&below));
        }
    }
}
