// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::{oldest_compiler, other_systems, results};
use clap::{Args, Parser, Subcommand};
use testbed::site::root::{Recipe, Root};
use testbed::site::servers::{AUDIENCE, CA};
use testbed::site::services::syslog;
use testbed::site::{foreign, init, memory, plan};
use testbed::{Controls, Error, Foreign, Need, Options, Release, Result, Site, bench, demo, picture, soak};

#[derive(Debug, Parser)]
#[command(name = "testbed", version, about = "A whole site on one machine: real sshd, real Slurm, namespaces")]
struct Cli {
    #[command(flatten)]
    site: SiteArguments,
    #[command(subcommand)]
    command: Action,
}

/// The options of the site.
#[derive(Debug, Args)]
struct SiteArguments {
    /// Debian release of the site: bookworm, trixie or sid [default: the host's if it is one of these, else bookworm]
    #[arg(long = "root", value_name = "RELEASE", global = true)]
    release: Option<Release>,
    /// Number of Slurm nodes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64), global = true)]
    nodes: u8,
    /// A mytoken server outside the site; the site then stays in this network
    #[arg(long, value_name = "URL", global = true)]
    server: Option<String>,
    /// The provider behind that server
    #[arg(long, value_name = "URL", global = true)]
    issuer: Option<String>,
    /// Root certificates of both servers
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// A file with a mytoken of that server for the account alice and the audience of the site (docs/interfaces.md)
    #[arg(long, value_name = "FILE", global = true)]
    mytoken_file: Option<PathBuf>,
    /// Opens a link of `mytoken-ssh login` as a user's browser: shell command, arguments LINK USER
    #[arg(long, value_name = "CMD", requires = "server", global = true)]
    browser: Option<String>,
    /// Sets a fault of that provider's token endpoint: shell command, arguments `set NAME` or `clear`
    #[arg(long, value_name = "CMD", requires = "server", global = true)]
    provider_faults: Option<String>,
    /// Gets a mytoken of a user: shell command that reads a request as JSON and prints the mytoken
    #[arg(long, value_name = "CMD", requires = "server", global = true)]
    first_token: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the root file system if it is missing
    Root,
    /// Open a site and a shell in it
    Shell {
        /// The user of the shell
        #[arg(long, default_value = "alice")]
        user: String,
    },
    /// Make a site, run one command in it, remove the site
    Exec {
        /// The user that runs it
        #[arg(long, default_value = "root")]
        user: String,
        /// The command
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Run the demo on the terminal
    Demo,
    /// Draw a terminal picture of a login and a job
    Picture {
        /// The SVG file
        file: PathBuf,
    },
    /// Run all tests of the workspace and print how many passed, failed and were skipped
    Test {
        /// Only tests whose name contains this
        name: Option<String>,
        /// Only the end-to-end tests
        #[arg(long)]
        stories: bool,
        /// Play one story, a login and a job, on this release too
        #[arg(long, value_name = "RELEASE")]
        also: Vec<Release>,
    },
    /// Measure what the product costs, print a table, write bench.json
    Bench {
        /// Number of measurements in percent: fewer are faster but less exact
        #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        scale: u16,
        /// Only parts whose name contains this
        part: Option<String>,
    },
    /// Run many jobs while servers and agents fail, print what was lost
    Soak {
        #[command(flatten)]
        plan: soak::plan::Plan,
    },
    /// Check that the workspace compiles with the oldest supported compiler, Debian 12's
    Msrv,
    /// Check that mytoken-ssh compiles for macOS and FreeBSD
    Portable,
    /// A test program, for cargo
    #[command(hide = true)]
    RunTest {
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// The first process of a site
    #[command(hide = true)]
    Init { plan: String },
    /// Store a mytoken from standard input for the running user
    #[command(hide = true)]
    KeepMytoken {
        #[arg(long)]
        server: String,
        #[arg(long)]
        issuer: String,
        #[arg(long)]
        ca: Option<PathBuf>,
    },
    /// The system log of a site
    #[command(hide = true)]
    Syslog,
    /// A task of a soak, inside a site
    #[command(hide = true)]
    SoakTask { tag: String, seconds: u32 },
    /// The memory of processes, inside a site
    #[command(hide = true)]
    DumpMemory { pids: Vec<u32> },
    /// Time commands for the bench, inside a site
    #[command(hide = true)]
    TimeCommands,
    /// Report starts of jobs to an agent for the bench, inside a site
    #[command(hide = true)]
    JobStarts,
}

pub(crate) fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Action::Root => {
            let root = Root::open(&Recipe::site(options(&cli.site)?.release))?;
            println!("{}", root.directory().display());
            Ok(ExitCode::SUCCESS)
        }
        Action::Shell { user } => shell(options(&cli.site)?, &user),
        Action::Exec { user, command } => {
            let site = Site::start(options(&cli.site)?)?;
            status(site.command(&user, command).interactive()?)
        }
        Action::Demo => demo::run(options(&cli.site)?).map(|()| ExitCode::SUCCESS),
        Action::Picture { file } => picture::draw(options(&cli.site)?, &file).map(|()| ExitCode::SUCCESS),
        Action::Test { name, stories, also } => results::run(&options(&cli.site)?, name.as_deref(), stories, &also),
        Action::RunTest { program, arguments } => results::run_program(&program, &arguments),
        Action::Bench { scale, part } => {
            let amount = bench::Amount { percent: scale, part: part.unwrap_or_default() };
            bench::run(options(&cli.site)?, &amount).map(|()| ExitCode::SUCCESS)
        }
        Action::Soak { plan } => soak(options(&cli.site)?, &plan),
        Action::SoakTask { tag, seconds } => soak::task::run(&tag, seconds).map(|()| ExitCode::SUCCESS),
        Action::DumpMemory { pids } => memory::dump(&pids).map(|()| ExitCode::SUCCESS),
        Action::TimeCommands => bench::time_commands().map(|()| ExitCode::SUCCESS),
        Action::JobStarts => bench::start_jobs().map(|()| ExitCode::SUCCESS),
        Action::Msrv => oldest_compiler::check(),
        Action::Portable => other_systems::check(),
        Action::Init { plan } => {
            let plan: plan::Plan = serde_json::from_str(&plan).map_err(|error| Error::Refused(error.to_string()))?;
            init::run(&plan).map(|()| ExitCode::SUCCESS)
        }
        Action::KeepMytoken { server, issuer, ca } => {
            foreign::keep_mytoken(&server, &issuer, ca.as_deref()).map(|()| ExitCode::SUCCESS)
        }
        Action::Syslog => syslog::collect().map(|()| ExitCode::SUCCESS),
    }
}

