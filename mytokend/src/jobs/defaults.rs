// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[[default]]`: what a submission gets for which the user says nothing, by its partition and account.

pub use mytoken_wire::defaults::{DefaultSettings, Destination, first};
use mytoken_wire::{CredentialOption, ProfileName};

use super::settings::DEFAULT;

/// Checks what the types cannot express. `is_known` says whether there is a profile of a name.
///
/// # Errors
/// Which table it is, and a sentence that names the table.
pub fn check(tables: &[DefaultSettings], is_known: impl Fn(&str) -> bool) -> Result<(), (usize, String)> {
    for (number, table) in tables.iter().enumerate() {
        let whose = format!("[[default]] for {}", printable(&table.whose()));
        for (key, value) in [("partition", &table.partition), ("account", &table.account)] {
            let is_name = |name: &String| {
                !name.is_empty() && !name.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control())
            };
            if !value.as_ref().is_none_or(is_name) {
                return Err((number, format!("{whose}: {key} must be one name, without commas and blanks")));
            }
        }
        if let CredentialOption::On { profile: Some(profile), .. } = &table.mytoken {
            if !is_known(profile.as_str()) {
                return Err((number, format!("{whose}: there is no profile \"{profile}\"")));
            }
        }
        if let Some(earlier) = tables.iter().take(number).find(|earlier| earlier.covers(table)) {
            let problem = format!(
                "{whose} is never used, because one for {} stands before it; write the most specific first",
                printable(&earlier.whose())
            );
            return Err((number, problem));
        }
    }
    Ok(())
}

fn printable(text: &str) -> String {
    mytoken_wire::printable(text, 200)
}

/// What is known of a submission that leaves the profile to the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Unnamed<'a> {
    /// Where the job goes.
    pub to: Destination<'a>,
    /// The site's default profile in plugstack.conf.
    pub of_site: Option<&'a ProfileName>,
    /// Whether nobody asked for a credential: the site gives them by default.
    pub by_default: bool,
    /// Whether the user said that the job must not run without one.
    pub required: bool,
}

