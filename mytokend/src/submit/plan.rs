// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a submission would request, without making anything. No mytoken is sent.

use mytoken::capabilities::{AT, Capabilities};
use mytoken::config::Shared;
use mytoken::http::HttpClient;
use mytoken::restrictions::Clause;
use mytoken::server::Server;
use mytoken::time_format::TimeFormat;
use mytoken::urls::ServerUrl;
use mytoken::{Clock, Deadline, Error, Secret};

use super::error::SubmitError;
use super::notes::{Comparison, ParentSource};
use super::sub_token::{restrictions_of, sub_token_request};
use super::{SubmitConfig, UserEnvironment, cache, find_parent, parent};
use crate::jobs::files;
use crate::jobs::profile::ProfileSettings;
use crate::jobs::start_windows;

/// What a submission would request from the mytoken server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSubmission {
    /// URL of the mytoken server.
    pub server: String,
    /// What the profile wants, a clause for each of its windows.
    pub wanted: Vec<Clause>,
    /// The restrictions of the sub-token: the mytoken's own, narrowed to what the profile wants.
    pub clauses: Vec<Clause>,
    /// When the agents of the nodes give access tokens, if the profile limits that.
    pub start_windows: Option<String>,
    /// Id of the key pair to which the credential would be sealed.
    pub key: String,
}

/// What a submission would request with `mytoken` in the session's file. Nothing is made, and the mytoken is not sent.
///
/// # Errors
/// Why there would be no credential, as far as that is known before the request.
pub fn plan(
    config: &SubmitConfig,
    (profile, environment): (&str, &UserEnvironment),
    mytoken: &Secret,
    clock: &dyn Clock,
    deadline: Deadline,
) -> Result<PlannedSubmission, SubmitError> {
    let profile = &config.profile(profile, environment)?;
    let url = config.shared.server_url(&profile.server)?;
    let no_mytoken = |unusable| {
        let server = url.as_str().trim_start_matches("https://").to_owned();
        SubmitError::NoMytoken { server, session: Some(unusable), stored: None }
    };
    let usable = |now| parent::usable(mytoken, &url, now).map_err(no_mytoken);
    // As a submission: this host's clock alone refuses nothing.
    if let Some(error) = usable(clock.now()).err().filter(|error| !error.is_about_time()) {
        return Err(error);
    }
    let http = HttpClient::new(&config.shared.http_settings())?;
    let server = Server::discover(&http, &url, deadline)?.with_clock(clock);
    usable(server.now())?;
    let own = restrictions_of(mytoken, None);
    let (wanted, _) = files::fitting(profile, &own, config.jobs.cluster.longest(), server.now());
    let clauses = narrowed(&server, (mytoken, None), &wanted, deadline)?;
    let start_windows = start_windows::described(&profile.start_windows);
    Ok(PlannedSubmission { server: url.to_string(), wanted, clauses, start_windows, key: config.key.id().to_owned() })
}

/// What a submission of the caller would get of what its profile wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallersPlan {
    /// From where the mytoken comes.
    pub source: ParentSource,
    /// What the profile wants now by the server's clock.
    pub wanted: Vec<Clause>,
    /// The restrictions of the sub-token.
    pub clauses: Vec<Clause>,
    /// One sentence for each difference that matters.
    pub notes: Vec<String>,
}

/// What a submission with `profile` would request with the caller's own mytoken: that of the session, or of the store. `longest` is the
/// longest wait and run time of the cluster in seconds.
///
/// # Errors
/// Why there would be no credential, as far as that is known before the request.
pub fn plan_of_caller(
    shared: &Shared,
    url: &ServerUrl,
    (profile, longest): (&ProfileSettings, u64),
    environment: &UserEnvironment,
    clock: &dyn Clock,
    (times, deadline): (TimeFormat, Deadline),
) -> Result<CallersPlan, SubmitError> {
    let store = parent::open_store(environment.home.as_deref())?;
    let parent = find_parent(url, environment, store.as_ref(), clock, &shared.http_settings(), deadline)?;
    let (source, mytoken, own) = (parent.source(), parent.token().clone(), parent.clauses().map(<[Clause]>::to_vec));
    // The store is locked as long as a rotating mytoken is in use. This one is not used.
    drop(parent);
    let http = HttpClient::new(&shared.http_settings())?;
    let cache = cache(environment.home.as_deref());
    let server = Server::discover_cached(&http, url, cache.as_ref(), clock, deadline)?.with_clock(clock);
    let now = server.now();
    let (wanted, left_out) = files::fitting(profile, &restrictions_of(&mytoken, own.as_deref()), longest, now);
    let clauses = narrowed(&server, (&mytoken, own.as_deref()), &wanted, deadline)?;
    let exp = clauses.iter().filter_map(|clause| clause.exp).max().unwrap_or(0);
    let mut notes = Comparison { source, wanted: &wanted, clauses: &clauses, exp, now }.notes(times);
    notes.extend(left_out.iter().map(|left| source.left_out(left)));
    Ok(CallersPlan { source, wanted, clauses, notes })
}

/// The clauses of a sub-token. Nothing is sent if the mytoken's own clauses are known.
///
/// # Errors
/// [`SubmitError::Client`]: the client would not request such a sub-token.
pub(crate) fn narrowed(
    server: &Server<'_>,
    (mytoken, own): (&Secret, Option<&[Clause]>),
    wanted: &[Clause],
    deadline: Deadline,
) -> Result<Vec<Clause>, SubmitError> {
    let capabilities = Capabilities::new([AT]).map_err(Error::from)?;
    Ok(server.child_clauses(&sub_token_request(mytoken, own, wanted, &capabilities, ""), deadline)?)
}
