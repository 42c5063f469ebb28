// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens of oidc-agent, over its socket: one JSON object each way, and the agent closes the connection.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::{Deadline, Secret};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::waiting::{self, Unfinished};
use super::{LIMIT, Reach};
use crate::error::Error;
use crate::printable::printable;
use crate::unix_socket;

/// Time limit for an access token: the agent asks the provider, and may ask the user for a passphrase.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Time limit for what the agent has at hand.
const SHORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Seconds that a token must be valid for: the login needs it at once.
const SHORTEST: u64 = 60;

#[derive(Serialize)]
struct AccessTokenRequest<'a> {
    request: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    min_valid_period: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    audience: &'a str,
    /// Where the agent asks the user, it shows this.
    application_hint: &'static str,
}

#[derive(Serialize)]
struct AccountsRequest {
    request: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    access_token: Option<Secret>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    info: serde_json::Value,
}

/// An agent that runs.
#[derive(Debug, Clone)]
pub struct OidcAgent {
    socket: PathBuf,
}

impl OidcAgent {
    /// The agent of this user: that of `$OIDC_SOCK`, else the one that the session's start has left at its usual place.
    ///
    /// # Errors
    /// There is none, or it is somebody else's.
    pub fn find() -> Result<Self, Error> {
        let directory = std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty());
        let usual = PathBuf::from(directory.unwrap_or_else(|| "/tmp".into()))
            .join(format!("oidc-agent-service-{}/oidc-agent.sock", geteuid()));
        Self::at(Self::named().map_or(usual, |agent| agent.socket))
    }

    /// The agent that `$OIDC_SOCK` names.
    pub fn named() -> Option<Self> {
        let socket = std::env::var_os("OIDC_SOCK").filter(|socket| !socket.is_empty())?;
        Some(Self { socket: socket.into() })
    }

    fn at(socket: PathBuf) -> Result<Self, Error> {
        let place = printable(&socket.to_string_lossy());
        let found = socket.metadata().map_err(|error| {
            Error::Usage(format!(
                "oidc-agent does not run: {place}: {error}; start it, and name its socket in $OIDC_SOCK"
            ))
        })?;
        if !found.file_type().is_socket() || found.uid() != geteuid().as_raw() {
            return Err(Error::Usage(format!("{place} is no socket of an oidc-agent of yours")));
        }
        Ok(Self { socket })
    }

    /// The accounts that it has loaded.
    ///
    /// # Errors
    /// It does not answer.
    pub fn accounts(&self) -> Result<Vec<String>, Error> {
        let answer = self.ask(&AccountsRequest { request: "loaded_accounts" }, SHORT_TIMEOUT)?;
        // Without an account, `info` is no list.
        Ok(serde_json::from_value(answer.info).unwrap_or_default())
    }

    /// An access token of `account`: its name, or the URL of its provider. Without a scope it has those of the account.
    ///
    /// # Errors
    /// The agent gives none, or one that reaches further.
    pub fn access_token(&self, account: &str, reach: Reach<'_>) -> Result<Secret, Error> {
        let is_issuer = account.contains("://");
        let answer = self.ask(
            &AccessTokenRequest {
                request: "access_token",
                account: Some(account).filter(|_| !is_issuer),
                issuer: Some(account).filter(|_| is_issuer),
                min_valid_period: SHORTEST,
                scope: reach.scope,
                audience: reach.audience,
                application_hint: "mytoken-ssh",
            },
            TIMEOUT,
        )?;
        let refused = |why: &str| {
            Error::Usage(format!("oidc-agent gives no token of {}: {}", printable(account), printable(why)))
        };
        match answer.access_token.filter(|token| !token.is_empty()) {
            Some(token) => reach.check(&token).map(|()| token).map_err(|why| refused(&why)),
            None => Err(refused(&answer.error.unwrap_or_else(|| "it gives no reason".into()))),
        }
    }

    fn ask(&self, request: &impl Serialize, time: Duration) -> Result<Answer, Error> {
        let action = || format!("oidc-agent at {}", printable(&self.socket.to_string_lossy()));
        let request = serde_json::to_vec(request).map_err(Error::system(action()))?;
        let path = self.socket.clone();
        // The agent reads what is there at once, so the request is one write. A listener that does not accept would block `connect`.
        let answer = waiting::within(Deadline::after(time), move || exchange(&path, &request));
        let answer = answer.map_err(|why| match why {
            Unfinished::TimeOver => Error::system(action())(format!("it did not answer within {} s", time.as_secs())),
            Unfinished::NotNeeded => Error::Interrupted,
        })?;
        let answer = answer.map_err(Error::system(action()))?;
        serde_json::from_slice(&answer).map_err(|_| Error::system(action())("its answer is not understood"))
    }
}

