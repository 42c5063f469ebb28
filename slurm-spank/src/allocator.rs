// SPDX-License-Identifier: MIT OR Apache-2.0
//! sbatch, salloc, and srun outside a job: gets a credential for the submission and puts it into the job's environment.

use std::env;
use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStrExt;

use mytoken_wire::CredentialOption;

use crate::credential_option::{self, Wish};
use crate::ffi::{self, SpankContext, command_options, error, info, unset_env};
use crate::hook::{HookCall, Verdict};
use crate::job_env::{self, PROFILE, TOKEN};
use crate::settings::SiteDefault;
use crate::state::{self, Submission};
use crate::submit::{self, Failure};

/// Registers the option.
pub fn init(call: &HookCall) {
    call.register_option();
    // SLURM-16: inside a job, sbatch imports the option of that job as if the user had typed it for the new job.
    if job_env::inside_job() {
        unset_env(job_env::OPTION);
    }
}

/// The submission hook.
pub fn submit(call: &HookCall) -> Verdict {
    let command = submit::command_name(env::args_os().next(), call.context);
    let verdict = submit_component(call, command == "sbatch");
    // The shell of salloc runs in the session.
    if command != "salloc" {
        job_env::remove_session(&call.settings.sessions());
    }
    verdict
}

/// Runs once per component of a heterogeneous job (SLURM-17); one credential serves them all. `batch`: the user sees no output of the
/// command when the job runs.
fn submit_component(call: &HookCall, batch: bool) -> Verdict {
    let Some((option, before)) = state::change(|state| (state.option.clone(), state.submission.clone())) else {
        return Verdict::Proceed;
    };
    let first = before == Submission::New;
    if first {
        job_env::remove_inherited(&call.settings.jobs());
    } else if let Some(sentence) = contradiction(option.as_ref()) {
        error(format_args!("{sentence}"));
        return Verdict::Refuse;
    }
    let wish = match wish(call.context, option, &call.settings.default) {
        Ok(Some(wish)) => wish,
        Ok(None) => return without_credential(Submission::NotRequested),
        Err(_) if first && is_test_only() => return without_credential(Submission::Test),
        // The user's variable is not valid, so it says nothing.
        Err(sentence) if first => return conclude(Err(Failure::untold(sentence, &Wish::by_default())), batch),
        Err(_) => return Verdict::Proceed,
    };
    let failed = |reason| Failure { reason, required: wish.is_required() };
    let result = match before {
        Submission::New if is_test_only() => return without_credential(Submission::Test),
        Submission::Test => return Verdict::Proceed,
        Submission::New => match acquire(call, &wish) {
            Ok(None) => return without_credential(Submission::NotRequested),
            Ok(Some(credential)) => Ok(credential),
            Err(failure) => Err(failure),
        },
        // SLURM-18: Slurm keeps one set of job-control variables per component.
        Submission::Placed(credential) => {
            credential.place(call.spank).map(|()| credential).map_err(|fault| failed(fault.to_owned()))
        }
        Submission::Failed(reason) if wish.is_required() => Err(failed(reason)),
        Submission::Failed(_) => return Verdict::Proceed,
        // The defaults chose for the first component, and so for the whole job.
        Submission::NotRequested if wish.by_default => return Verdict::Proceed,
        // The batch script and all steps get the environment of the first component, which Slurm has already read.
        Submission::NotRequested => {
            Err(failed("in a heterogeneous job, the first component must have --mytoken".to_owned()))
        }
    };
    conclude(result, batch)
}

/// Why this component of a heterogeneous job cannot have what its user typed for it: all components have the credential of the first.
fn contradiction(option: Option<&CredentialOption>) -> Option<String> {
    let first = state::change(|state| state.chosen.clone()).flatten()?;
    let later = option.filter(|option| !first.includes(option))?;
    let typed = |option: &CredentialOption| format!("--mytoken={option}").trim_end_matches('=').to_owned();
    let (first, later) = (typed(&first), typed(later));
    Some(format!(
        "in a heterogeneous job, the first component chooses for all: it has \"{first}\", so a later one cannot have \"{later}\""
    ))
}

/// What the submission wants.
///
/// # Errors
/// A sentence about the user's variable.
pub fn wish(
    context: SpankContext,
    option: Option<CredentialOption>,
    site: &SiteDefault,
) -> Result<Option<Wish>, String> {
    let is_step = context == SpankContext::Local && job_env::inside_job();
    let variable = || {
        // sbatch passes the variable on to the job, whose steps have the job's profile.
        if is_step {
            return Ok(None);
        }
        let value = ffi::env(PROFILE).map(|value| value.to_string_lossy().into_owned());
        credential_option::parse_variable(value.as_deref())
    };
    credential_option::wish(option, variable, *site != SiteDefault::Off)
}

/// Proceeds without a credential. The first component decides for the whole job.
fn without_credential(submission: Submission) -> Verdict {
    state::change(|state| {
        if state.submission == Submission::New {
            state.submission = submission;
        }
    });
    Verdict::Proceed
}

