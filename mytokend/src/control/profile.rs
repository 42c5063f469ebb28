// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl profile`: which profiles there are, and what a submission with one of them would request for the caller.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::restrictions::Clause;
use mytoken::time_format::TimeFormat;
use mytoken::{Clock, Deadline, Error};
use mytoken_wire::{CredentialOption, printable};

use super::check::slurm::site_default;
use super::explain_submission::described;
use super::profile_defaults::Defaults;
use crate::jobs::own_profiles::{OwnName, OwnProfiles};
use crate::jobs::profile::ProfileSettings;
use crate::jobs::settings::JobsSettings;
use crate::jobs::{request, start_windows};
use crate::submit::notes::ParentSource;
use crate::submit::plan::{CallersPlan, plan_of_caller};
use crate::submit::{SubmitError, UserEnvironment, profile};

/// Time limit for the discovery of the mytoken server.
const NETWORK: Duration = Duration::from_secs(10);

fn load(config: &Path) -> Result<(Shared, JobsSettings), Error> {
    let trust = FileTrust::current();
    let shared = Shared::load(config, trust)?;
    let jobs = JobsSettings::load(config, trust, &shared)?;
    Ok((shared, jobs))
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The environment.
    pub environment: &'a UserEnvironment,
    /// The value of `MYTOKEN_PROFILE`.
    pub variable: Option<&'a str>,
}

/// The profiles of the site, one a line, those of the caller's own file, and which of them a submission gets that names none.
///
/// # Errors
/// An error in the configuration, or in the caller's own file.
pub fn list(config: &Path, caller: Caller<'_>) -> Result<String, SubmitError> {
    let (_, jobs) = load(config)?;
    let own = OwnProfiles::load(caller.environment.home.as_deref()).map_err(SubmitError::OwnProfiles)?;
    let defaults = defaults(&jobs, &own, caller)?.list();
    Ok(render_list(&jobs.profile, &own.names().collect::<Vec<_>>()) + &printable_lines(&defaults))
}

fn defaults<'a>(jobs: &'a JobsSettings, own: &'a OwnProfiles, caller: Caller<'a>) -> Result<Defaults<'a>, SubmitError> {
    let of_user = own.defaults(jobs).map_err(SubmitError::OwnProfiles)?;
    Ok(Defaults { variable: caller.variable, own: of_user, site: &jobs.default, plugstack: site_default() })
}

/// The profile of a submission by the caller to this partition and with this account that names none.
///
/// # Errors
/// An error in the caller's own file.
pub(super) fn of_submission(
    jobs: &JobsSettings,
    caller: Caller<'_>,
    (partition, account): (Option<&str>, Option<&str>),
) -> Result<String, SubmitError> {
    if let Some(CredentialOption::On { profile: Some(named), .. }) = caller.variable.and_then(CredentialOption::parse) {
        return Ok(named.to_string());
    }
    let own = OwnProfiles::load(caller.environment.home.as_deref()).map_err(SubmitError::OwnProfiles)?;
    Ok(defaults(jobs, &own, caller)?.of_option(jobs.destination(partition, account)).0)
}

fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(line, usize::MAX) + "\n").collect()
}

