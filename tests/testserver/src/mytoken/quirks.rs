// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bugs of the original that a client must cope with. All are on by default, so that clients are tested against the
//! behaviour of a real server.

/// Which bugs are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of switches")]
pub struct Quirks {
    /// MT-09: an unrestricted token gets all scopes and no audience, whatever the request says.
    pub unrestricted_ignores_request: bool,
    /// MT-10: a request without an audience does not get the audience of the clause.
    pub no_default_audience: bool,
    /// MT-12: after an unusable answer of the provider the server returns 200 with an empty access token, counts the
    /// use and rotates the token.
    pub empty_access_token: bool,
    /// MT-18: `error_on_restrictions` has no effect.
    pub restrictions_dropped_silently: bool,
    /// MT-28: the scope or audience of a clause becomes unlimited if the provider grants nothing of it.
    pub empty_intersection_widens: bool,
    /// MT-17: the second use of a clause with `usages_other` and without `usages_AT` panics, except for access tokens.
    pub usages_other_panics: bool,
    /// MT-41: revocation by form ignores `mom_id`.
    pub form_revocation_ignores_mom_id: bool,
    /// MT-03: an empty `mytoken` member is an error.
    pub empty_token_is_error: bool,
    /// MT-49: tokens with `manage_mytokens:history` cannot use `this` and `children`.
    pub history_words_refused: bool,
    /// MT-37: redeeming the code of a token that is not valid now is a 500 and uses up the code.
    pub redeeming_loses_invalid: bool,
    /// MT-23: a child's name of more than 89 characters is a 500.
    pub long_names_fail: bool,
    /// MT-29: only the last audience of a login goes to the provider.
    pub last_audience_only: bool,
    /// MT-45: a short token cannot rotate.
    pub short_tokens_cannot_rotate: bool,
    /// MT-42: an outdated token cannot be revoked.
    pub outdated_cannot_be_revoked: bool,
    /// MT-40: a token cannot revoke itself by its `mom_id`.
    pub own_mom_id_fails: bool,
    /// MT-30: a login whose code exchange failed stays pending.
    pub failed_login_stays_pending: bool,
    /// MT-36: the answer to a redeemed code does not show that the token rotates.
    pub redeeming_hides_rotation: bool,
    /// MT-26: equal clauses of a request for a child are compared by their text; without the quirk by their values.
    pub clauses_compared_as_text: bool,
}

impl Quirks {
    /// A server without bugs.
    pub const NONE: Self = Self {
        unrestricted_ignores_request: false,
        no_default_audience: false,
        empty_access_token: false,
        restrictions_dropped_silently: false,
        empty_intersection_widens: false,
        usages_other_panics: false,
        form_revocation_ignores_mom_id: false,
        empty_token_is_error: false,
        history_words_refused: false,
        redeeming_loses_invalid: false,
        long_names_fail: false,
        last_audience_only: false,
        short_tokens_cannot_rotate: false,
        outdated_cannot_be_revoked: false,
        own_mom_id_fails: false,
        failed_login_stays_pending: false,
        redeeming_hides_rotation: false,
        clauses_compared_as_text: false,
    };
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            unrestricted_ignores_request: true,
            no_default_audience: true,
            empty_access_token: true,
            restrictions_dropped_silently: true,
            empty_intersection_widens: true,
            usages_other_panics: true,
            form_revocation_ignores_mom_id: true,
            empty_token_is_error: true,
            history_words_refused: true,
            redeeming_loses_invalid: true,
            long_names_fail: true,
            last_audience_only: true,
            short_tokens_cannot_rotate: true,
            outdated_cannot_be_revoked: true,
            own_mom_id_fails: true,
            failed_login_stays_pending: true,
            redeeming_hides_rotation: true,
            clauses_compared_as_text: true,
        }
    }
}
