// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-submit`: one sub-token for one submission, sealed to the cluster.
//!
//! Spawned by the Slurm plugin as the submitting user. One request to the mytoken server, two when its discovery document is not in the
//! user's cache.

mod cache;
mod parent;

use std::path::{Path, PathBuf};

use crate::jobs::keys::PublicKey;
use crate::jobs::sealed::{JobCredential, seal};
use crate::jobs::settings::{Profile, Settings};
use crate::jobs::{SealError, request};
use mytoken::capabilities::{AT, Capabilities};
use mytoken::config::{FileTrust, Shared};
use mytoken::files::Owner;
use mytoken::http::{HttpClient, HttpSettings};
use mytoken::names::ServerUrl;
use mytoken::server::{Deliver, Discovery, Granted, Server, SubTokenRequest};
use mytoken::{Clock, Deadline, Error, Secret, SystemClock};
use mytoken_wire::Handle;

use cache::Cache;
use parent::Parent;

/// What the plugin asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Name of the profile.
    pub profile: String,
    /// Without a credential the job is to fail.
    pub required: bool,
    /// `sbatch`, `srun`, `salloc`: for the server's event history.
    pub context: String,
}

/// Where the user's things are.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// `MYTOKEN_FILE`.
    pub mytoken_file: Option<PathBuf>,
}

/// What Slurm carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// For `SLURM_MYTOKEN`.
    pub sealed: String,
    /// For `MYTOKEN_H`.
    pub handle: String,
}

/// The site's configuration, as far as submissions need it.
pub struct Site {
    shared: Shared,
    /// `jobs.toml`.
    pub jobs: Settings,
    key: PublicKey,
}

impl Site {
    /// Reads it. Files of root are believed, and the user's own: the process has no rights beyond the user's.
    ///
    /// # Errors
    /// The configuration's mistake, in a sentence.
    pub fn load(config: &Path) -> Result<Self, SealError> {
        let trust = FileTrust::current();
        let shared = Shared::load(config, trust)?;
        let jobs = Settings::load(config, trust, &shared)?;
        let key = PublicKey::load(&jobs.cluster.public_key_file, trust)?;
        Ok(Self { shared, jobs, key })
    }

    fn profile(&self, name: &str) -> Result<&Profile, String> {
        self.jobs.profile(name).ok_or_else(|| {
            let known: Vec<&str> = self.jobs.profile.iter().map(|profile| profile.name.as_str()).collect();
            format!("there is no profile \"{}\"; this cluster has: {}", name.escape_debug(), known.join(", "))
        })
    }
}

/// Makes the sub-token and seals it.
///
/// # Errors
/// A sentence for the user.
pub fn submit(site: &Site, wish: &Wish, around: &Surroundings, deadline: Deadline) -> Result<Made, String> {
    let text = |error: Error| error.to_string();
    let profile = site.profile(&wish.profile)?;
    let url = site.shared.server_url(&profile.server).map_err(text)?;
    let store = parent::open_store(around.home.as_deref()).map_err(text)?;
    let parent = parent::find(&url, around, store.as_ref(), SystemClock.now(), deadline)?;
    let mut settings = site.shared.http_settings();
    settings.user_agent = format!("mytoken-submit/{} ({})", env!("CARGO_PKG_VERSION"), wish.context);
    let http = HttpClient::new(&settings).map_err(text)?;
    let cache = Cache::open(around.home.as_deref());
    let server = discovered(&http, &url, cache.as_ref(), deadline).map_err(text)?;
    let handle = Handle::new(rand::random());
    let granted = create(&server, site, profile, parent, &handle, deadline).map_err(text)?;
    let submission = sealed(site, wish, profile, &url, &granted, &handle).map_err(|error| {
        // It exists, and nobody will use it.
        let _ = server.revoke(&granted.mytoken, true, deadline);
        error.to_string()
    })?;
    Ok(Made { submission, sub_token: granted.mytoken, discovery: server.discovery().clone(), url, settings })
}

/// A sub-token that exists at the server, and what is to be handed over. If handing over fails it is to be taken back.
pub struct Made {
    /// What is to be handed over.
    pub submission: Submission,
    sub_token: Secret,
    url: ServerUrl,
    discovery: Discovery,
    settings: HttpSettings,
}

impl Made {
    /// Revokes the sub-token: nobody will use it.
    ///
    /// # Errors
    /// What the network says; the sub-token's expiry does the same later.
    pub fn take_back(&self, deadline: Deadline) -> Result<(), Error> {
        let http = HttpClient::new(&self.settings)?;
        Server::from_discovery(&http, &self.url, self.discovery.clone())?.revoke(&self.sub_token, true, deadline)
    }
}

fn discovered<'h>(
    http: &'h HttpClient,
    url: &ServerUrl,
    cache: Option<&Cache>,
    deadline: Deadline,
) -> Result<Server<'h>, Error> {
    let now = SystemClock.now();
    if let Some(discovery) = cache.and_then(|cache| cache.read(url, now)) {
        if let Ok(server) = Server::from_discovery(http, url, discovery) {
            return Ok(server);
        }
    }
    let server = Server::discover(http, url, deadline)?;
    if let Some(cache) = cache {
        cache.write(url, now, server.discovery());
    }
    Ok(server)
}

fn create(
    server: &Server<'_>,
    site: &Site,
    profile: &Profile,
    mut parent: Parent<'_>,
    handle: &Handle,
    deadline: Deadline,
) -> Result<Granted, Error> {
    let wanted = [request::wanted(profile, &site.jobs.cluster, SystemClock.now())];
    let capabilities = Capabilities::new([AT])?;
    let (token, clauses) = (parent.token().clone(), parent.clauses().map(<[_]>::to_vec));
    let request = SubTokenRequest {
        parent: &token,
        parent_clauses: clauses.as_deref(),
        wanted: &wanted,
        capabilities: &capabilities,
        name: &request::name(&site.jobs.cluster, handle),
        deliver: Deliver::Token,
    };
    server.create(&request, &mut |successor| parent.keep(successor), deadline)
}

fn sealed(
    site: &Site,
    wish: &Wish,
    profile: &Profile,
    url: &ServerUrl,
    granted: &Granted,
    handle: &Handle,
) -> Result<Submission, SealError> {
    let exp = granted.expires_at.ok_or_else(|| Error::InvalidRequest {
        reason: "the mytoken server made a sub-token without an end; it was revoked".to_owned(),
    })?;
    let credential = JobCredential {
        server: url.to_string(),
        sub_token: granted.mytoken.clone(),
        uid: Owner::current().uid,
        cluster: site.jobs.cluster.name.clone(),
        id: handle.to_string(),
        exp,
        profile: profile.name.clone(),
        scope: profile.scope.clone(),
        audience: profile.audience.clone(),
        required: wish.required,
    };
    Ok(Submission { sealed: seal(&credential, &site.key)?, handle: handle.to_string() })
}
