// SPDX-License-Identifier: MIT OR Apache-2.0
//! The profile of a submission: the one that it names, or the choice of the defaults.

use mytoken_wire::CredentialOption;

use super::arguments::SubmitArguments;
use super::{SubmitError, UserEnvironment};
use crate::jobs::defaults::{self, Destination, Unnamed};
use crate::jobs::own_profiles::OwnProfiles;
use crate::jobs::settings::{DEFAULT, JobsSettings};

/// The profile of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name.
    pub profile: String,
    /// Whether the job must not run without a credential.
    pub required: bool,
    /// The same for the plugin, if the defaults have chosen.
    pub by_defaults: Option<CredentialOption>,
}

impl Choice {
    /// The choice for the submission with these arguments. `None`: it gets no credential.
    ///
    /// # Errors
    /// The user's own file cannot be used.
    pub fn of(
        arguments: &SubmitArguments,
        jobs: &JobsSettings,
        environment: &UserEnvironment,
    ) -> Result<Option<Self>, SubmitError> {
        let required = arguments.required;
        if let Some(profile) = &arguments.profile {
            return Ok(Some(Self { profile: profile.clone(), required, by_defaults: None }));
        }
        let own = OwnProfiles::load(environment.home.as_deref()).map_err(SubmitError::OwnProfiles)?;
        let own = own.defaults(jobs).map_err(SubmitError::OwnProfiles)?;
        let (chosen, _) = defaults::choose(own, &jobs.default, unnamed(arguments, jobs));
        Ok(match &chosen {
            CredentialOption::Off => None,
            CredentialOption::On { profile, required } => Some(Self {
                profile: profile.as_ref().map_or_else(|| DEFAULT.to_owned(), ToString::to_string),
                required: *required,
                by_defaults: Some(chosen.clone()),
            }),
        })
    }

    /// What the site's defaults say of the submission. It counts until the user's own file was read: one that cannot be read, or hangs,
    /// must not start a job without the credential that the site requires. `None`: no credential, or the submission names the profile.
    #[must_use]
    pub fn of_site(arguments: &SubmitArguments, jobs: &JobsSettings) -> Option<CredentialOption> {
        let chosen = || defaults::choose(&[], &jobs.default, unnamed(arguments, jobs)).0;
        arguments.profile.is_none().then(chosen).filter(|chosen| *chosen != CredentialOption::Off)
    }
}

fn unnamed<'a>(arguments: &'a SubmitArguments, jobs: &'a JobsSettings) -> Unnamed<'a> {
    Unnamed {
        to: jobs.destination(arguments.partition.as_deref(), arguments.account.as_deref()),
        of_site: arguments.default.as_ref(),
        by_default: arguments.by_default,
        required: arguments.required,
    }
}

impl JobsSettings {
    /// Where a job goes whose submission names these. Slurm's default partition is known if the site has named it.
    #[must_use]
    pub fn destination<'a>(&'a self, partition: Option<&'a str>, account: Option<&'a str>) -> Destination<'a> {
        Destination { partition: partition.or(self.cluster.default_partition.as_deref()), account }
    }
}
