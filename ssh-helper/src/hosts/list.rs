// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh hosts`: shows the rules of config.toml and hosts.toml, and removes one of hosts.toml.

use std::process::ExitCode;

use serde::Serialize;

use super::add::{describe_rule, destination};
use super::{HostRule, HostRules, HostsFile};
use crate::command_line::HostsOptions;
use crate::error::Error;
use crate::output::{print_for_program, print_line, tell};
use crate::printable::printable;
use crate::settings::HelperSettings;

/// What `--json` prints for a rule.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    rule: &'a HostRule,
    /// The file that has it.
    file: &'static str,
}

/// Shows the rules in the order in which they count, or removes one.
pub fn run(options: &HostsOptions) -> Result<ExitCode, Error> {
    let settings = HelperSettings::load()?;
    if let Some(pattern) = &options.remove {
        return remove(&settings, pattern);
    }
    let rules: Vec<Printed> = settings.hosts.in_order().map(|(rule, file)| Printed { rule, file }).collect();
    if options.json {
        print_for_program(&(serde_json::to_string(&rules).unwrap_or_default() + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if rules.is_empty() {
        tell("mytoken-ssh: no host is named yet; run: mytoken-ssh add HOST");
    }
    for Printed { rule, file } in &rules {
        print_line(&format!("{}   ({file})\n  {}", printable(&rule.pattern), describe_rule(rule)));
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(settings: &HelperSettings, pattern: &str) -> Result<ExitCode, Error> {
    let mut file = HostsFile::open(&settings.directory())?;
    if file.remove(pattern)? {
        file.save()?;
        print_line(&format!("✓ {} is removed", printable(pattern)));
        let left = HostRules::load(settings.hosts.configured.clone(), &settings.directory())?;
        // A pattern stands for several hosts, and of a name only ssh knows what else it is called.
        let destination = if pattern.contains(['*', '?']) { None } else { destination(pattern).ok() };
        if let Some(host) = destination {
            let counts = left.rule([&host.host_argument, &host.hostname]);
            let by = counts.map(|rule| format!("{} (by {})", describe_rule(rule), printable(&rule.pattern)));
            let by = by.unwrap_or_else(|| "audience and scope of your mytoken; no token below mytoken-ssh env".into());
            print_line(&format!("  from now on: {by}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let in_config = settings.hosts.configured.iter().any(|rule| rule.pattern.eq_ignore_ascii_case(pattern));
    let place = if in_config { "it stands in config.toml, which you write yourself" } else { "see mytoken-ssh hosts" };
    Err(Error::Usage(format!("hosts.toml has no host {}: {place}", printable(pattern))))
}
