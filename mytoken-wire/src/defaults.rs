// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[[default]]` of `jobs.toml`: what a submission gets for which the user says nothing, by its partition and account.

use serde::{Deserialize, Deserializer};

use crate::CredentialOption;
use crate::credential_option::FORMS;

/// A `[[default]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultSettings {
    /// Only for submissions to this partition. `None`: to any.
    pub partition: Option<String>,
    /// Only for submissions with this account. `None`: with any, or none.
    pub account: Option<String>,
    /// What they get, as in `--mytoken=`.
    #[serde(deserialize_with = "option")]
    pub mytoken: CredentialOption,
}

fn option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CredentialOption, D::Error> {
    let text = String::deserialize(deserializer)?;
    CredentialOption::parse(&text).ok_or_else(|| {
        let [profile, off, required, both] = FORMS;
        serde::de::Error::custom(format!("mytoken = {text:?} is not valid; use {profile}, {off}, {required} or {both}"))
    })
}

/// Where a job goes, as far as its submission says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Destination<'a> {
    /// The value of `--partition`: one, or several with commas. Slurm's own choice where there is none is made later, by slurmctld.
    pub partition: Option<&'a str>,
    /// The value of `--account`.
    pub account: Option<&'a str>,
}

impl DefaultSettings {
    /// Whether it is about this submission.
    fn matches(&self, to: Destination<'_>) -> bool {
        let partition = self.partition.as_deref().is_none_or(|partition| {
            to.partition.is_some_and(|list| list.split(',').any(|one| one.trim_ascii() == partition))
        });
        // Slurm's accounts do not differ in their letters' case alone.
        let account = self
            .account
            .as_deref()
            .is_none_or(|account| to.account.is_some_and(|given| given.eq_ignore_ascii_case(account)));
        partition && account
    }

    /// Whether it is about every submission that `other` is about.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let partition = self.partition.is_none() || self.partition == other.partition;
        let account = match (&self.account, &other.account) {
            (None, _) => true,
            (Some(own), Some(other)) => own.eq_ignore_ascii_case(other),
            (Some(_), None) => false,
        };
        partition && account
    }

    /// For which submissions it is, in the words of the command line.
    #[must_use]
    pub fn whose(&self) -> String {
        match (&self.partition, &self.account) {
            (None, None) => "any submission".to_owned(),
            (Some(partition), None) => format!("partition {partition}"),
            (None, Some(account)) => format!("account {account}"),
            (Some(partition), Some(account)) => format!("partition {partition}, account {account}"),
        }
    }
}

/// The first table that is about this submission.
#[must_use]
pub fn first<'a>(tables: &'a [DefaultSettings], to: Destination<'_>) -> Option<&'a DefaultSettings> {
    tables.iter().find(|table| table.matches(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables from `partition/account=mytoken`, where each name may be missing.
    fn tables(lines: &[&str]) -> Vec<DefaultSettings> {
        let table = |line: &&str| {
            let (whose, mytoken) = line.split_once('=').unwrap();
            let (partition, account) = whose.split_once('/').unwrap();
            let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
            let mytoken = CredentialOption::parse(mytoken).unwrap();
            DefaultSettings { partition: name(partition), account: name(account), mytoken }
        };
        lines.iter().map(table).collect()
    }

    fn to<'a>(partition: &'a str, account: &'a str) -> Destination<'a> {
        let given = |name: &'a str| (!name.is_empty()).then_some(name);
        Destination { partition: given(partition), account: given(account) }
    }

    #[test]
    fn the_first_table_that_matches_counts() {
        let site = tables(&["gpu/bio=a", "gpu/=b", "cpu/=c", "/bio=d", "/=e"]);
        for (partition, account, wanted) in [
            ("gpu", "bio", "a"),
            ("gpu", "BIO", "a"),
            ("gpu", "chem", "b"),
            ("gpu", "", "b"),
            ("cpu", "bio", "c"),
            ("big", "bio", "d"),
            ("", "bio", "d"),
            ("", "", "e"),
            ("GPU", "", "e"),
            // Of a list, each partition counts; of the tables, the first.
            ("big,gpu", "", "b"),
            ("cpu,gpu", "", "b"),
            ("big,cpu", "", "c"),
            ("gpus", "", "e"),
            ("", "biology", "e"),
        ] {
            let found = first(&site, to(partition, account)).unwrap();
            assert_eq!(found.mytoken.to_string(), wanted, "-p {partition} -A {account}");
        }
        assert_eq!(first(&site[..4], to("", "")), None);
        assert_eq!(first(&site[..1], to("gpu", "")), None, "an account that is not named is not known");
    }

    #[test]
    fn a_form_that_the_option_lacks_is_refused() {
        let read = |mytoken: &str| serde_json::from_str::<DefaultSettings>(&format!("{{\"mytoken\":\"{mytoken}\"}}"));
        assert_eq!(read("required:data").unwrap().mytoken.to_string(), "required:data");
        for wrong in ["", "required:", "a b", "jobs.toml"] {
            assert!(
                read(wrong).is_err_and(|error| error.to_string().contains("use PROFILE, off, required")),
                "{wrong}"
            );
        }
        assert!(serde_json::from_str::<DefaultSettings>(r#"{"partition":"gpu"}"#).is_err(), "mytoken is missing");
    }
}