fn options(site: &SiteArguments) -> Result<Options> {
    let chosen = Options::new()?;
    let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let foreign = Foreign::new(site.server.clone(), site.issuer.clone(), text(&site.mytoken_file), text(&site.ca))?;
    let given = Controls::new(|need| match need {
        Need::Browser => site.browser.clone(),
        Need::ProviderFaults => site.provider_faults.clone(),
        Need::FirstToken => site.first_token.clone(),
    });
    let foreign = foreign.map(|foreign| foreign.with(given));
    Ok(Options {
        release: site.release.unwrap_or(chosen.release),
        nodes: site.nodes,
        foreign: foreign.or(chosen.foreign.clone()),
        ..chosen
    })
}

fn soak(chosen: Options, plan: &soak::plan::Plan) -> Result<ExitCode> {
    let site = Site::start(soak::options(plan, chosen))?;
    println!("{plan:?}");
    let figures = soak::run(&site, plan)?;
    println!("{}", soak::goals::Table(&figures));
    Ok(if soak::goals::missed(&figures).is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shell(options: Options, user: &str) -> Result<ExitCode> {
    let site = Site::start(options)?;
    eprintln!(
        "A site of Debian {} with {} nodes; logs are in /var/log; the site ends with this shell.",
        site.options().release,
        site.options().nodes
    );
    if std::io::stdin().is_terminal() {
        eprint!("{}", what_to_try(&site, user));
        // A new terminal: the caller's is not among the devices of the site.
        status(site.command(user, ["script", "-qec", "bash -l", "/dev/null"]).interactive()?)
    } else {
        status(site.command(user, ["bash", "-l"]).interactive()?)
    }
}

/// Commands for a newcomer. root cannot log in with a token.
fn what_to_try(site: &Site, user: &str) -> String {
    if user == "root" || !site.has_testserver() {
        return "Try:  sinfo\n".to_owned();
    }
    format!(
        "Try, line by line:
  mytoken-ssh login --audience {AUDIENCE} |& cat &     # prints a LINK
  testserver browser LINK --user {user} --ca {CA}       # opens it, as the browser would
  mytoken-ssh ssh --delegate testbed                          # no password, no key; in the session: cat $BEARER_TOKEN_FILE
  sbatch --mytoken --wrap 'ls -l $BEARER_TOKEN_FILE'          # in the session or here; its output: cat slurm-*.out
"
    )
}

fn status(mut command: Command) -> Result<ExitCode> {
    let status = command.status().map_err(|source| Error::Io { what: "entering the site".into(), source })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
