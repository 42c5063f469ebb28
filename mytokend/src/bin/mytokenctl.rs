// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl`: shows credentials and logins, makes keys, checks a host, explains the decision about a login or a submission.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mytoken::config::{DIRECTORY, FileTrust};
use mytoken::time_format::TimeFormat;
use mytoken::{Clock, Deadline, SystemClock};
use mytoken_wire::JobName;
use mytoken_wire::agent::{Call, Condition, Renew, Retire, Revoke, Status, StatusQuery, ask};
use mytoken_wire::credential_option::VARIABLE;
use mytokend::control::agent_socket::agent_socket;
use mytokend::control::arguments::{
    BrokerCommand, ControlArguments, ControlCommand, KeyCommand, NodeCommand, ProfileCommand,
};
use mytokend::control::check::{self, CheckOptions};
use mytokend::control::launch::BEARER_TOKEN_FILE;
use mytokend::control::node::{BrokerNodes, Outcome, enrol, list};
use mytokend::control::other_nodes::{self, Caller};
use mytokend::control::standard_input::{read_code, read_token};
use mytokend::control::{
    attach, broker_ca, broker_status, budgets, explain, explain_submission, key::Keys, keygen, last_refusal,
    logins::Logins, profile, replace, run, status, with_token,
};
use mytokend::jobs::settings::JobsSettings;
use mytokend::output::{lost, print, tell};
use mytokend::privacy;
use mytokend::submit::{UserEnvironment, forget_shared};

/// The exit status of a check that could not be done: UNKNOWN for monitoring systems.
const NOT_CHECKED: u8 = 3;

fn main() -> ExitCode {
    // The local time zone can only be determined while the process has a single thread.
    let times = TimeFormat::local(SystemClock.now());
    let arguments = match ControlArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse_arguments(&error),
    };
    // Private keys and tokens are read and made here.
    match arguments.command {
        ControlCommand::WithToken { .. } | ControlCommand::Run { .. } => privacy::hide(),
        _ => privacy::protect(),
    }
    let is_check = matches!(arguments.command, ControlCommand::Check { .. });
    let result = match arguments.command {
        ControlCommand::Status { login: true, json, config, .. } => show_logins(&config, json),
        ControlCommand::Status { job, all, json, config, socket, .. } => {
            show_status(&agent_socket(socket, &config), StatusQuery { job, all }, json, times)
        }
        ControlCommand::Renew { job, all, socket } => {
            show_result(&agent_socket(socket, DIRECTORY.as_ref()), &Renew { job, all }, times, |state| state.is_good())
        }
        ControlCommand::Revoke { job, here, socket } => {
            // Before it: a submission between the two would get what is revoked.
            if !forget_shared(UserEnvironment::current().home, Deadline::after(Duration::from_secs(2))) {
                tell("submissions of the next minutes may still share the credential");
            }
            revoke(&agent_socket(socket, DIRECTORY.as_ref()), job, here, times)
        }
        ControlCommand::Replace { job: Some(job), ask: true, config, socket, .. } => {
            replace::ask_profile(&agent_socket(socket, &config), job).map(|line| {
                print(&line);
                ExitCode::SUCCESS
            })
        }
        ControlCommand::Replace { job: Some(job), take: true, config, socket, .. } => {
            let (word, taken) = replace::take(&agent_socket(socket, &config), job);
            word.map(print);
            taken.map(|()| ExitCode::SUCCESS)
        }
        ControlCommand::Replace { job: Some(job), retire: Some(old), config, socket, .. } => {
            show_result(&agent_socket(socket, &config), &Retire { job, old: replace::of_this_node(old) }, times, |_| {
                true
            })
        }
        ControlCommand::Replace { job, profile, config, .. } => replace_credentials(&config, job, profile.as_deref()),
        ControlCommand::Keygen { dir } => make_keys(&dir),
        ControlCommand::BrokerCa { dir, config } => make_authority(&config, dir.as_deref()),
        ControlCommand::Broker { command: BrokerCommand::Status { json, runtime_dir } } => {
            show_broker(&runtime_dir, json, times)
        }
        ControlCommand::Node { command } => change_nodes(command, times),
        ControlCommand::Check { user: Some(user), only_account: Some(about), .. } => {
            not_checked(answer_about_account(&user, &about).map(|answer| {
                print(&answer);
                ExitCode::SUCCESS
            }))
        }
        ControlCommand::Key { command } => change_keys(command),
        ControlCommand::Check { config, user: Some(user), only_read: true, without_key, json, socket, .. } => {
            let socket = agent_socket(socket, &config);
            not_checked(
                check::read_as(&user, &config, &socket, without_key)
                    .and_then(|findings| show_findings(&findings, json)),
            )
        }
        ControlCommand::Check { config, user, nodes, via, offline, json, socket, .. } => {
            let socket = agent_socket(socket, &config);
            let options = CheckOptions { config: &config, socket: &socket, user: user.as_deref(), offline };
            let checked = match nodes {
                Some(list) => check::check_nodes(options, &list, via),
                None => check::check(options),
            };
            not_checked(checked.and_then(|findings| show_findings(&findings, json)))
        }
        ControlCommand::Explain { submission: Some(profile), config, .. } => show_submission(&profile, &config, times),
        ControlCommand::Profile { command } => show_profiles(command, times),
        ControlCommand::Run { profile, config, command } => Ok(run_command(&config, &profile, &command)),
        ControlCommand::Attach { worker: true, profile, required, config, .. } => {
            Ok(attach::work(config, profile, required))
        }
        ControlCommand::Attach { profile, required, json, config, .. } => {
            Ok(attach::attach(&config, &profile, required, json))
        }
        ControlCommand::WithToken { command } => Ok(run_with_token(&command)),
        ControlCommand::Explain { last: Some(account), .. } => {
            last_refusal::show(&account, times).map(|text| show_decision(&text, true))
        }
        ControlCommand::Explain { user, claims, config, .. } => {
            show_explanation(&user.unwrap_or_default(), claims.as_deref(), &config)
        }
    };
    let status = result.unwrap_or_else(|error| {
        tell(error);
        ExitCode::FAILURE
    });
    let Some(reason) = lost() else { return status };
    tell(format!("standard output cannot be written: {reason}"));
    if is_check { ExitCode::from(NOT_CHECKED) } else { ExitCode::FAILURE }
}

