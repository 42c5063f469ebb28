// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user must know about a credential that is less than its job may need.

use mytoken::restrictions::Clause;
use mytoken::time_format::TimeFormat;

use crate::jobs::files::LeftOut;

/// A note about the end is left out if the credential has this part of the longest time, in percent: a session of this morning that was
/// made for the longest job is no reason for a line at each submission.
const ENOUGH: u64 = 90;

/// From where the parent of a sub-token comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentSource {
    /// The session's file, `MYTOKEN_FILE`.
    Session,
    /// The same, after a login with a link: its user may have no mytoken-ssh.
    LinkSession,
    /// The store of mytoken-ssh.
    Store,
}

impl ParentSource {
    const fn mytoken(self) -> &'static str {
        match self {
            Self::Session | Self::LinkSession => "your session's mytoken",
            Self::Store => "your mytoken in ~/.config/mytoken",
        }
    }

    /// A further file of the profile gets no token, because the parent does not allow it.
    #[must_use]
    pub fn left_out(self, file: &LeftOut) -> String {
        format!("this job gets no access token for its file \"{}\": {}", file.name, self.refuses(file))
    }

    /// Why a further file gets no token.
    #[must_use]
    pub fn refuses(self, file: &LeftOut) -> String {
        let reason = mytoken_wire::printable(&file.reason, 200);
        format!("{} does not allow it ({reason})", self.mytoken())
    }
}

/// A new credential beside what its profile asks for.
pub struct Comparison<'a> {
    /// From where its parent comes.
    pub source: ParentSource,
    /// What the profile asks for.
    pub wanted: &'a [Clause],
    /// The clauses of the sub-token.
    pub clauses: &'a [Clause],
    /// When the sub-token ends, Unix seconds.
    pub exp: u64,
    /// Unix seconds.
    pub now: u64,
}

impl Comparison<'_> {
    /// One sentence for each difference that matters.
    #[must_use]
    pub fn notes(&self, times: TimeFormat) -> Vec<String> {
        [self.end(times), self.begin(times), self.scope(), self.uses()].into_iter().flatten().collect()
    }

    fn parent(&self) -> &'static str {
        self.source.mytoken()
    }

    /// The credential ends before the longest job of the cluster could, after the longest wait.
    fn end(&self, times: TimeFormat) -> Option<String> {
        let longest = self.wanted.iter().filter_map(|clause| clause.exp).max()?.saturating_sub(self.now);
        if self.exp.saturating_sub(self.now) >= longest / 100 * ENOUGH {
            return None;
        }
        let remedy = match self.source {
            ParentSource::Session => format!("mytoken-ssh ssh --delegate={}", duration(longest)),
            ParentSource::LinkSession => format!(
                "log in with a link again, which begins its time anew (this site sets how long it is), or with mytoken-ssh ssh --delegate={}",
                duration(longest)
            ),
            ParentSource::Store => "mytoken-ssh login".to_owned(),
        };
        Some(format!(
            "this job's credential ends on {} because {} does; a job here can wait and run until {}. For a longer one: {remedy}",
            times.minutes(self.exp),
            self.parent(),
            times.minutes(self.now + longest),
        ))
    }

    /// No clause is valid yet.
    fn begin(&self, times: TimeFormat) -> Option<String> {
        let begin = self.clauses.iter().map(|clause| clause.nbf.unwrap_or(0)).min()?;
        let wanted = self.wanted.iter().map(|clause| clause.nbf.unwrap_or(0)).min()?;
        (begin > self.now.max(wanted)).then(|| {
            let begin = times.minutes(begin);
            format!("this job gets its first access token on {begin}: {} allows none before", self.parent())
        })
    }

    /// The server cut the scopes. The request itself never does: a profile gets all its scopes or none.
    fn scope(&self) -> Option<String> {
        let allowed = |scope: &&str| {
            self.clauses.iter().any(|clause| clause.scope.is_empty() || clause.scopes().any(|own| own == *scope))
        };
        let missing: Vec<&str> = self.wanted.first()?.scopes().filter(|scope| !allowed(scope)).collect();
        (!missing.is_empty()).then(|| {
            let missing = mytoken_wire::printable(&missing.join(" "), 200);
            format!("this job's access tokens lack the scope {missing}: the mytoken server did not give it")
        })
    }

    /// The number of access tokens is limited.
    fn uses(&self) -> Option<String> {
        let total = total(self.clauses)?;
        // A limit of the profile is no news.
        (total < total_of_profile(self.wanted)).then(|| {
            format!(
                "this job gets at most {total} access tokens on all its nodes, because {} is limited",
                self.parent()
            )
        })
    }
}

