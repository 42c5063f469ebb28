// SPDX-License-Identifier: MIT OR Apache-2.0
//! `packaging/samples/login.toml` has every key with its default.

#[path = "../../../tests/sample.rs"]
mod annotated;

use mytoken_login::LoginSettings;

#[test]
fn the_sample_of_login_toml_has_every_key_with_its_default() {
    annotated::check("login.toml", |login: LoginSettings| login);
}