/// Runs mytoken-submit and sets the variables. `None`: the defaults say that there is no credential.
fn acquire(call: &HookCall, wish: &Wish) -> Result<Option<job_env::Credential>, Failure> {
    check(call).map_err(|reason| Failure::untold(reason, wish))?;
    let Some(submitted) = submit::run(&call.settings, wish, call.context)? else { return Ok(None) };
    let submit::Submitted { credential, chosen, notes } = submitted;
    let required = chosen.is_required();
    credential.place(call.spank).map_err(|fault| Failure { reason: fault.to_owned(), required })?;
    // SLURM-28: of the job that submits this one, which is in its first run.
    unset_env(job_env::RESTARTS);
    if state::change(|state| state.option.is_none()).unwrap_or(false) {
        job_env::note_option(&chosen);
    }
    state::change(|state| state.chosen = Some(chosen));
    // SLURM-63: Slurm obeys --quiet later than this hook runs.
    if !(has_option(c"quiet", "--quiet") || has_option(c"quiet", "-Q")) {
        notes.iter().for_each(|note| info(format_args!("{note}")));
    }
    Ok(Some(credential))
}

/// Whether this submission can have a credential.
///
/// # Errors
/// A sentence for the user.
fn check(call: &HookCall) -> Result<(), String> {
    if let Some(problem) = call.settings.problems.first() {
        return Err(format!("the plugin is misconfigured: {problem}"));
    }
    // SLURM-35: the job then belongs to another user or group, who must not get what is made of the submitter's mytoken.
    for (option, name) in [(c"uid", "--uid"), (c"gid", "--gid")] {
        if has_option(option, name) {
            return Err(format!(
                "with {name} it would belong to the user who submits, not to the job's; submit as the job's user"
            ));
        }
    }
    Ok(())
}

/// Stores the result and reports a failure to the user.
fn conclude(result: Result<job_env::Credential, Failure>, batch: bool) -> Verdict {
    // On the nodes the variable would take precedence over the file, with a token that expires soon.
    unset_env(TOKEN);
    let (submission, verdict) = match result {
        Ok(credential) => (Submission::Placed(credential), Verdict::Proceed),
        Err(Failure { reason, required: true }) => {
            error(format_args!("no credential: {reason}"));
            (Submission::Failed(reason), Verdict::Refuse)
        }
        Err(Failure { reason, required: false }) => {
            error(format_args!("no credential: {reason} (submitting without)"));
            if batch {
                job_env::explain(&reason);
            }
            (Submission::Failed(reason), Verdict::Proceed)
        }
    };
    state::change(|state| state.submission = submission);
    verdict
}

/// Whether this is `sbatch --test-only` or `srun --test-only`, which run the hooks and submit nothing (SLURM-17).
fn is_test_only() -> bool {
    command_options::is_set(c"test-only").unwrap_or_else(|| is_test_only_in(env::args_os().skip(1)))
}

/// The same by the words of the command line, for a Slurm that does not say how it has parsed them. Only words before the first one without
/// a dash count: later ones may be the argument of an option, or belong to the script. A test that is overlooked costs a credential that
/// nobody uses; a job that is taken for a test would have none.
fn is_test_only_in(words: impl Iterator<Item = OsString>) -> bool {
    // getopt_long(3) accepts the beginning of a name if no other option begins like that.
    let is_test = |word: &OsString| word.len() >= "--te".len() && "--test-only".as_bytes().starts_with(word.as_bytes());
    words.take_while(|word| word != "--" && word.as_bytes().starts_with(b"-")).any(|word| is_test(&word))
}

/// Whether the option is set. Without Slurm's own answer, whether `word` is on the command line.
pub fn has_option(name: &CStr, word: &str) -> bool {
    command_options::is_set(name).unwrap_or_else(|| has_word(env::args_os().skip(1), word))
}

/// Whether the option `name` with its argument is among the words of the command line, as in [`is_test_only_in`].
fn has_word(words: impl Iterator<Item = OsString>, name: &str) -> bool {
    let is_it = |word: &OsString| {
        word.as_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'=')))
    };
    words.take_while(|word| word != "--" && word.as_bytes().starts_with(b"-")).any(|word| is_it(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_command_line_show_a_test() {
        for (words, test) in [
            ("--mytoken --test-only job.sh", true),
            ("--mytoken --test job.sh", true),
            ("-n1 --te job.sh", true),
            ("--t job.sh", false),
            ("--test-only=1 job.sh", false),
            ("--mytoken job.sh --test-only", false),
            ("--mytoken -- --test-only", false),
            ("", false),
        ] {
            assert_eq!(is_test_only_in(words.split_whitespace().map(OsString::from)), test, "{words}");
        }
    }

    #[test]
    fn the_words_of_the_command_line_show_another_user() {
        for (words, other) in [
            ("--mytoken --uid=alice job.sh", true),
            ("--uid alice --mytoken job.sh", true),
            ("--uidx=1 job.sh", false),
            ("job.sh --uid=1", false),
        ] {
            assert_eq!(has_word(words.split_whitespace().map(OsString::from), "--uid"), other, "{words}");
        }
    }
}
