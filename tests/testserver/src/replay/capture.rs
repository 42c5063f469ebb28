// SPDX-License-Identifier: MIT OR Apache-2.0
//! Capture files, in the format that their README describes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// One file.
#[derive(Debug, Deserialize)]
pub(super) struct Capture {
    pub topic: String,
    pub server_config: Option<Value>,
    pub scenarios: Vec<Scenario>,
}

/// A list of steps that share variables.
#[derive(Debug, Deserialize)]
pub(super) struct Scenario {
    pub name: String,
    pub first_token: Option<Map<String, Value>>,
    #[serde(default)]
    pub more_tokens: Vec<Map<String, Value>>,
    /// Seconds that the original takes for the scenario.
    #[serde(default)]
    pub slow: i64,
    pub steps: Vec<ScenarioStep>,
}

/// One exchange, or a pause.
#[derive(Debug, Deserialize)]
pub(super) struct ScenarioStep {
    #[serde(default)]
    pub name: String,
    pub request: Option<CapturedRequest>,
    pub browser: Option<BrowserStep>,
    pub sleep: Option<f64>,
    pub response: Option<CapturedResponse>,
    #[serde(default)]
    pub jwt: BTreeMap<String, DecodedJwt>,
    pub authorization_query: Option<Value>,
    pub provider_requests: Option<Value>,
    pub provider_fault: Option<String>,
    #[serde(default)]
    pub unordered: Vec<String>,
}

/// The request to send.
#[derive(Debug, Deserialize)]
pub(super) struct CapturedRequest {
    pub method: String,
    pub endpoint: Option<String>,
    pub path: Option<String>,
    pub url: Option<String>,
    #[serde(default)]
    pub suffix: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub auth: Option<String>,
    #[serde(default, deserialize_with = "keep_null")]
    pub json: Option<Value>,
    pub form: Option<Value>,
    pub raw: Option<String>,
}

/// A browser opens a URL as a user.
#[derive(Debug, Deserialize)]
pub(super) struct BrowserStep {
    pub open: String,
    pub user: String,
}

/// The expected answer.
#[derive(Debug, Deserialize)]
pub(super) struct CapturedResponse {
    pub status: u16,
    pub content_type: Option<String>,
    #[serde(default, deserialize_with = "keep_null")]
    pub json: Option<Value>,
    pub text: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, Option<Value>>,
    pub location: Option<String>,
}

/// Header and claims of a JWT.
#[derive(Debug, Deserialize)]
pub(super) struct DecodedJwt {
    pub header: Value,
    pub claims: Value,
}

/// Distinguishes a member that is `null` from an absent one.
fn keep_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads files and the JSON files of directories.
pub(super) fn load(paths: &[PathBuf]) -> Result<Vec<Capture>, String> {
    let mut captures = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut files: Vec<PathBuf> = fs::read_dir(path)
                .map_err(|error| format!("{}: {error}", path.display()))?
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
                .collect();
            files.sort();
            for file in files {
                captures.push(read(&file)?);
            }
        } else {
            captures.push(read(path)?);
        }
    }
    Ok(captures)
}

fn read(path: &Path) -> Result<Capture, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}
