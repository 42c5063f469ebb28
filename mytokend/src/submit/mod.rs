// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-submit`: makes one sub-token for one submission and seals it to the cluster.
//!
//! The Slurm plugin starts it with the rights of the submitting user. It sends one request to the mytoken server, or two when the server's
//! discovery document is not in the user's cache. A failure of the server costs one more, and so does a request that has no answer after
//! three seconds. A sub-token that comes too late is revoked.

pub mod arguments;
pub mod choice;
mod clusters;
mod credential;
mod error;
mod followed;
pub mod notes;
pub(crate) mod parent;
pub mod patience;
pub(crate) mod permit;
pub mod plan;
mod registered;
pub mod relay;
mod request_threads;
mod server_time;
mod share;
mod sub_token;
pub mod worker;

use mytoken::InputError;
use std::path::Path;
use std::sync::Arc;

use mytoken::config::{FileTrust, Shared};
use mytoken::http::{HttpClient, boot_id};
use mytoken::private_files::Owner;
use mytoken::server::{Granted, Server};
use mytoken::time_format::TimeFormat;
use mytoken::urls::ServerUrl;
use mytoken::{Clock, Deadline, Error};
use mytoken_wire::Handle;

use crate::jobs::files::{self, SealedFile};
use crate::jobs::keys::PublicKey;
use crate::jobs::own_profiles::OwnProfiles;
use crate::jobs::profile::ProfileSettings;
use crate::jobs::sealed::{JobCredential, seal};
use crate::jobs::settings::JobsSettings;
use crate::jobs::submission_time::LONGEST_SUBMISSION;
use crate::jobs::{SealError, StartWindow, request};

use credential::CreatedToken;
use followed::Window;
use notes::Comparison;
use parent::Parent;
use patience::Patience;
use permit::{tell_sent, wait_for_permit};
use share::{Binding, Share, SharedCredential};
use sub_token::Overlapping;

pub use credential::{SealedSubmission, SubmittedCredential};
pub use error::{SubmitError, UnusableMytoken};
pub use followed::Follower;
pub use parent::{UserEnvironment, unusable_session_mytoken};
pub use request_threads::{RequestThreads, Unrevoked};
pub(crate) use server_time::{cache, find_parent};
pub use share::forget_shared;
pub(crate) use sub_token::{create, restrictions_of};

/// The arguments of the plugin.
#[derive(Debug, Clone)]
pub struct SubmitRequest {
    /// Name of the profile.
    pub profile: String,
    /// Whether the job must fail without a credential.
    pub required: bool,
    /// The value of Slurm's option `--clusters`.
    pub clusters: Option<String>,
    /// `sbatch`, `srun` or `salloc`, for the server's event history.
    pub command: String,
    /// When its job is submitted.
    pub job: JobTime,
    /// The job gets none of the environment of the submission.
    pub export_file: bool,
    /// Process id of the command that submits.
    pub command_pid: Option<u32>,
    /// The form of times in notes.
    pub times: TimeFormat,
}

/// When the job of a credential is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobTime {
    /// By the command that asks for the credential. It may share that of a loop.
    Now,
    /// By somebody else, within [`LONGEST_SUBMISSION`].
    WithinHour,
    /// It waits or runs already. The caller tells the agent of this host.
    Before,
}

/// The site's configuration for submissions.
pub struct SubmitConfig {
    shared: Shared,
    /// `jobs.toml`.
    pub jobs: JobsSettings,
    key: PublicKey,
}

impl SubmitConfig {
    /// Reads the configuration. Root's files are trusted, and the user's own: this process has no more rights than the user.
    ///
    /// # Errors
    /// A sentence about the error in the configuration.
    pub fn load(config: &Path) -> Result<Self, SealError> {
        let trust = FileTrust::current();
        let shared = Shared::load(config, trust)?;
        let jobs = JobsSettings::load(config, trust, &shared)?;
        let key = PublicKey::load(&jobs.cluster.public_key_file, trust)?;
        Ok(Self { shared, jobs, key })
    }

    fn profile(&self, name: &str, environment: &UserEnvironment) -> Result<ProfileSettings, SubmitError> {
        profile(&self.jobs, environment, name)
    }
}

