// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sub-token of one program, and the access tokens that it gives.

use std::path::Path;
use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::http::{HttpClient, HttpSettings};
use mytoken::server::{AccessToken, AccessTokenRequest, Discovery, Server, refuse_rotation};
use mytoken::time_format::TimeFormat;
use mytoken::urls::ServerUrl;
use mytoken::{Clock, Deadline, Error, InputError, Secret};
use mytoken_wire::FileName;
use mytoken_wire::tools::Tool;

use crate::jobs::files;
use crate::jobs::settings::JobsSettings;
use crate::submit::patience::Patience;
use crate::submit::permit::{tell_sent, wait_for_permit};
use crate::submit::{self, SubmitError, UserEnvironment};

/// Assumed lifetime in seconds of an access token whose expiry is unknown.
const UNKNOWN_LIFETIME: u64 = 300;

/// Longest name of a sub-token. MT-23: the server fails with 500 on more than 89 characters.
const NAME_LIMIT: usize = 80;

/// A sub-token that was made for one program.
#[derive(Clone)]
pub struct Credential {
    sub_token: Secret,
    url: ServerUrl,
    discovery: Discovery,
    settings: HttpSettings,
    files: Vec<RequestedFile>,
    comment: String,
    tools: Vec<Tool>,
}

/// What is requested for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedFile {
    /// `None`: the main file.
    pub name: Option<FileName>,
    scope: String,
    audience: String,
}

/// A credential, and what it lacks.
pub struct Created {
    /// The credential.
    pub credential: Credential,
    /// The further files that the user's mytoken does not allow, each with a reason.
    pub left_out: Vec<(FileName, String)>,
}

/// The part of the site's configuration that is needed.
pub struct RunConfig {
    shared: Shared,
    jobs: JobsSettings,
}

impl RunConfig {
    /// Reads `mytoken.toml` and `jobs.toml` in `config`. Root's files are trusted, and the user's own.
    ///
    /// # Errors
    /// A sentence about the error in the configuration.
    pub fn load(config: &Path) -> Result<Self, Error> {
        let trust = FileTrust::current();
        let shared = Shared::load(config, trust)?;
        let jobs = JobsSettings::load(config, trust, &shared)?;
        Ok(Self { shared, jobs })
    }

    /// How long the start of the program waits for its further files.
    #[must_use]
    pub fn file_patience(&self) -> Duration {
        self.jobs.agent.start_deadline.get()
    }

    /// Time limit of what is requested before the program starts.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.jobs.submit.deadline.get()
    }

    /// Makes the sub-token: the user's mytoken narrowed to what `profile` wants, for `cluster.max_wall`.
    ///
    /// # Errors
    /// [`SubmitError`], as for a submission.
    pub fn create(
        &self,
        profile: &str,
        environment: &UserEnvironment,
        host: &str,
        clock: &dyn Clock,
        deadline: Deadline,
    ) -> Result<Created, SubmitError> {
        // The program starts now, so the mytoken server can keep the windows that count from its start.
        let reason = "windows and start_windows of the profile have no time in common";
        let not_narrower = || SubmitError::Client(InputError::NotNarrower { reason: reason.to_owned() }.into());
        let profile = &submit::profile(&self.jobs, environment, profile)?.at_start().ok_or_else(not_narrower)?;
        let url = self.shared.server_url(&profile.server)?;
        let store = submit::parent::open_store(environment.home.as_deref())?;
        let patience = Patience { deadline, waits: &|| true, threads: None };
        wait_for_permit(&self.jobs, profile, &patience, clock, TimeFormat::local(clock.now()))?;
        let mut settings = self.shared.http_settings();
        settings.user_agent = format!("mytokenctl/{} (run)", env!("CARGO_PKG_VERSION"));
        let parent = submit::find_parent(&url, environment, store.as_ref(), clock, &settings, deadline)?;
        let http = HttpClient::new(&settings)?;
        let cache = submit::cache(environment.home.as_deref());
        let server = Server::discover_cached(&http, &url, cache.as_ref(), clock, deadline)?;
        // Nothing waits in a queue.
        let own = submit::restrictions_of(parent.token(), parent.clauses());
        let (wanted, left_out) = files::fitting(profile, &own, self.jobs.cluster.max_wall.as_secs(), server.now());
        if wanted.is_empty() {
            let reason = "all windows of the profile begin after the longest run time of the cluster".to_owned();
            return Err(SubmitError::Client(InputError::NotNarrower { reason }.into()));
        }
        let name: String = format!("{}:run on {host}", self.jobs.cluster.name).chars().take(NAME_LIMIT).collect();
        let source = parent.source();
        let granted = submit::create(&server, parent, &wanted, &name, &patience);
        tell_sent(&self.jobs, profile, http.traffic().sent, deadline);
        let granted = granted?;
        let main = RequestedFile { name: None, scope: profile.scope.clone(), audience: profile.audience.clone() };
        let allowed = profile.files.iter().filter(|file| left_out.iter().all(|left| left.name != file.name));
        let further = allowed.map(|file| RequestedFile {
            name: Some(file.name.clone()),
            scope: file.scope.clone(),
            audience: file.audience.clone(),
        });
        let credential = Credential {
            sub_token: granted.mytoken,
            discovery: server.discovery().clone(),
            files: std::iter::once(main).chain(further).collect(),
            comment: format!("mytokenctl run on {host}"),
            tools: profile.tools.clone(),
            url,
            settings,
        };
        let left_out = left_out.into_iter().map(|left| (left.name.clone(), source.refuses(&left))).collect();
        Ok(Created { credential, left_out })
    }
}

impl Credential {
    /// The files for which it gives access tokens, the main one first.
    pub fn files(&self) -> &[RequestedFile] {
        &self.files
    }

    /// Requests an access token for a file.
    ///
    /// # Errors
    /// Those of the network and of the server.
    pub fn access_token(&self, file: &RequestedFile, deadline: Deadline) -> Result<AccessToken, Error> {
        let request = AccessTokenRequest {
            mytoken: &self.sub_token,
            scope: &file.scope,
            audience: &file.audience,
            comment: &self.comment,
        };
        self.with_server(|server| server.access_token(&request, &mut refuse_rotation, deadline))
    }

    /// The tools for which the program's environment names the file.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// Revokes the sub-token.
    ///
    /// # Errors
    /// The sub-token then ends by its expiry.
    pub fn revoke(&self, deadline: Deadline) -> Result<(), Error> {
        self.with_server(|server| server.revoke(&self.sub_token, true, deadline))
    }

    fn with_server<T>(&self, work: impl FnOnce(&Server<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let http = HttpClient::new(&self.settings)?;
        work(&Server::from_discovery(&http, &self.url, self.discovery.clone())?)
    }
}

/// Remaining lifetime in seconds.
pub fn lifetime(token: &AccessToken) -> u64 {
    token.expires_in.unwrap_or(UNKNOWN_LIFETIME)
}