/// What a submission with the profile `name`, or to a partition and with an account without a name, would request with the caller's mytoken, and whether it would. Nothing is made, and the
/// mytoken is not sent.
///
/// # Errors
/// An error in the configuration, or there is no such profile.
pub fn show(
    config: &Path,
    (name, (partition, account)): (Option<&str>, (Option<&str>, Option<&str>)),
    caller: Caller<'_>,
    clock: &dyn Clock,
    times: TimeFormat,
) -> Result<(String, bool), SubmitError> {
    let (shared, jobs) = load(config)?;
    let environment = caller.environment;
    let (name, by_default) = match name {
        Some(name) => (name.to_owned(), String::new()),
        None => {
            let own = OwnProfiles::load(environment.home.as_deref()).map_err(SubmitError::OwnProfiles)?;
            let defaults = defaults(&jobs, &own, caller)?;
            let to = jobs.destination(partition, account);
            let (name, origin) = defaults.of_option(to);
            let (without, who) = defaults.without_option(to);
            (name, format!("named by     {origin}\nwithout      --mytoken: {without} ({who})\n"))
        }
    };
    let profile = &profile(&jobs, environment, &name)?;
    let url = shared.server_url(&profile.server)?;
    let limits = (times, Deadline::after(NETWORK));
    let what = (profile, jobs.cluster.longest());
    let plan = plan_of_caller(&shared, &url, what, environment, clock, limits);
    // Without a plan nobody has asked the server for its time.
    let wanted = |_: &SubmitError| request::wanted(profile, &jobs.cluster, clock.now());
    let wanted = plan.as_ref().map_or_else(wanted, |plan| plan.wanted.clone());
    let text = printable_lines(&by_default) + &render(profile, url.as_str(), &wanted, &plan, times);
    Ok((text, plan.is_ok()))
}

/// The names of the further files.
fn files(profile: &ProfileSettings) -> String {
    let names: Vec<&str> = profile.files.iter().map(|file| file.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!(", files {}", names.join(" ")) }
}

fn render_list(profiles: &[ProfileSettings], own: &[OwnName<'_>]) -> String {
    let names = profiles.iter().map(|profile| profile.name.as_str()).chain(own.iter().map(|own| own.name));
    let width = names.map(str::len).max().unwrap_or(0);
    let line = |name: &str, text: &str| printable(&format!("{name:<width$}  {text}"), usize::MAX) + "\n";
    let of_site = profiles.iter().map(|profile| {
        line(&profile.name, &format!("scope {}, audience {}{}", profile.scope, profile.audience, files(profile)))
    });
    let of_user = own.iter().map(|own| {
        line(own.name, &format!("narrows \"{}\" of the site, in ~/.config/mytoken/jobs.toml", own.based_on))
    });
    of_site.chain(of_user).collect()
}

fn render(
    profile: &ProfileSettings,
    server: &str,
    wanted: &[Clause],
    plan: &Result<CallersPlan, SubmitError>,
    times: TimeFormat,
) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {}", printable(value, usize::MAX));
    };
    line("profile", &profile.name);
    line("server", server);
    if !profile.files.is_empty() {
        let files = std::iter::once(("main", &profile.scope, &profile.audience))
            .chain(profile.files.iter().map(|file| (file.name.as_str(), &file.scope, &file.audience)));
        for (name, scope, audience) in files {
            line("file", &format!("{name}: scope {scope}, audience {audience}"));
        }
    }
    for clause in wanted {
        line("wanted", &described(clause, times));
    }
    if let Some(windows) = start_windows::described(&profile.start_windows) {
        line("at nodes", &windows);
    }
    match plan {
        Ok(plan) => {
            line("mytoken", &format!("{}; it was not sent", source(plan.source)));
            for clause in &plan.clauses {
                line("sub-token", &described(clause, times));
            }
            for note in &plan.notes {
                line("note", note);
            }
            line("result", "a submission requests this sub-token; nothing was made here");
        }
        Err(error) => line("result", &format!("no credential: {error}")),
    }
    text
}