/// More access tokens than a job could need.
const MANY: i64 = 10_000;

/// The access tokens of all clauses. `None` without a limit.
fn total(clauses: &[Clause]) -> Option<i64> {
    let number = |total: i64, clause: &Clause| Some(total.saturating_add(clause.usages_at?));
    clauses.iter().try_fold(0, number).filter(|_| !clauses.is_empty())
}

fn total_of_profile(wanted: &[Clause]) -> i64 {
    total(wanted).map_or(MANY, |total| total.min(MANY))
}

/// `9d`, `36h`, `90m`: the form that `mytoken-ssh ssh --delegate` reads, rounded up.
fn duration(seconds: u64) -> String {
    match seconds {
        0..7_200 => format!("{}m", seconds.div_ceil(60)),
        7_200..172_800 => format!("{}h", seconds.div_ceil(3_600)),
        _ => format!("{}d", seconds.div_ceil(86_400)),
    }
}

/// For a credential whose job is submitted by somebody else: what happens if that is not done until `until`. `followed`: an agent sees to it.
#[must_use]
pub fn of_later_job(followed: bool, until: u64, exp: u64, times: TimeFormat) -> String {
    if followed {
        return format!("submit the job until {}: a credential without a job is revoked then", times.minutes(until));
    }
    format!(
        "no agent of this host follows this credential: if no job gets it, it is valid until {}",
        times.minutes(exp)
    )
}

/// What the clauses allow at all, for a person whose request the server has refused: addresses, countries, uses and times of each clause.
#[must_use]
pub fn limits(clauses: &[Clause]) -> String {
    const SHOWN: usize = 3;
    let times = TimeFormat::utc(0);
    let texts: Vec<String> = clauses.iter().take(SHOWN).map(|clause| limits_of(clause, times)).collect();
    match texts.as_slice() {
        [] => "it has no restrictions".to_owned(),
        _ => format!("it may be used {}", texts.join("; or ")),
    }
}

