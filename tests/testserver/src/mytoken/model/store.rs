// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of the server, behind one lock. It is lost at a restart.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::model::clauses::{Clause, UseCount};
use crate::mytoken::model::codes::{self, CODE_LENGTH, CODE_LIFETIME};
use crate::mytoken::model::jwt::MytokenClaims;
use crate::mytoken::model::mytoken_request::{MytokenRequest, RequestedForm};
use crate::mytoken::model::rotation::Rotation;
use crate::mytoken::model::templates::Templates;

/// One event of a token's history.
#[derive(Debug, Clone)]
pub struct HistoryEvent {
    pub event: &'static str,
    pub comment: String,
    pub time: i64,
    pub ip: String,
    pub user_agent: String,
}

/// One token. Its successors by rotation keep this row.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Claim `jti`.
    pub jti: String,
    /// Public handle.
    pub mom_id: String,
    /// Number of the row: orders tokens that were created in the same second.
    pub row: u64,
    /// The parent token, if any.
    pub parent: Option<String>,
    /// Number of the refresh token, which the whole tree shares.
    pub refresh: u64,
    /// Shown in lists.
    pub name: String,
    /// Unix time.
    pub created: i64,
    /// Address of the client that made it.
    pub ip: String,
    /// Claim `exp`; 0 when there is none.
    pub exp: i64,
    /// The only valid sequence number.
    pub seq_no: u64,
    /// When it was created or rotated last.
    pub renewed: i64,
    /// Digest of the newest JWT. The original encrypts the refresh token with it, so no other JWT can decrypt it.
    pub sealed: [u8; 32],
    /// Settings fixed at creation.
    pub rotation: Option<Rotation>,
    /// Claim `oidc_sub`.
    pub oidc_sub: String,
    /// Claim `oidc_iss`.
    pub oidc_iss: String,
    /// Uses by the JSON of the clause.
    pub used: HashMap<String, UseCount>,
    /// History, oldest first.
    pub events: Vec<HistoryEvent>,
}

impl TokenRow {
    /// Uses of a clause, if there were any.
    #[must_use]
    pub fn used(&self, clause: &Clause) -> Option<UseCount> {
        self.used.get(&clause.key()).copied()
    }
}

/// The digest of a JWT. It replaces the original's encryption of the refresh token with that JWT.
#[must_use]
pub fn seal(jwt: &str) -> [u8; 32] {
    Sha256::digest(jwt).into()
}

/// What a short token stands for.
#[derive(Debug, Clone)]
pub struct ShortToken {
    /// The JWT behind it.
    pub jwt: String,
    /// The token's id.
    pub jti: String,
}

/// What a polling or transfer code stands for.
#[derive(Debug, Clone)]
pub enum CodeState {
    /// The login is not finished. Contains its consent code.
    Pending(String),
    /// The user declined.
    Declined,
    /// The login failed. Contains the reason. Used only without the quirk `failed_login_stays_pending`.
    Failed(String),
    /// The token is ready.
    Ready {
        /// Its text.
        jwt: String,
        /// Its id.
        jti: String,
        /// The form in which polling returns it.
        form: RequestedForm,
    },
}

/// A polling or transfer code.
#[derive(Debug, Clone)]
pub struct CodeRecord {
    /// What it stands for.
    pub state: CodeState,
    /// Unix time.
    pub expires: i64,
    /// Whether the token was created for this code.
    pub fresh: bool,
}

/// A login that has started and not ended.
#[derive(Debug, Clone)]
pub struct PendingLogin {
    /// Index of the provider that the start of the login named.
    pub upstream: usize,
    /// The requested token.
    pub wanted: MytokenRequest,
    /// The polling code; a web client has none.
    pub polling_code: Option<String>,
    /// Where the browser of a web client is sent at the end.
    pub redirect_uri: Option<String>,
    /// OAuth state.
    pub state: String,
    /// PKCE.
    pub verifier: String,
    /// Unix time.
    pub expires: i64,
}

/// The refresh token of a tree.
#[derive(Debug, Clone)]
pub struct Refresh {
    /// Index of the provider.
    pub upstream: usize,
    /// The token.
    pub token: String,
}

/// The state of the server.
#[derive(Debug, Default)]
pub struct ServerState {
    pub tokens: HashMap<String, TokenRow>,
    pub shorts: HashMap<String, ShortToken>,
    pub codes: HashMap<String, CodeRecord>,
    pub logins: HashMap<String, PendingLogin>,
    pub refresh: HashMap<u64, Refresh>,
    /// Grants by user, and whether each is enabled.
    pub grants: HashMap<(String, String), BTreeMap<String, bool>>,
    pub templates: Templates,
    counter: u64,
}