/// Prints why the arguments are wrong, or the help. A check with wrong arguments was not done.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    // A closed pipe is not an error.
    let _ = error.print();
    let check = std::env::args_os().nth(1).is_some_and(|command| command == "check");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if check => ExitCode::from(NOT_CHECKED),
        _ => ExitCode::from(2),
    }
}

/// Says why the check could not be done. Its exit status is not one of a check.
fn not_checked(done: Result<ExitCode, String>) -> Result<ExitCode, String> {
    Ok(done.unwrap_or_else(|error| {
        tell(error);
        ExitCode::from(NOT_CHECKED)
    }))
}

fn show_status(socket: &Path, query: StatusQuery, json: bool, times: TimeFormat) -> Result<ExitCode, String> {
    let found = ask(socket, &query, Deadline::after(Duration::from_secs(5))).map_err(|error| error.to_string())?;
    if json {
        let report = status::Report::of(&found, &status::account);
        print(&serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?);
        // A program that lists all sees an empty list.
        let unknown = query.job.is_some() && found.jobs.is_empty();
        return Ok(if unknown { ExitCode::FAILURE } else { status::exit_status(&found, query.job.is_some()).into() });
    }
    print_some(&budgets::render(&found.budgets, &status::account));
    if found.jobs.is_empty() {
        let is_root = nix::unistd::geteuid().is_root();
        return Err(status::nothing(&found.node, query, is_root));
    }
    print(status::render(&found, times, &status::account).trim_end());
    Ok(status::exit_status(&found, query.job.is_some()).into())
}

/// Sends a request that changes something, and shows what became of the jobs and sessions. `is_done` says whether a condition is what the
/// caller wanted.
fn show_result<C: Call<Answer = Status>>(
    socket: &Path,
    request: &C,
    times: TimeFormat,
    is_done: impl Fn(&Condition) -> bool,
) -> Result<ExitCode, String> {
    Ok(show_outcome(&ask_for(socket, request)?, times, is_done))
}

fn ask_for<C: Call<Answer = Status>>(socket: &Path, request: &C) -> Result<Status, String> {
    // Longer than the agent waits for the mytoken server.
    ask(socket, request, Deadline::after(Duration::from_secs(40))).map_err(|error| error.to_string())
}

