// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh code`: prints a transfer code for one login, which a person types into any ssh client.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use mytoken::time_format::duration;
use mytoken::{Clock, Secret, SystemClock};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::askpass::responder::LoginTokenSource;
use crate::command_line::CodeOptions;
use crate::error::Error;
use crate::login_token::LoginTokenRequest;
use crate::login_token::by_account::of_mytoken;
use crate::other_programs::TokenSource;
use crate::output::{print_for_program, tell};
use crate::printable::printable;
use crate::settings::HelperSettings;
use crate::signals::watch_signals;
use crate::ssh::arguments::Program;
use crate::ssh::installed;
use crate::ssh::wrapper::{resolve_destinations, token_request};

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    code: &'a Secret,
    /// Seconds until the code expires; `null` if the server does not say it.
    expires_in: Option<u64>,
    /// When it expires, Unix seconds of this machine's clock; `null` if the server does not say it.
    expires_at: Option<u64>,
    /// The host that it is for.
    host: &'a str,
}

/// Makes a sub-token for a login to a host, and prints the code for it.
pub fn run(options: &CodeOptions) -> Result<ExitCode, Error> {
    // As for a login by ssh: its configuration has names of hosts, and the user.
    let host = [options.host.clone().into()];
    let destinations = resolve_destinations(installed::find("ssh")?.as_os_str(), Program::Ssh, &host)?;
    let [destination] = destinations.as_slice() else {
        return Err(Error::Usage(format!("{} is not the name of one host", printable(&options.host))));
    };
    let settings = HelperSettings::load()?;
    let request = token_request(&settings, &options.token, destination);
    if request.source != TokenSource::Mytoken {
        tell("mytoken-ssh: the code is of your mytoken: what the host's entry names as its source gives none here");
    }
    let request = LoginTokenRequest { code: true, source: TokenSource::Mytoken, ..request };
    // Between the server's answer and the output, Ctrl-C would lose the code, or the successor of a mytoken that rotates.
    let interrupted = watch_signals()?;
    let mut source = of_mytoken(&settings, &options.token, vec![request])?;
    let code = source.token(0)?;
    let lifetime = source.code_lifetime();
    let host = &destination.account.host;
    let printed = if interrupted.load(Ordering::Relaxed) {
        Err(Error::Interrupted)
    } else {
        print_for_program(&text(options, &code, lifetime, host))
    };
    if let Err(error) = printed {
        // Nobody has the code.
        source.revoke().iter().for_each(|warning| tell(warning));
        return Err(error);
    }
    if !options.json {
        let within = lifetime.map(|seconds| format!(" within {}", duration(seconds))).unwrap_or_default();
        tell(&format!("mytoken-ssh: for one login to {}{within}: type it at the prompt", printable(host)));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(options: &CodeOptions, code: &Secret, expires_in: Option<u64>, host: &str) -> Zeroizing<String> {
    Zeroizing::new(if options.json {
        let expires_at = expires_in.map(|seconds| SystemClock.now().saturating_add(seconds));
        serde_json::to_string(&Printed { code, expires_in, expires_at, host }).unwrap_or_default() + "\n"
    } else {
        format!("{}\n", code.expose())
    })
}