/// The profile called `name`: one of the user's own file, or else of the site.
pub(crate) fn profile(
    jobs: &JobsSettings,
    environment: &UserEnvironment,
    name: &str,
) -> Result<ProfileSettings, SubmitError> {
    let own = OwnProfiles::load(environment.home.as_deref()).map_err(SubmitError::OwnProfiles)?;
    if let Some(narrowed) = own.narrowed(jobs, name) {
        return narrowed.map_err(SubmitError::OwnProfiles);
    }
    jobs.profile(name).cloned().ok_or_else(|| {
        let names = jobs.profile.iter().map(|profile| profile.name.as_str());
        let known: Vec<&str> = names.chain(own.names().map(|own| own.name)).collect();
        SubmitError::UnknownProfile { name: name.to_owned(), known: mytoken_wire::printable(&known.join(", "), 400) }
    })
}

/// Makes the sub-token and seals it.
///
/// # Errors
/// [`SubmitError`].
pub fn submit(
    config: &SubmitConfig,
    request: &SubmitRequest,
    environment: &UserEnvironment,
    clock: &dyn Clock,
    patience: &Patience<'_>,
) -> Result<SubmittedCredential, SubmitError> {
    let deadline = patience.deadline;
    if request.export_file && !config.jobs.broker.escrow {
        return Err(SubmitError::ExportFile(String::new()));
    }
    clusters::check(request.clusters.as_deref(), &config.jobs.cluster.name)?;
    let profile = &config.profile(&request.profile, environment)?;
    let url = config.shared.server_url(&profile.server)?;
    let store = parent::open_store(environment.home.as_deref())?;
    let mut settings = config.shared.http_settings();
    settings.user_agent = format!("mytoken-submit/{} ({})", env!("CARGO_PKG_VERSION"), request.command);
    let mut parent = find_parent(&url, environment, store.as_ref(), clock, &settings, deadline)?;
    let several_files = !profile.files.is_empty();
    let share_for = config.jobs.submit.share_for.as_secs();
    let place = match share(config, request, profile, &url, &parent, environment, deadline) {
        Share::Own => None,
        Share::New(place) => Some(place),
        Share::Shared(SharedCredential { sealed, handle, notes }) => {
            let submission = SealedSubmission { sealed, handle };
            let (registered, note) = registered::register(config, request, &submission, deadline)?;
            return Ok(SubmittedCredential {
                submission,
                registered,
                tools: profile.tools.clone(),
                several_files,
                notes: notes.into_iter().chain(note).collect(),
                shared_notes: Vec::new(),
                sub_token: None,
                place: None,
                about: None,
                unfollowed: None,
            });
        }
    };
    wait_for_permit(&config.jobs, profile, patience, clock, request.times)?;
    let http = Arc::new(HttpClient::new(&settings)?);
    let server = discover(&http, &url, environment, clock, patience)?.with_clock(clock).once();
    let handle = Handle::new(rand::random());
    let made = server.now();
    let own = restrictions_of(parent.token(), parent.clauses());
    let (wanted, left_out) = files::fitting(profile, &own, config.jobs.cluster.longest(), server.now());
    let name = request::name(&config.jobs.cluster, &handle);
    let source = parent.source();
    let (granted, open) = match patience.threads.filter(|_| parent.may_overlap()) {
        Some(threads) => Overlapping { http: &http, settings: &settings, threads }.create(
            &server,
            &mut parent,
            &wanted,
            &name,
            patience,
        ),
        None => (create(&server, parent, &wanted, &name, patience), 0),
    };
    tell_sent(&config.jobs, profile, http.traffic().sent.saturating_add(open), deadline);
    let granted = granted?;
    // Of a few access tokens, each job would take some from all others.
    let place = place.filter(|_| granted.restrictions.iter().all(|clause| clause.usages_at.is_none()));
    let shared_for = if place.is_some() { share_for } else { 0 };
    let window = Window { made, shared_for, command: request.command_pid };
    // One job has it, so its nodes need not know when that may be submitted.
    let submitted_for = if request.job == JobTime::WithinHour { LONGEST_SUBMISSION } else { shared_for };
    let about = followed::message(profile, &granted, &handle, Window { shared_for: submitted_for, ..window });
    let follower = Follower::new(&config.jobs.agent.runtime_dir, about.clone());
    let followed = request.job != JobTime::Before && follower.begin(deadline);
    let submission =
        sealed(config, request, profile, &url, &granted, &handle, (window, followed)).inspect_err(|_| {
            // The sub-token exists, and no job will use it.
            let _ = server.revoke(&granted.mytoken, true, patience.answers());
        })?;
    let registered = registered::register(config, request, &submission, deadline).inspect_err(|_| {
        let _ = server.revoke(&granted.mytoken, true, patience.answers());
    });
    let (registered, note) = registered?;
    let (clauses, exp) = (granted.restrictions.as_slice(), granted.expires_at.unwrap_or(0));
    let mut notes = Comparison { source, wanted: &wanted, clauses, exp, now: server.now() }.notes(request.times);
    notes.extend(left_out.iter().map(|left| source.left_out(left)));
    let shared_notes = notes.clone();
    notes.extend(note);
    if request.job == JobTime::WithinHour {
        notes.push(notes::of_later_job(followed, server.now().saturating_add(LONGEST_SUBMISSION), exp, request.times));
    }
    notes.extend(server.clock_difference().map(|text| format!("{text}; please tell the administrator")));
    let discovery = server.discovery().clone();
    let token = CreatedToken { sub_token: granted.mytoken, discovery, url, settings };
    let tools = profile.tools.clone();
    let sub_token = Some(token);
    // Nodes are told of no agent that follows it later: they then do not rely on it.
    let unfollowed = Some(follower).filter(|_| request.job == JobTime::Now && !followed);
    Ok(SubmittedCredential {
        submission,
        registered,
        tools,
        several_files,
        notes,
        shared_notes,
        sub_token,
        place,
        about,
        unfollowed,
    })
}