fn source(source: ParentSource) -> &'static str {
    match source {
        ParentSource::Session | ParentSource::LinkSession => "that of your session (MYTOKEN_FILE)",
        ParentSource::Store => "that of mytoken-ssh login (~/.config/mytoken)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-21 20:58:11 UTC, a Saturday.
    const NOW: u64 = 1_795_294_691;

    fn wanted() -> Clause {
        Clause {
            exp: Some(NOW + 9 * 86_400),
            scope: "storage.read".into(),
            audience: vec!["https://se.example.org".into()],
            ..Clause::default()
        }
    }

    fn profile(more: &str) -> ProfileSettings {
        let text = format!(
            "[cluster]\nname='c'\n[[profile]]\nname='data'\nserver='s'\nscope='storage.read'\naudience='https://se.example.org'\n{more}"
        );
        toml::from_str::<JobsSettings>(&text).unwrap().profile.remove(0)
    }

    #[test]
    fn each_file_is_shown_with_what_it_asks_for() {
        let profile = profile("files=[{name='ce', scope='compute.read', audience='https://ce.example.org'}]");
        let error = SubmitError::NoMytoken { server: "mt.example.org".into(), session: None, stored: None };
        let text = render(&profile, "https://mt.example.org", &[wanted()], &Err(error), TimeFormat::utc(NOW));
        let lines = "\nfile         main: scope storage.read, audience https://se.example.org\n\
                     file         ce: scope compute.read, audience https://ce.example.org\nwanted ";
        assert!(text.contains(lines), "{text}");
        assert!(!text.contains("at nodes"), "{text}");
        let list = render_list(&[profile], &[]);
        assert_eq!(list, "data  scope storage.read, audience https://se.example.org, files ce\n");
    }

    #[test]
    fn windows_that_the_nodes_keep_are_shown_as_such() {
        let profile = profile("start_windows=[{until='1h'}, {from='23h', until='24h'}]");
        let error = SubmitError::NoMytoken { server: "mt.example.org".into(), session: None, stored: None };
        let text = render(&profile, "https://mt.example.org", &[wanted()], &Err(error), TimeFormat::utc(NOW));
        let line = "\nat nodes     access tokens only from 0s to 1h and from 23h to 1d after the start of a job; its nodes keep this, not the mytoken server\n";
        assert!(text.contains(line), "{text}");
    }

    fn rendered(plan: &Result<CallersPlan, SubmitError>) -> String {
        render(&profile(""), "https://mt.example.org", &[wanted()], plan, TimeFormat::utc(NOW))
    }

    #[test]
    fn the_screen_shows_what_the_callers_mytoken_gives_of_the_profile() {
        let clause = Clause { exp: Some(NOW + 3600), ..wanted() };
        let plan = CallersPlan {
            wanted: Vec::new(),
            source: ParentSource::Session,
            clauses: vec![clause],
            notes: vec!["this job's credential ends on 21:58".into()],
        };
        let expected = "\
profile      data
server       https://mt.example.org
wanted       until 2026-11-30 20:58 {\"scope\":\"storage.read\",\"audience\":[\"https://se.example.org\"]}
mytoken      that of your session (MYTOKEN_FILE); it was not sent
sub-token    until 21:58 {\"scope\":\"storage.read\",\"audience\":[\"https://se.example.org\"]}
note         this job's credential ends on 21:58
result       a submission requests this sub-token; nothing was made here
";
        assert_eq!(rendered(&Ok(plan)), expected);
    }

    #[test]
    fn without_a_mytoken_the_screen_shows_what_the_profile_wants() {
        let error = SubmitError::NoMytoken { server: "mt.example.org".into(), session: None, stored: None };
        let text = rendered(&Err(error));
        assert!(text.contains("\nwanted       until 2026-11-30 20:58 "), "{text}");
        assert!(text.ends_with("Run: mytoken-ssh login\n") && !text.contains("sub-token "), "{text}");
    }

    #[test]
    fn the_list_has_a_line_for_each_profile() {
        let jobs: JobsSettings = toml::from_str(
            "[cluster]\nname='c'\n[[profile]]\nname='default'\nserver='s'\nscope='a b'\naudience='https://x'\n\
             [[profile]]\nname='w'\nserver='s'\nscope='c'\naudience='https://y'",
        )
        .unwrap();
        assert_eq!(
            render_list(&jobs.profile, &[OwnName { name: "mine", based_on: "w" }]),
            "default  scope a b, audience https://x\nw        scope c, audience https://y\n\
             mine     narrows \"w\" of the site, in ~/.config/mytoken/jobs.toml\n"
        );
    }
}
