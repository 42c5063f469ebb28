// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which profile a submission gets that names none, for `mytokenctl profile`.

use mytoken_wire::CredentialOption;
use mytoken_wire::credential_option::VARIABLE;
use mytoken_wire::profile::SiteDefault;

use crate::jobs::defaults::{DefaultSettings, Destination, Origin, Unnamed, choose};
use crate::jobs::settings::DEFAULT;

/// The user's own file, in messages.
const OWN_FILE: &str = "~/.config/mytoken/jobs.toml";

/// All that names a profile where the submission does not.
pub struct Defaults<'a> {
    /// The value of the user's variable.
    pub variable: Option<&'a str>,
    /// The tables of the user's own file.
    pub own: &'a [DefaultSettings],
    /// The tables of the site.
    pub site: &'a [DefaultSettings],
    /// `default=` of plugstack.conf. `None`: not known on this host.
    pub plugstack: Option<SiteDefault>,
}

impl Defaults<'_> {
    /// The profile of a submission with `--mytoken` and without a name, and who names it.
    #[must_use]
    pub fn of_option(&self, to: Destination<'_>) -> (String, String) {
        let (chosen, origin) = self.choose(to, false);
        let profile = match chosen {
            CredentialOption::On { profile: Some(profile), .. } => profile.to_string(),
            CredentialOption::On { profile: None, .. } | CredentialOption::Off => DEFAULT.to_owned(),
        };
        (profile, origin)
    }

    /// What a submission without `--mytoken` gets, and who says so.
    #[must_use]
    pub fn without_option(&self, to: Destination<'_>) -> (String, String) {
        if let Some(value) = self.variable.filter(|value| !value.is_empty()) {
            return match CredentialOption::parse(value) {
                Some(option) => (option.to_string(), VARIABLE.to_owned()),
                None => ("off".to_owned(), format!("{VARIABLE}={value:?}, which is not valid")),
            };
        }
        match &self.plugstack {
            Some(SiteDefault::Off) => ("off".to_owned(), "default=off in plugstack.conf".to_owned()),
            None => ("off".to_owned(), "this host has no plugstack.conf with the plugin".to_owned()),
            Some(SiteDefault::Tables | SiteDefault::Profile(_)) => {
                let (chosen, origin) = self.choose(to, true);
                (chosen.to_string(), origin)
            }
        }
    }

    fn choose(&self, to: Destination<'_>, by_default: bool) -> (CredentialOption, String) {
        let of_site = match &self.plugstack {
            Some(SiteDefault::Profile(profile)) => Some(profile),
            Some(SiteDefault::Off | SiteDefault::Tables) | None => None,
        };
        let (chosen, origin) = choose(self.own, self.site, Unnamed { to, of_site, by_default, required: false });
        let table = |table: &DefaultSettings, file: &str| format!("[[default]] for {} in {file}", table.whose());
        let origin = match origin {
            Origin::Own(of_user) => table(of_user, OWN_FILE),
            Origin::Site(of_site) => table(of_site, "jobs.toml"),
            Origin::Plugstack => "default= in plugstack.conf".to_owned(),
            Origin::Nothing => "no [[default]] matches".to_owned(),
        };
        (chosen, origin)
    }

    /// Lines about all of them in the order in which they count. Empty where nothing but `--mytoken` gives a credential.
    #[must_use]
    pub fn list(&self) -> String {
        let off = matches!(self.plugstack, Some(SiteDefault::Off) | None);
        let row = |table: &DefaultSettings, file: &str| (table.whose(), table.mytoken.to_string(), file.to_owned());
        let mut rows: Vec<(String, String, String)> = self.own.iter().map(|table| row(table, OWN_FILE)).collect();
        rows.extend(self.site.iter().map(|table| row(table, "jobs.toml")));
        if let Some(SiteDefault::Profile(profile)) = &self.plugstack {
            rows.push(("any submission".to_owned(), profile.to_string(), "plugstack.conf".to_owned()));
        }
        let variable = self.variable.filter(|value| !value.is_empty());
        let mut text = String::new();
        if let Some(value) = variable {
            text += &match CredentialOption::parse(value) {
                Some(_) => format!("\nWithout --mytoken your submissions get {value} ({VARIABLE})\n"),
                None => format!(
                    "\nWithout --mytoken your submissions get no credential: {VARIABLE}={value:?} is not valid\n"
                ),
            };
        } else if off && !rows.is_empty() {
            text += "\nWithout --mytoken a submission gets no credential (default=off in plugstack.conf)\n";
        }
        if rows.is_empty() {
            return text;
        }
        text += if off || variable.is_some() {
            "\nWith --mytoken and without a name it gets the first profile of these that matches\n"
        } else {
            "\nWithout --mytoken a submission gets the first of these that matches, otherwise no credential\n"
        };
        let width =
            |of: fn(&(String, String, String)) -> &String| rows.iter().map(|row| of(row).len()).max().unwrap_or(0);
        let (first, second) = (width(|row| &row.0), width(|row| &row.1));
        for (whose, mytoken, file) in &rows {
            text += &format!("  {whose:<first$}  {mytoken:<second$}  {file}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(partition: &str, mytoken: &str) -> DefaultSettings {
        let partition = (!partition.is_empty()).then(|| partition.to_owned());
        DefaultSettings { partition, account: None, mytoken: CredentialOption::parse(mytoken).unwrap() }
    }

    #[test]
    fn each_default_is_told_with_its_origin() {
        let gpu = Destination { partition: Some("gpu"), account: None };
        let own = [table("gpu", "off")];
        let site = [table("gpu", "required:data"), table("", "other")];
        let none: &[DefaultSettings] = &[];
        for (variable, own, plugstack, without, with) in [
            (
                None,
                none,
                Some("off"),
                "off: default=off in plugstack.conf",
                "data: [[default]] for partition gpu in jobs.toml",
            ),
            (
                None,
                none,
                None,
                "off: this host has no plugstack.conf with the plugin",
                "data: [[default]] for partition gpu in jobs.toml",
            ),
            (
                Some("required:x"),
                none,
                Some("off"),
                "required:x: MYTOKEN_PROFILE",
                "data: [[default]] for partition gpu in jobs.toml",
            ),
            (
                Some("a b"),
                none,
                Some("off"),
                "off: MYTOKEN_PROFILE=\"a b\", which is not valid",
                "data: [[default]] for partition gpu in jobs.toml",
            ),
            (
                None,
                none,
                Some("jobs.toml"),
                "required:data: [[default]] for partition gpu in jobs.toml",
                "data: [[default]] for partition gpu in jobs.toml",
            ),
            (
                Some(""),
                &own,
                Some("jobs.toml"),
                "off: [[default]] for partition gpu in ~/.config/mytoken/jobs.toml",
                "default: no [[default]] matches",
            ),
            (
                None,
                &own,
                Some("site"),
                "off: [[default]] for partition gpu in ~/.config/mytoken/jobs.toml",
                "site: default= in plugstack.conf",
            ),
        ] {
            let plugstack = plugstack.and_then(SiteDefault::parse);
            let defaults = Defaults { variable, own, site: &site, plugstack };
            let shown = |(what, origin): (String, String)| format!("{what}: {origin}");
            assert_eq!(shown(defaults.without_option(gpu)), without, "{variable:?}");
            assert_eq!(shown(defaults.of_option(gpu)), with, "{variable:?}");
        }
    }

    #[test]
    fn the_list_has_the_defaults_in_their_order() {
        let site = [table("gpu", "required:data"), table("", "other")];
        let own = [table("cpu", "off")];
        let list = |variable, own, site, plugstack: &str| {
            Defaults { variable, own, site, plugstack: SiteDefault::parse(plugstack) }.list()
        };
        assert_eq!(list(None, &[], &[], "off"), "");
        assert_eq!(
            list(Some("data"), &[], &[], "off"),
            "\nWithout --mytoken your submissions get data (MYTOKEN_PROFILE)\n"
        );
        assert_eq!(
            list(Some("a b"), &[], &[], "off"),
            "\nWithout --mytoken your submissions get no credential: MYTOKEN_PROFILE=\"a b\" is not valid\n"
        );
        assert_eq!(
            list(None, &own, &site, "site"),
            "\nWithout --mytoken a submission gets the first of these that matches, otherwise no credential\n  \
               partition cpu   off            ~/.config/mytoken/jobs.toml\n  \
               partition gpu   required:data  jobs.toml\n  \
               any submission  other          jobs.toml\n  \
               any submission  site           plugstack.conf\n"
        );
        let off = list(None, &[], &site, "off");
        assert!(
            off.starts_with("\nWithout --mytoken a submission gets no credential")
                && off.contains("With --mytoken and without a name"),
            "{off}"
        );
    }
}