fn limits_of(clause: &Clause, times: TimeFormat) -> String {
    let list = |entries: &[String]| mytoken_wire::printable(&entries.join(", "), 120);
    let mut parts = Vec::new();
    if !clause.hosts.is_empty() {
        parts.push(format!("from the hosts {}", list(&clause.hosts)));
    }
    if !clause.geoip_allow.is_empty() {
        parts.push(format!("in the countries {}", list(&clause.geoip_allow)));
    }
    if !clause.geoip_disallow.is_empty() {
        parts.push(format!("outside the countries {}", list(&clause.geoip_disallow)));
    }
    if let Some(uses) = clause.usages_other {
        parts.push(format!("{uses} times for other requests than access tokens (usages_other)"));
    }
    if let Some(uses) = clause.usages_at {
        parts.push(format!("for {uses} access tokens (usages_AT)"));
    }
    if let Some(begin) = clause.nbf {
        parts.push(format!("from {} UTC", times.minutes(begin)));
    }
    if let Some(end) = clause.exp {
        parts.push(format!("until {} UTC", times.minutes(end)));
    }
    if parts.is_empty() { "anywhere at any time".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn wanted() -> Clause {
        Clause { exp: Some(NOW + 9 * DAY), scope: "storage.read storage.write".into(), ..Clause::default() }
    }

    fn notes(source: ParentSource, clauses: &[Clause], exp: u64) -> Vec<String> {
        let comparison = Comparison { source, wanted: &[wanted()], clauses, exp, now: NOW };
        comparison.notes(TimeFormat::utc(NOW))
    }

    #[test]
    fn an_early_end_is_told_with_its_reason_and_remedy() {
        let clause = |exp| Clause { exp: Some(exp), ..wanted() };
        let [line] = &notes(ParentSource::Session, &[clause(NOW + DAY)], NOW + DAY)[..] else { panic!("no line") };
        assert_eq!(
            line,
            "this job's credential ends on Sat 08:00 because your session's mytoken does; a job here can wait and run until \
             2027-01-24 08:00. For a longer one: mytoken-ssh ssh --delegate=9d"
        );
        let [line] = &notes(ParentSource::LinkSession, &[clause(NOW + DAY)], NOW + DAY)[..] else { panic!("no line") };
        let remedy = "For a longer one: log in with a link again, which begins its time anew (this site sets how long it is), \
                      or with mytoken-ssh ssh --delegate=9d";
        assert!(line.contains("your session's mytoken does") && line.ends_with(remedy), "{line}");
        let [line] = &notes(ParentSource::Store, &[clause(NOW + DAY)], NOW + DAY)[..] else { panic!("no line") };
        assert!(line.contains("~/.config/mytoken does") && line.ends_with("mytoken-ssh login"), "{line}");
        for exp in [NOW + 9 * DAY, NOW + 9 * DAY - DAY / 2] {
            assert!(notes(ParentSource::Session, &[clause(exp)], exp).is_empty());
        }
    }

    #[test]
    fn what_the_credential_lacks_is_told() {
        let exp = NOW + 9 * DAY;
        let told = |clauses: &[Clause]| notes(ParentSource::Session, clauses, exp).join("\n");
        assert_eq!(told(&[wanted()]), "");
        assert!(told(&[Clause { nbf: Some(NOW + DAY), ..wanted() }]).contains("first access token on Sat 08:00"));
        assert_eq!(told(&[Clause { nbf: Some(NOW + DAY), ..wanted() }, wanted()]), "", "one window is open");
        assert!(told(&[Clause { scope: "storage.read".into(), ..wanted() }]).contains("lack the scope storage.write"));
        let few = Clause { usages_at: Some(4), ..wanted() };
        assert!(told(&[few.clone(), few.clone()]).contains("at most 8 access tokens"));
        assert_eq!(told(&[few, wanted()]), "", "the second clause has no limit");
    }

    #[test]
    fn what_the_profile_itself_limits_is_no_news() {
        let wanted = [Clause { nbf: Some(NOW + DAY), usages_at: Some(5), ..wanted() }];
        let told = |clauses: &[Clause]| {
            Comparison { source: ParentSource::Session, wanted: &wanted, clauses, exp: NOW + 9 * DAY, now: NOW }
                .notes(TimeFormat::utc(NOW))
                .join("\n")
        };
        assert_eq!(told(&wanted), "");
        let less = Clause { nbf: Some(NOW + 2 * DAY), usages_at: Some(4), ..wanted[0].clone() };
        let told = told(&[less]);
        assert!(told.contains("first access token on Sun") && told.contains("at most 4 access tokens"), "{told}");
    }

    #[test]
    fn a_later_job_has_an_hour_if_an_agent_sees_to_it() {
        let told = |followed| of_later_job(followed, NOW + 3_600, NOW + DAY, TimeFormat::utc(NOW));
        assert_eq!(told(true), "submit the job until 09:00: a credential without a job is revoked then");
        let alone = told(false);
        assert!(alone.starts_with("no agent of this host") && alone.ends_with("valid until Sat 08:00"), "{alone}");
    }

    #[test]
    fn durations_have_the_form_of_the_option() {
        assert_eq!([90 * 60, 36 * 3_600, 9 * DAY, 9 * DAY - 1].map(duration), ["90m", "36h", "9d", "9d"]);
    }

    #[test]
    fn the_limits_of_a_mytoken_have_dimension_and_value() {
        let clause = Clause {
            hosts: vec!["192.0.2.0/24".into()],
            geoip_allow: vec!["DE".into()],
            usages_other: Some(0),
            exp: Some(NOW),
            ..Clause::default()
        };
        assert_eq!(
            limits(&[clause, Clause::default()]),
            "it may be used from the hosts 192.0.2.0/24, in the countries DE, 0 times for other requests than access tokens \
             (usages_other), until 2027-01-15 08:00 UTC; or anywhere at any time"
        );
        assert_eq!(limits(&[]), "it has no restrictions");
    }
}