/// Whether the submission shares a credential with others of a loop.
fn share(
    config: &SubmitConfig,
    request: &SubmitRequest,
    profile: &ProfileSettings,
    url: &ServerUrl,
    parent: &Parent<'_>,
    environment: &UserEnvironment,
    deadline: Deadline,
) -> Share {
    let Some(boot) = boot_id().filter(|_| request.job == JobTime::Now) else { return Share::Own };
    let binding = Binding {
        key: config.key.id(),
        cluster: &config.jobs.cluster.name,
        server: url.as_str(),
        // A profile that was changed in the meantime makes another credential.
        profile: &format!("{profile:?}"),
        parent: &parent.identity(),
        required: request.required,
        boot: &boot,
    };
    Share::find(environment.home.as_deref(), &binding, config.jobs.submit.share_for.as_secs(), deadline)
}

/// The server, from the cache or by a request. The first request is given up while there is time for another one.
fn discover<'h>(
    http: &'h HttpClient,
    url: &ServerUrl,
    environment: &UserEnvironment,
    clock: &dyn Clock,
    patience: &Patience<'_>,
) -> Result<Server<'h>, Error> {
    let cache = cache(environment.home.as_deref());
    let first = patience.first_answer();
    match Server::discover_cached(http, url, cache.as_ref(), clock, first) {
        Err(error) if error.is_unavailable() && first.remaining().is_none() && (patience.waits)() => {
            Server::discover_cached(http, url, cache.as_ref(), clock, patience.deadline)
        }
        result => result,
    }
}

fn sealed(
    config: &SubmitConfig,
    request: &SubmitRequest,
    profile: &ProfileSettings,
    url: &ServerUrl,
    granted: &Granted,
    handle: &Handle,
    (window, followed): (Window, bool),
) -> Result<SealedSubmission, SealError> {
    let exp = granted.expires_at.ok_or_else(|| {
        Error::Input(InputError::InvalidRequest {
            reason: "the mytoken server made a sub-token without an expiry; it was revoked".to_owned(),
        })
    })?;
    let credential = JobCredential {
        server: url.to_string(),
        sub_token: granted.mytoken.clone(),
        uid: Owner::current().uid,
        cluster: config.jobs.cluster.name.clone(),
        id: handle.to_string(),
        exp,
        profile: profile.name.clone(),
        scope: profile.scope.clone(),
        audience: profile.audience.clone(),
        required: request.required,
        made: window.made,
        shared_for: window.shared_for,
        followed,
        files: profile.files.iter().map(SealedFile::from).collect(),
        start_windows: profile.start_windows.iter().map(StartWindow::from).collect(),
    };
    Ok(SealedSubmission { sealed: seal(&credential, &config.key)?, handle: handle.to_string() })
}