fn show_outcome(found: &Status, times: TimeFormat, is_done: impl Fn(&Condition) -> bool) -> ExitCode {
    print(status::render(found, times, &status::account).trim_end());
    let done = found.jobs.iter().all(|job| job.condition.as_ref().is_some_and(&is_done));
    if done { ExitCode::SUCCESS } else { ExitCode::from(status::NOT_VALID) }
}

/// Revokes the credential of a job's submission, and tells what other nodes keep. Not so with `here`.
fn revoke(socket: &Path, job: JobName, here: bool, times: TimeFormat) -> Result<ExitCode, String> {
    let request = Revoke { job };
    let found = ask_for(socket, &request)?;
    let status = show_outcome(&found, times, |state| *state == Condition::Revoked);
    if here {
        return Ok(status);
    }
    let jobs = JobsSettings::load_alone(DIRECTORY.as_ref(), FileTrust::current()).ok();
    let caller = Caller { node: &found.node, is_root: nix::unistd::geteuid().is_root() };
    let squeue = jobs.as_ref().and_then(|jobs| jobs.agent.squeue.as_deref());
    // A number may be that of a task or a component: its name tells the array or the heterogeneous job.
    let shown = found.jobs.iter().find(|shown| job.means(shown.job, shown.name)).and_then(|shown| shown.name);
    other_nodes::after_revocation(shown.unwrap_or(job), caller, squeue).iter().for_each(tell);
    Ok(status)
}

