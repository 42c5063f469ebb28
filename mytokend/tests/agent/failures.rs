// SPDX-License-Identifier: MIT OR Apache-2.0
//! Failures of requests.

use mytokend::agent::credential_service::RequestFailure;

pub fn outage() -> RequestFailure {
    RequestFailure::temporary("the provider is down")
}

pub fn revocation() -> RequestFailure {
    RequestFailure::permanent("the token was revoked")
}
