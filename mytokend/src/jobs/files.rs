// SPDX-License-Identifier: MIT OR Apache-2.0
//! The further token files of a profile, `bt_u<uid>-NAME`, each with scopes and an audience of its own. One sub-token serves them all.

use std::collections::HashSet;

use mytoken::InputError;
use mytoken::restrictions::{Clause, Uses, narrow};
use mytoken_wire::{FileName, MOST_FILES};
use serde::{Deserialize, Serialize};

use super::profile::{ProfileSettings, check_audience, check_scope};

/// An entry of a profile's `files`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// The NAME in `bt_u<uid>-NAME`.
    pub name: FileName,
    /// Scopes, separated by single blanks.
    pub scope: String,
    /// The audience of the access tokens.
    pub audience: String,
}

/// A further file in a sealed credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedFile {
    /// The NAME in `bt_u<uid>-NAME`.
    pub name: FileName,
    /// Scopes of its access tokens, separated by single blanks.
    pub scope: String,
    /// Audience of its access tokens.
    pub audience: String,
}

impl From<&FileSettings> for SealedFile {
    fn from(file: &FileSettings) -> Self {
        Self { name: file.name.clone(), scope: file.scope.clone(), audience: file.audience.clone() }
    }
}

/// Checks number and names of files.
///
/// # Errors
/// A sentence that names the key.
pub fn check_names<'a>(names: impl Iterator<Item = &'a FileName>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("files: two have the name \"{name}\""));
        }
    }
    if seen.len() > MOST_FILES {
        return Err(format!("files: there are {}; at most {MOST_FILES} are possible", seen.len()));
    }
    Ok(())
}

/// Checks the files of a profile.
///
/// # Errors
/// A sentence that names the key.
pub(super) fn check(files: &[FileSettings]) -> Result<(), String> {
    check_names(files.iter().map(|file| &file.name))?;
    files.iter().try_for_each(|file| {
        check_scope(&file.scope)
            .and_then(|()| check_audience(&file.audience))
            .map_err(|fault| format!("files: \"{}\": {fault}", file.name))
    })
}

/// A file that the user's mytoken does not allow, and why: a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub name: FileName,
    /// Why, without a name.
    pub reason: String,
}

/// The clauses of a sub-token for `profile`, without those of the files that `parent` does not allow: such a file must not cost the job
/// its other tokens. `longest` is the longest life in seconds, `now` is Unix seconds. Whether the main file is allowed, the request tells.
#[must_use]
pub fn fitting(profile: &ProfileSettings, parent: &[Clause], longest: u64, now: u64) -> (Vec<Clause>, Vec<LeftOut>) {
    let uses = Uses { access_tokens: true, others: false };
    let mut kept = profile.main_alone();
    let mut left_out = Vec::new();
    for file in &profile.files {
        let mut more = kept.clone();
        more.files.push(file.clone());
        match narrow(parent, &more.clauses(longest, now), uses, now) {
            Ok(_) => kept = more,
            Err(error) => {
                let reason = match error {
                    InputError::NotNarrower { reason } => reason,
                    error => error.to_string(),
                };
                left_out.push(LeftOut { name: file.name.clone(), reason });
            }
        }
    }
    (kept.clauses(longest, now), left_out)
}

#[cfg(test)]
mod tests {
    use mytoken::restrictions::within;
    use proptest::prelude::*;

    use super::*;
    use crate::jobs::settings::JobsSettings;

    fn profile(more: &str) -> ProfileSettings {
        let text = format!(
            "[cluster]\nname='c'\n[[profile]]\nname='default'\nserver='s'\nscope='a b'\naudience='https://x'\n{more}"
        );
        toml::from_str::<JobsSettings>(&text).unwrap().profile.remove(0)
    }

    const TWO: &str =
        "files=[{name='ce', scope='c', audience='https://y'}, {name='tape', scope='a', audience='https://z'}]\n";

    fn clause(scope: &str, audience: &str) -> Clause {
        Clause { exp: Some(5_000), scope: scope.into(), audience: vec![audience.into()], ..Clause::default() }
    }

    #[test]
    fn each_file_has_a_clause_of_its_own_in_each_window() {
        let two = profile(TWO);
        let expected = [clause("a b", "https://x"), clause("c", "https://y"), clause("a", "https://z")];
        assert_eq!(two.clauses(4_000, 1_000), expected);
        let windows = profile(&format!("{TWO}windows=[{{until='10m'}}, {{from='1h', until='2h'}}]"));
        let clauses = windows.clauses(80_000, 1_000);
        let ends: Vec<_> = clauses.iter().map(|clause| (clause.audience[0].as_str(), clause.exp)).collect();
        let of = |audience| [(audience, Some(1_600)), (audience, Some(8_200))];
        assert_eq!(ends, [of("https://x"), of("https://y"), of("https://z")].concat());
    }

    #[test]
    fn a_file_that_the_parent_does_not_allow_is_left_out_alone() {
        let two = profile(TWO);
        let names = |left: &[LeftOut]| left.iter().map(|left| left.name.to_string()).collect::<Vec<_>>();
        let parent = [clause("a b c", "https://x"), clause("a", "https://z")];
        let (clauses, left) = fitting(&two, &parent, 4_000, 1_000);
        assert_eq!(names(&left), ["ce"]);
        assert!(left[0].reason.contains("https://y"), "{}", left[0].reason);
        assert_eq!(clauses, [clause("a b", "https://x"), clause("a", "https://z")]);
        assert_eq!(fitting(&two, &[], 4_000, 1_000).1, [], "an open mytoken allows all");
        let (clauses, left) = fitting(&two, &[clause("c", "https://y")], 4_000, 1_000);
        assert_eq!(
            (clauses, left.len()),
            (vec![clause("a b", "https://x")], 2),
            "the request names the main file's fault"
        );
    }

    proptest! {
        #[test]
        fn the_sub_token_allows_what_each_file_asks_for_and_nothing_else(
            parts in proptest::collection::vec(("[abc]", "[xyz]"), 0..5), asked in ("[abc]", "[xyz]")
        ) {
            let mut own = profile("");
            own.files = parts.iter().enumerate().map(|(number, (scope, audience))| FileSettings {
                name: FileName::parse(&number.to_string()).unwrap(),
                scope: scope.clone(),
                audience: format!("https://{audience}"),
            }).collect();
            let clauses = own.clauses(4_000, 1_000);
            let allows = |scope: &str, audience: &str| clauses.iter().any(|clause| clause.allows(scope, audience, 1_500));
            prop_assert!(allows("a b", "https://x"));
            for file in &own.files {
                prop_assert!(allows(&file.scope, &file.audience));
            }
            let audience = format!("https://{}", asked.1);
            let wanted = (asked.1 == "x" && asked.0 != "c") || parts.contains(&asked);
            prop_assert_eq!(allows(&asked.0, &audience), wanted, "{:?}", clauses);
            prop_assert!(within(&clauses, &clauses));
        }
    }
}
