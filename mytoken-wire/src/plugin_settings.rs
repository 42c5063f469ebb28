// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of the Slurm plugin in plugstack.conf. Strict: only `key=value`, each key once, no unknown keys.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::paths;
use crate::profile::{DEFAULT_TABLES, SiteDefault};

/// A key.
#[derive(Debug, Clone, Copy)]
enum Key {
    Submit,
    Socket,
    Default,
    SubmitSeconds,
    AgentSeconds,
}

/// The keys by their names. Each has a text in `spank_mytoken(8)`.
const KEYS: [(&str, Key); 5] = [
    ("submit", Key::Submit),
    ("socket", Key::Socket),
    ("default", Key::Default),
    ("submit_seconds", Key::SubmitSeconds),
    ("agent_seconds", Key::AgentSeconds),
];

/// Their names in a sentence.
const KNOWN: &str = "submit, socket, default, submit_seconds, agent_seconds";

/// The key with this name.
fn find(name: &str) -> Result<Key, String> {
    let found = KEYS.iter().find(|(known, _)| *known == name);
    found.map(|(_, key)| *key).ok_or_else(|| format!("is unknown; known are {KNOWN}"))
}

/// What the administrator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSettings {
    /// The program that makes a job credential.
    pub submit: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
    /// What submissions without the option get.
    pub default: SiteDefault,
    /// Time limit of [`PluginSettings::submit`].
    pub submit_time: Duration,
    /// Time limit for the agent's answer at the start of a step.
    pub agent_time: Duration,
    /// Invalid arguments, a sentence each. Such a setting keeps its default.
    pub problems: Vec<String>,
}

impl Default for PluginSettings {
    fn default() -> Self {
        Self {
            submit: PathBuf::from("/usr/libexec/mytoken/mytoken-submit"),
            socket: PathBuf::from(paths::AGENT_SOCKET),
            default: SiteDefault::Off,
            submit_time: Duration::from_secs(12),
            // A second more than `[agent] start_deadline`, so that the answer "pending" arrives in time.
            agent_time: Duration::from_secs(3),
            problems: Vec::new(),
        }
    }
}

impl PluginSettings {
    /// Reads the arguments.
    #[must_use]
    pub fn parse(arguments: &[String]) -> Self {
        let mut settings = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for argument in arguments {
            let result = match argument.split_once('=') {
                Some((key, _)) if seen.contains(&key) => Err("is given twice".to_owned()),
                Some((key, value)) => {
                    seen.push(key);
                    settings.set(key, value)
                }
                None => Err("is not of the form key=value".to_owned()),
            };
            if let Err(reason) = result {
                settings.problems.push(format!("plugstack.conf: argument {argument:?} {reason}"));
            }
        }
        settings
    }

    /// Sets one argument. The error follows the argument in a sentence.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match find(key)? {
            Key::Submit => self.submit = absolute_path(value)?,
            Key::Socket => self.socket = absolute_path(value)?,
            Key::Default => {
                self.default = SiteDefault::parse(value)
                    .ok_or_else(|| format!("is no profile name, and neither \"off\" nor \"{DEFAULT_TABLES}\""))?;
            }
            Key::SubmitSeconds => self.submit_time = seconds(value, 1..=120)?,
            Key::AgentSeconds => self.agent_time = seconds(value, 1..=30)?,
        }
        Ok(())
    }

    /// Where the agent keeps the files of jobs: `jobs` beside its socket.
    #[must_use]
    pub fn jobs(&self) -> PathBuf {
        self.beside_socket(paths::JOBS)
    }

    /// Where the starts are recorded that the agent did not answer: beside its socket.
    #[must_use]
    pub fn missed(&self) -> PathBuf {
        self.beside_socket(paths::MISSED)
    }

    /// Where login sessions have their files: beside the socket.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.beside_socket(paths::SESSIONS)
    }

    fn beside_socket(&self, name: &str) -> PathBuf {
        self.socket.parent().unwrap_or(Path::new("/")).join(name)
    }
}

fn absolute_path(value: &str) -> Result<PathBuf, String> {
    if value.starts_with('/') { Ok(PathBuf::from(value)) } else { Err("is not an absolute path".to_owned()) }
}

fn seconds(value: &str, range: RangeInclusive<u64>) -> Result<Duration, String> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number
        .map(Duration::from_secs)
        .ok_or_else(|| format!("is not a number of seconds from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
#[path = "../../tests/manual_page.rs"]
mod manual_page;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_has_every_argument_with_its_default() {
        let documented = manual_page::entries("spank_mytoken.8", "ARGUMENTS");
        let defaults = PluginSettings::default();
        let values = [
            defaults.submit.display().to_string(),
            defaults.socket.display().to_string(),
            "off".to_owned(),
            defaults.submit_time.as_secs().to_string(),
            defaults.agent_time.as_secs().to_string(),
        ];
        let names: Vec<&str> = documented.iter().filter_map(|(head, _)| head.split('=').next()).collect();
        assert_eq!(names, KEYS.map(|(name, _)| name));
        assert_eq!(names.join(", "), KNOWN);
        for ((head, text), (name, value)) in documented.iter().zip(names.iter().zip(&values)) {
            let mut words = text.split_once("Default:").map(|(_, words)| words).unwrap_or_default().split_whitespace();
            // The value may be the argument of a macro.
            let default = words.find(|word| !word.starts_with('.')).unwrap_or_default();
            assert_eq!(default.trim_end_matches('.'), value, "{head}");
            assert_eq!(parse(&[&format!("{name}={value}")]), defaults, "{head}");
        }
    }

    fn parse(arguments: &[&str]) -> PluginSettings {
        PluginSettings::parse(&arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_argument_is_read() {
        let settings = parse(&["submit=/a", "socket=/b", "default=data", "submit_seconds=3", "agent_seconds=1"]);
        let wanted = PluginSettings {
            submit: "/a".into(),
            socket: "/b".into(),
            default: SiteDefault::parse("data").unwrap(),
            submit_time: Duration::from_secs(3),
            agent_time: Duration::from_secs(1),
            ..PluginSettings::default()
        };
        assert_eq!(settings, wanted);
        // "off" is a keyword, not the name of a profile.
        assert_eq!(parse(&["default=off"]), PluginSettings::default());
        assert_eq!(parse(&["default=jobs.toml"]).default, SiteDefault::Tables);
    }

    #[test]
    fn an_invalid_argument_is_quoted_and_its_setting_keeps_the_default() {
        for wrong in [
            "submt=/a",
            "submit",
            "submit=relative",
            "socket=",
            "default=",
            "default=required",
            "default=a b",
            "submit_seconds=0",
            "submit_seconds=121",
            "submit_seconds=1.5",
            "agent_seconds=-1",
            "agent_seconds=2s",
        ] {
            let settings = parse(&[wrong]);
            assert_eq!(settings.problems.len(), 1, "{wrong}");
            assert!(settings.problems[0].contains(&format!("{wrong:?}")), "{:?}", settings.problems);
            assert_eq!(PluginSettings { problems: Vec::new(), ..settings }, PluginSettings::default());
        }
        assert_eq!(parse(&["default=a", "default=b"]).problems.len(), 1);
    }
}