fn exchange(path: &Path, request: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut stream = unix_socket::connect(path).map_err(|error| error.to_string())?;
    if !unix_socket::is_same_user(&stream) {
        return Err("it belongs to another user".into());
    }
    stream.write_all(request).map_err(|error| error.to_string())?;
    let mut answer = Zeroizing::new(Vec::with_capacity(LIMIT));
    stream.take(LIMIT as u64).read_to_end(&mut answer).map_err(|error| error.to_string())?;
    Ok(answer)
}

#[cfg(test)]
pub mod tests {
    use std::os::unix::net::UnixListener;

    use serde_json::{Value, json};

    use super::super::reach::tests::jwt;
    use super::*;

    /// An agent that gives each request the next of these answers.
    pub fn agent(answers: &[&str]) -> (OidcAgent, tempfile::TempDir, std::thread::JoinHandle<Vec<Value>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        let serve = move |answer: String| {
            let (mut stream, _) = listener.accept().unwrap();
            // Like the real one: what is there at once is the request.
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            serde_json::from_slice(&request[..count]).unwrap()
        };
        let served = std::thread::spawn(move || answers.into_iter().map(serve).collect());
        (OidcAgent::at(path).unwrap(), dir, served)
    }

    /// The request that an agent with this answer got, and what the helper made of the answer.
    fn asked(answer: &str, account: &str, scope: &str) -> (Value, Result<String, String>) {
        let (agent, _dir, served) = agent(&[answer]);
        let token = agent.access_token(account, Reach { scope, audience: "https://a" });
        let token = token.map(|token| token.expose().to_owned()).map_err(|error| error.to_string());
        (served.join().unwrap().remove(0), token)
    }

    pub fn success(token: &str) -> String {
        json!({"status": "success", "access_token": token, "issuer": "https://op", "expires_at": 1}).to_string()
    }

    #[test]
    fn an_account_or_a_provider_is_asked_for_the_audience_of_the_host() {
        let token = jwt(&json!({"aud": "https://a", "scope": "openid compute"}));
        let (request, got) = asked(&success(&token), "cluster", "compute");
        assert_eq!(got, Ok(token.clone()));
        assert_eq!(
            request,
            json!({"request": "access_token", "account": "cluster", "min_valid_period": 60, "scope": "compute",
                   "audience": "https://a", "application_hint": "mytoken-ssh"})
        );
        let (request, got) = asked(&success(&token), "https://op.example.org", "");
        assert_eq!(got, Ok(token));
        assert_eq!(
            (&request["issuer"], request.get("account"), request.get("scope")),
            (&json!("https://op.example.org"), None, None)
        );
    }

    #[test]
    fn a_token_that_the_host_could_use_elsewhere_is_not_sent() {
        let token = jwt(&json!({"aud": "https://b"}));
        let error = asked(&success(&token), "cluster", "compute").1.unwrap_err();
        let told = "oidc-agent gives no token of cluster: it is for https://b instead of https://a";
        assert_eq!(error, told);
    }

    #[test]
    fn an_agent_without_a_token_is_told() {
        let failure = json!({"status": "failure", "error": "No account configured\u{1b}[2J", "info": "x"}).to_string();
        for (answer, told) in [
            (failure.as_str(), "oidc-agent gives no token of cluster: No account configured"),
            ("{\"status\":\"success\"}", "it gives no reason"),
            ("", "its answer is not understood"),
            ("AAAA", "its answer is not understood"),
        ] {
            let error = asked(answer, "cluster", "").1.unwrap_err();
            assert!(error.contains(told) && !error.contains('\u{1b}'), "{answer}: {error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let missing = OidcAgent::at(dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.starts_with("oidc-agent does not run"), "{missing}");
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(OidcAgent::at(dir.path().join("file")).unwrap_err().to_string().contains("no socket"));
        let path = dir.path().join("left");
        drop(UnixListener::bind(&path).unwrap());
        let error = OidcAgent::at(path).unwrap().accounts().unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
}