impl ServerState {
    /// The next unused number.
    pub fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Creates a code for a token. `fresh` means that the token was created for this code.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn add_code(&mut self, jwt: String, jti: String, fresh: bool, now: i64) -> ApiResult<String> {
        let code = codes::letters(CODE_LENGTH)?;
        let ready = CodeState::Ready { jwt, jti, form: RequestedForm::JWT };
        self.codes.insert(code.clone(), CodeRecord { state: ready, expires: now + CODE_LIFETIME, fresh });
        Ok(code)
    }

    /// The row of a token whose claims were checked. It must exist, have this sequence number and not have
    /// lapsed. With `auto_revoke` an outdated or lapsed token revokes its tree.
    ///
    /// # Errors
    /// 401 without a description.
    pub fn live_row(&mut self, claims: &MytokenClaims, now: i64) -> ApiResult<&mut TokenRow> {
        let token = self.tokens.get(&claims.jti).ok_or_else(ApiError::revoked)?;
        let rotation = token.rotation.unwrap_or_default();
        let lapsed = rotation.lifetime > 0 && now > token.renewed.saturating_add(rotation.lifetime);
        if token.seq_no != claims.seq_no || lapsed {
            if rotation.auto_revoke {
                self.revoke(&claims.jti, true);
            }
            return Err(ApiError::revoked());
        }
        self.tokens.get_mut(&claims.jti).ok_or_else(ApiError::revoked)
    }

    /// The token with this `mom_id`.
    #[must_use]
    pub fn by_mom_id(&self, mom_id: &str) -> Option<&TokenRow> {
        self.tokens.values().find(|token| token.mom_id == mom_id)
    }

    /// Children, oldest first.
    #[must_use]
    pub fn children(&self, jti: &str) -> Vec<&TokenRow> {
        let mut children: Vec<&TokenRow> =
            self.tokens.values().filter(|token| token.parent.as_deref() == Some(jti)).collect();
        children.sort_by_key(|token| token.row);
        children
    }

    /// Whether `jti` is the token itself or an ancestor of it.
    #[must_use]
    pub fn is_self_or_ancestor(&self, jti: &str, token: &TokenRow) -> bool {
        let mut current = Some(token);
        while let Some(token) = current {
            if token.jti == jti {
                return true;
            }
            current = token.parent.as_ref().and_then(|parent| self.tokens.get(parent));
        }
        false
    }

    /// Removes a token with its codes and short tokens. With `recursive` all its descendants are removed too; otherwise
    /// its children become roots. Returns the refresh token if no token uses it any more.
    pub fn revoke(&mut self, jti: &str, recursive: bool) -> Option<Refresh> {
        let mut removed = HashSet::from([jti.to_owned()]);
        if recursive {
            let mut parents: Vec<String> = vec![jti.to_owned()];
            while let Some(parent) = parents.pop() {
                for child in self.children(&parent) {
                    parents.push(child.jti.clone());
                    removed.insert(child.jti.clone());
                }
            }
        }
        let refresh = self.tokens.get(jti).map(|token| token.refresh);
        self.tokens.retain(|jti, _| !removed.contains(jti));
        for token in self.tokens.values_mut() {
            if token.parent.as_ref().is_some_and(|parent| removed.contains(parent)) {
                token.parent = None;
            }
        }
        self.codes.retain(|_, code| !matches!(&code.state, CodeState::Ready { jti, .. } if removed.contains(jti)));
        self.shorts.retain(|_, short| !removed.contains(&short.jti));
        let refresh = refresh?;
        if self.tokens.values().any(|token| token.refresh == refresh) {
            return None;
        }
        self.refresh.remove(&refresh)
    }

    /// Removes expired logins, and codes that expired an hour ago.
    pub fn remove_expired(&mut self, now: i64) {
        const KEPT: i64 = 3600;
        self.codes.retain(|_, code| code.expires + KEPT > now);
        self.logins.retain(|_, login| login.expires > now);
    }

    /// The tree below a token in the form of tokeninfo.
    #[must_use]
    pub fn tree(&self, token: &TokenRow) -> Value {
        let mut entry = Map::new();
        entry.insert("ip".into(), json!(token.ip));
        entry.insert("name".into(), json!(token.name));
        entry.insert("created".into(), json!(token.created));
        if token.exp != 0 {
            entry.insert("expires_at".into(), json!(token.exp));
        }
        entry.insert("mom_id".into(), json!(token.mom_id));
        let children: Vec<Value> = self.children(&token.jti).into_iter().map(|child| self.tree(child)).collect();
        if children.is_empty() { json!({"token": entry}) } else { json!({"token": entry, "children": children}) }
    }
}