/// Gives jobs new credentials, and says for each what was done.
fn replace_credentials(config: &Path, job: Option<JobName>, profile: Option<&str>) -> Result<ExitCode, String> {
    let done = replace::replace(config, job, profile)?;
    for (line, replaced) in &done {
        if *replaced {
            print(line);
        } else {
            tell(line);
        }
    }
    Ok(if done.iter().all(|(_, replaced)| *replaced) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_logins(config: &Path, json: bool) -> Result<ExitCode, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can see the logins of this host".to_owned());
    }
    let logins = Logins::read(config).map_err(|error| error.to_string())?;
    if json {
        print(&serde_json::to_string_pretty(&logins).map_err(|error| error.to_string())?);
    } else {
        print(logins.render().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn make_keys(dir: &Path) -> Result<ExitCode, String> {
    let id = keygen::keygen(dir, &host_name()).map_err(|error| error.to_string())?;
    let (public, private) = (dir.join(keygen::PUBLIC), dir.join(keygen::PRIVATE));
    print(&format!("key pair {id}"));
    print(&format!("  {}   for all hosts that submit or run jobs (mode 0644)", public.display()));
    print(&format!("  {}   for the nodes only (root, mode 0600): it opens every job credential", private.display()));
    Ok(ExitCode::SUCCESS)
}

fn make_authority(config: &Path, dir: Option<&Path>) -> Result<ExitCode, String> {
    let made = broker_ca::make(config, FileTrust::current(), dir, SystemClock.now())?;
    print("authority of the brokers");
    print(&format!("  {}   for all brokers and nodes (mode 0644)", made.certificate.display()));
    print(&format!(
        "  {}   for the brokers only (root, mode 0600): it makes certificates of nodes",
        made.key.display()
    ));
    if !made.missing.is_empty() {
        print(&format!(
            "jobs.toml names other files; to use these ones, write into its [broker]: {}",
            made.missing.join(", ")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn show_broker(runtime_dir: &Path, json: bool, times: TimeFormat) -> Result<ExitCode, String> {
    let found = match broker_status::ask(runtime_dir) {
        Ok(found) => found,
        Err(error) => {
            tell(error);
            return Ok(ExitCode::from(broker_status::NO_BROKER));
        }
    };
    if json {
        print(&serde_json::to_string_pretty(&found).map_err(|error| error.to_string())?);
    } else {
        print(broker_status::render(&found, times, &status::account).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn change_nodes(command: NodeCommand, times: TimeFormat) -> Result<ExitCode, String> {
    match command {
        NodeCommand::List { json, config } => show_nodes(&config, json, times),
        NodeCommand::Remove { nodes, config } => Ok(show_outcomes(&BrokerNodes::open(&config)?.remove(&nodes))),
        NodeCommand::Block { nodes, config } => Ok(show_outcomes(&BrokerNodes::open(&config)?.block(&nodes))),
        NodeCommand::Code { node, config } => {
            let code = BrokerNodes::open(&config)?.code(&node)?;
            // Alone, so that it can be piped to the node.
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", code.as_str()).and_then(|()| out.flush()).map_err(|error| error.to_string())?;
            tell(format!(
                "valid for one hour and one use; on {node}, as root: mytokenctl node enrol --code, with this code on standard input"
            ));
            Ok(ExitCode::SUCCESS)
        }
        NodeCommand::Enrol { code, node, config } => {
            let code = if code { Some(read_code()?) } else { None };
            print(&enrol::enrol(&config, node, code.as_ref())?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show_nodes(config: &Path, json: bool, times: TimeFormat) -> Result<ExitCode, String> {
    let nodes = BrokerNodes::open(config)?.list();
    if json {
        print(&serde_json::to_string_pretty(&list::Report::of(&nodes)).map_err(|error| error.to_string())?);
    } else {
        print(list::render(&nodes, times).trim_end());
        nodes.unreadable.iter().for_each(tell);
    }
    Ok(if nodes.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_outcomes(outcomes: &[Outcome]) -> ExitCode {
    for outcome in outcomes {
        match outcome {
            Ok(done) => print(done),
            Err(refused) => tell(refused),
        }
    }
    if outcomes.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn answer_about_account(user: &str, about: &[String]) -> Result<String, String> {
    match about {
        [directory, service, origin] => check::answer_about_account(directory.as_ref(), service, user, origin),
        _ => Err("--only-account takes three values".to_owned()),
    }
}

fn change_keys(command: KeyCommand) -> Result<ExitCode, String> {
    let text = match command {
        KeyCommand::New { config } => Keys::of(&config)?.make(&host_name())?,
        KeyCommand::List { config } => Keys::of(&config)?.list(),
        KeyCommand::Retire { id, config } => Keys::of(&config)?.retire(&id)?,
    };
    print(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn show_findings(findings: &check::Findings, json: bool) -> Result<ExitCode, String> {
    if json {
        print(&serde_json::to_string_pretty(findings).map_err(|error| error.to_string())?);
    } else {
        print(findings.render().trim_end());
    }
    Ok(ExitCode::from(findings.exit_status()))
}

fn show_explanation(user: &str, claims: Option<&Path>, config: &Path) -> Result<ExitCode, String> {
    let (explanation, accepted) = match claims {
        Some(file) => explain::explain_claims(config, user, file)?,
        None => explain::explain(config, user, &read_token()?).map_err(|error| error.to_string())?,
    };
    Ok(show_decision(&explanation, accepted))
}

fn show_decision(text: &str, good: bool) -> ExitCode {
    print(text.trim_end());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show_submission(profile: &str, config: &Path, times: TimeFormat) -> Result<ExitCode, String> {
    let mytoken = read_token()?;
    let (explanation, requested) = explain_submission::explain(config, profile, &mytoken, &SystemClock, times)
        .map_err(|error| error.to_string())?;
    Ok(show_decision(&explanation, requested))
}

fn show_profiles(command: ProfileCommand, times: TimeFormat) -> Result<ExitCode, String> {
    let environment = UserEnvironment::current();
    let variable = std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned());
    let caller = profile::Caller { environment: &environment, variable: variable.as_deref() };
    let (text, requested) = match command {
        ProfileCommand::List { config } => profile::list(&config, caller).map(|text| (text, true)),
        ProfileCommand::Show { profile: name, partition, account, config } => {
            let destination = (partition.as_deref(), account.as_deref());
            profile::show(&config, (name.as_deref(), destination), caller, &SystemClock, times)
        }
    }
    .map_err(|error| error.to_string())?;
    Ok(show_decision(&text, requested))
}

fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs the command with a token that is kept fresh.
fn run_command(config: &Path, profile: &str, command: &[OsString]) -> ExitCode {
    let ended = run::run(config, profile, &host_name(), command).unwrap_or_else(|error| {
        tell(&error);
        error.exit_status()
    });
    ExitCode::from(ended)
}

/// Becomes the command. Returns only when that fails.
fn run_with_token(command: &[OsString]) -> ExitCode {
    let uid = nix::unistd::geteuid().as_raw();
    let refused = with_token::exec(std::env::var_os(BEARER_TOKEN_FILE), command, uid, &SystemClock);
    tell(&refused);
    ExitCode::from(refused.exit_status())
}

/// Prints lines, if there are any.
fn print_some(text: &str) {
    if !text.is_empty() {
        print(text.trim_end());
    }
}