/// Where a choice comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A table of the user's own file.
    Own(&'a DefaultSettings),
    /// A table of the site.
    Site(&'a DefaultSettings),
    /// `default=` in plugstack.conf.
    Plugstack,
    /// Nothing says anything.
    Nothing,
}

/// What a submission gets that names no profile: what the first matching table of the user's own file says, or else of the site's file, or
/// else the site's default. Who asks for a credential without naming a profile takes only the name from there: the tables decide neither
/// that there is none, nor that it is required.
#[must_use]
pub fn choose<'a>(
    own: &'a [DefaultSettings],
    site: &'a [DefaultSettings],
    job: Unnamed<'_>,
) -> (CredentialOption, Origin<'a>) {
    let of_site = job.of_site.cloned();
    let table = first(own, job.to).map(|table| (table, Origin::Own(table)));
    let table = table.or_else(|| first(site, job.to).map(|table| (table, Origin::Site(table))));
    let fallback = if job.of_site.is_some() { Origin::Plugstack } else { Origin::Nothing };
    let standard = || of_site.clone().or_else(|| ProfileName::parse(DEFAULT));
    match (table, job.by_default) {
        (Some((table, origin)), true) => match &table.mytoken {
            CredentialOption::On { profile: None, required } => {
                (CredentialOption::On { profile: standard(), required: *required }, origin)
            }
            named => (named.clone(), origin),
        },
        (Some((table, origin)), false) => {
            let named = match &table.mytoken {
                CredentialOption::On { profile: Some(profile), .. } => Some(profile.clone()),
                CredentialOption::On { profile: None, .. } | CredentialOption::Off => None,
            };
            let origin = if named.is_some() { origin } else { fallback };
            (CredentialOption::On { profile: named.or_else(standard), required: job.required }, origin)
        }
        (None, true) if of_site.is_none() => (CredentialOption::Off, fallback),
        (None, _) => (CredentialOption::On { profile: standard(), required: job.required }, fallback),
    }
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
    fn each_order_of_defaults_gives_one_result() {
        let (none, gpu): (&[&str], &[&str]) = (&[], &["gpu/=data"]);
        for (own, site, plugstack, by_default, required, wanted) in [
            // Nobody asked for a credential.
            (none, none, "", true, false, "off"),
            (none, none, "site", true, false, "site"),
            (none, gpu, "site", true, false, "data"),
            (none, &["cpu/=data"], "site", true, false, "site"),
            (none, &["cpu/=data"], "", true, false, "off"),
            (none, &["gpu/=off"], "site", true, false, "off"),
            (none, &["gpu/=required:data"], "", true, false, "required:data"),
            (none, &["gpu/=required"], "", true, false, "required:default"),
            (none, &["gpu/=required"], "site", true, false, "required:site"),
            (&["/=off"], gpu, "site", true, false, "off"),
            (&["gpu/=mine"], gpu, "", true, false, "mine"),
            (&["cpu/=mine"], gpu, "", true, false, "data"),
            // --mytoken, or --mytoken=required, without a name.
            (none, none, "", false, false, "default"),
            (none, none, "site", false, true, "required:site"),
            (none, gpu, "site", false, false, "data"),
            (none, gpu, "", false, true, "required:data"),
            (none, &["gpu/=off"], "", false, false, "default"),
            (none, &["gpu/=off"], "site", false, true, "required:site"),
            (none, &["gpu/=required:data"], "", false, false, "data"),
            (&["/=mine"], gpu, "site", false, false, "mine"),
            (&["/=off"], gpu, "site", false, false, "site"),
        ] {
            let (own, site) = (tables(own), tables(site));
            let of_site = ProfileName::parse(plugstack);
            let job = Unnamed { to: to("gpu", ""), of_site: of_site.as_ref(), by_default, required };
            let (chosen, origin) = choose(&own, &site, job);
            assert_eq!(chosen.to_string(), wanted, "{own:?} {site:?} {job:?}");
            match origin {
                Origin::Own(table) => assert!(own.contains(table)),
                Origin::Site(table) => assert!(site.contains(table)),
                Origin::Plugstack => assert!(of_site.is_some()),
                Origin::Nothing => assert!(["off", "default"].contains(&wanted), "{wanted}"),
            }
        }
    }

    #[test]
    fn tables_that_cannot_be_meant_are_refused() {
        let known = |name: &str| ["data", "default"].contains(&name);
        let name = |partition: &str| DefaultSettings {
            partition: Some(partition.to_owned()),
            account: None,
            mytoken: CredentialOption::Off,
        };
        for wrong in ["", "a,b", "a b", "a\n"] {
            let (_, fault) = check(&[name(wrong)], known).unwrap_err();
            assert!(fault.contains("partition must be one name"), "{fault}");
        }
        for (lines, wanted) in [
            (&["gpu/=other"][..], Some("[[default]] for partition gpu: there is no profile \"other\"")),
            (&["gpu/=required:other"], Some("there is no profile \"other\"")),
            (
                &["gpu/=data", "gpu/bio=off"],
                Some(
                    "[[default]] for partition gpu, account bio is never used, because one for partition gpu stands before it; write the most specific first",
                ),
            ),
            (&["/=data", "gpu/=off"], Some("one for any submission stands before it")),
            (&["/bio=data", "/BIO=off"], Some("[[default]] for account BIO is never used")),
            (&["gpu/bio=off", "gpu/=data", "/bio=required", "/=off"], None),
            (&["gpu/bio=off", "cpu/bio=off"], None),
        ] {
            let found = check(&tables(lines), known).err();
            match wanted {
                Some(wanted) => assert!(
                    found.as_ref().is_some_and(|(index, fault)| *index + 1 == lines.len() && fault.contains(wanted)),
                    "{found:?}"
                ),
                None => assert_eq!(found, None),
            }
        }
    }
}
