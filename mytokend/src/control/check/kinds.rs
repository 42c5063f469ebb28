// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of findings. An id never changes its meaning: scripts compare it.

use super::Severity;

/// A kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name in JSON.
    pub id: &'static str,
    /// The part of the suite.
    pub part: &'static str,
    /// How bad it is.
    pub level: Severity,
    /// What it says, a sentence for the documents.
    pub meaning: &'static str,
    /// A command that corrects it or shows more, to be pasted into a shell of root; empty when it depends on the finding, or when no
    /// command does. Its directory of the configuration is the usual one.
    pub fix: &'static str,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident: $id:literal, $part:literal, $level:ident, $fix:literal;)*) => {
        $(
            $(#[doc = $doc])+
            pub const $name: Kind =
                Kind { id: $id, part: $part, level: Severity::$level, meaning: concat!($($doc),+), fix: $fix };
        )*
        /// All of them.
        pub const ALL: &[Kind] = &[$($name),*];
    };
}

pub(super) use kinds;

kinds! {
    /// sshd -T fails.
    SSHD_CONFIGURATION: "sshd-configuration", "sshd", Error, "sshd -t";
    /// The directory that sshd needs to separate privileges is missing, or not only root can write to it.
    SSHD_RUN_DIRECTORY: "sshd-run-directory", "sshd", Error, "install -d -m 0755 -o root -g root /run/sshd";
    /// There is no sshd to ask.
    SSHD_MISSING: "sshd-missing", "sshd", Warning, "apt install openssh-server   # or remove login.toml if nobody logs in here by ssh";
    /// login.toml lets tokens open root, and sshd refuses them.
    SSHD_ROOT: "sshd-permit-root-login", "sshd", Warning, "";
    /// `UsePAM no`.
    SSHD_USE_PAM: "sshd-use-pam", "sshd", Error, "";
    /// `KbdInteractiveAuthentication no`, or before OpenSSH 8.7 `ChallengeResponseAuthentication no`.
    SSHD_KEYBOARD_INTERACTIVE: "sshd-keyboard-interactive", "sshd", Error, "";
    /// `AuthenticationMethods` has no list with keyboard-interactive by PAM, in general or for the account that was asked for.
    SSHD_METHODS: "sshd-authentication-methods", "sshd", Error, "";
    /// `PasswordAuthentication yes`.
    SSHD_PASSWORD: "sshd-password", "sshd", Warning, "";
    /// `LoginGraceTime` ends before the deadline of login.toml, and before a person has pasted a token.
    SSHD_GRACE_TIME: "sshd-login-grace-time", "sshd", Error, "";
    /// `LoginGraceTime` ends before `time` of `[link]`, one request and the deadline: a login with a link is cut off while its person confirms.
    SSHD_LINK_TIME: "sshd-link-time", "sshd", Warning, "";
    /// Our own settings let no token log in as the account of `--as`.
    ACCOUNT_CLOSED: "account-closed", "sshd", Warning, "grep -RnsE --include='*.toml' 'deny|min_uid|allow_system|map_file' /etc/mytoken";
    /// `MaxStartups` begins to drop connections below 30, as sshd does unless it is set.
    SSHD_MAX_STARTUPS: "sshd-max-startups", "sshd", Warning, "";
    /// A `Match` block changes what sshd does with tokens, for other addresses, hosts, ports or people.
    SSHD_MATCH: "sshd-match", "sshd", Warning, "";
    /// `AllowUsers` and similar lists, or a shell that does not exist or is not executable, keep out accounts that tokens open; all of them: an error.
    SSHD_SHUT_OUT: "sshd-accounts-shut-out", "sshd", Warning, "";
    /// The shell of an account that tokens open ends each shell session at once, like `nologin`; for accounts of the map files: a note.
    ACCOUNT_SHELL: "account-shell", "sshd", Warning, "";
    /// `AllowUsers` and similar lists are set. Which accounts the rules open is not known in advance.
    SSHD_LISTS: "sshd-access-lists", "sshd", Ok, "";
    /// The running sshd was started with options that count before its files.
    SSHD_OPTIONS: "sshd-options", "sshd", Warning, "";
    /// The running sshd has not read its files since they were changed.
    SSHD_NOT_RELOADED: "sshd-not-reloaded", "sshd", Warning, "sshd -t && systemctl reload ssh";
    /// `PerSourcePenalties` has a penalty of 5 s (as shipped) or more for refused logins, or for unknown account names (OpenSSH 10.3 and later).
    SSHD_PENALTIES: "sshd-penalties", "sshd", Ok, "";
    /// Others than root can change a file that sshd reads, or a directory above: who does that decides who logs in.
    SSHD_OPEN_FILE: "sshd-file-writable", "sshd", Error, "";
    /// A line can jump over more lines than follow.
    PAM_JUMP: "pam-jump", "PAM", Error, "";
    /// A line that libpam cannot read, or that names a file which does not exist.
    PAM_LINE: "pam-line", "PAM", Error, "";
    /// The module is not in the auth stack.
    PAM_AUTH: "pam-auth-missing", "PAM", Error, "pam-auth-update --enable mytoken mytoken-session";
    /// The module is not in the account stack.
    PAM_ACCOUNT: "pam-account-missing", "PAM", Error, "pam-auth-update --enable mytoken mytoken-session";
    /// The module is not in the session stack.
    PAM_SESSION: "pam-session-missing", "PAM", Warning, "pam-auth-update --enable mytoken mytoken-session";
    /// The stack names a file that does not exist.
    PAM_FILE: "pam-module-file", "PAM", Error, "apt install --reinstall ./libpam-mytoken_*.deb   # in the directory of the packages";
    /// Others than root can change a file of the stack, one of its modules, or a directory above: who does that logs in as anybody.
    PAM_OPEN_FILE: "pam-file-writable", "PAM", Error, "";
    /// libpam never comes to the module's line.
    PAM_NOT_REACHED: "pam-line-not-reached", "PAM", Error, "";
    /// A refused token logs in.
    PAM_OPEN: "pam-refused-token-logs-in", "PAM", Error, "cat /usr/share/mytoken/pam-sshd.example   # compare with /etc/pam.d/sshd";
    /// A login without a valid token succeeds, for example when no server answers, or for an account that is not for tokens.
    PAM_WITHOUT_TOKEN: "pam-login-without-token", "PAM", Error, "cat /usr/share/mytoken/pam-sshd.example   # compare with /etc/pam.d/sshd";
    /// After a refused token the next line asks.
    PAM_FALLS_THROUGH: "pam-refused-token-falls-through", "PAM", Warning, "cat /usr/share/mytoken/pam-sshd.example   # compare with /etc/pam.d/sshd";
    /// An accepted token does not log in.
    PAM_CLOSED: "pam-accepted-token-refused", "PAM", Error, "cat /usr/share/mytoken/pam-sshd.example   # compare with /etc/pam.d/sshd";
    /// A password is asked for before the token.
    PAM_PASSWORD_FIRST: "pam-password-first", "PAM", Warning, "cat /usr/share/mytoken/pam-sshd.example   # compare with /etc/pam.d/sshd";
    /// `services` does not name the service, so the module passes it over.
    PAM_SERVICE: "pam-service", "PAM", Error, "";
    /// The module reads another configuration than the one that is checked.
    PAM_CONFIG: "pam-configuration", "PAM", Warning, "";
    /// `/etc/nologin` or `/run/nologin` exists: nobody but root can log in.
    NOLOGIN: "nologin", "PAM", Error, "";
    /// A module of the account stack keeps out an account that tokens open: it has expired, or is not allowed; for all accounts of the map files: an error.
    PAM_SHUT_OUT: "pam-account-shut-out", "PAM", Warning, "";
    /// PAM asks for a new password before the login.
    PAM_PASSWORD_EXPIRED: "pam-password-expired", "PAM", Warning, "";
    /// A module of the account stack gave no answer about an account.
    PAM_ACCOUNT_UNKNOWN: "pam-account-unknown", "PAM", Warning, "";
    /// An argument that `pam_mytoken` does not have.
    PAM_ARGUMENT: "pam-argument", "PAM", Warning, "";
    /// The session line comes before `pam_systemd`.
    PAM_ORDER: "pam-session-order", "PAM", Warning, "";
    /// A line of `pam_env` reads a file of the user (`user_readenv`), which can hide or replace the session's token.
    PAM_USER_ENVIRONMENT: "pam-user-environment", "PAM", Warning, "";
    /// There is no `mytoken.toml`.
    CONFIGURATION_MISSING: "configuration-missing", "configuration", Error, "test -e /etc/mytoken/mytoken.toml || install -D -m 0644 /usr/share/mytoken/samples/mytoken.toml /etc/mytoken/mytoken.toml   # then write your URLs into it";
    /// sshd's stack has our module, and there is no `login.toml`.
    LOGIN_MISSING: "login-toml-missing", "configuration", Error, "test -e /etc/mytoken/login.toml || sed '/^[[][[]rule]]/,$ s/^[^#]/#&/' /usr/share/mytoken/samples/login.toml | install -D -m 0644 /dev/stdin /etc/mytoken/login.toml   # it has no rule and lets nobody in: write yours into it";
    /// Slurm loads our plugin, and there is no `jobs.toml`.
    JOBS_MISSING: "jobs-toml-missing", "configuration", Error, "test -e /etc/mytoken/jobs.toml || install -D -m 0644 /usr/share/mytoken/samples/jobs.toml /etc/mytoken/jobs.toml   # then write your profiles into it";
    /// A mistake in a configuration file.
    CONFIGURATION_INVALID: "configuration-invalid", "configuration", Error, "${EDITOR:-vi} /etc/mytoken/mytoken.toml";
    /// Others could have written a configuration file.
    CONFIGURATION_UNSAFE: "configuration-unsafe", "configuration", Error, "namei -l /etc/mytoken";
    /// Root cannot read a configuration file.
    CONFIGURATION_UNREADABLE: "configuration-unreadable", "configuration", Error, "namei -l /etc/mytoken";
    /// A file beside the drop-ins, or beside the further private keys, that is not read because of its name.
    DROP_IN_UNREAD: "drop-in-not-read", "configuration", Warning, "ls -l /etc/mytoken/mytoken.d /etc/mytoken/login.d /etc/mytoken/jobs.d";
    /// Users cannot read what their commands read.
    USERS_CANNOT_READ: "users-cannot-read", "configuration", Error, "namei -l /etc/mytoken";
    /// The reading of a user could not be tried.
    USERS_NOT_CHECKED: "users-not-checked", "configuration", Warning, "getent passwd nobody";
    /// Two `[[issuer]]` with one URL.
    ISSUER_TWICE: "issuer-url-twice", "configuration", Error, "grep -Rns -A2 --include='*.toml' '[[]issuer[]]' /etc/mytoken";
    /// Two `[[server]]` with one URL.
    SERVER_TWICE: "server-url-twice", "configuration", Warning, "grep -Rns -A2 --include='*.toml' '[[]server[]]' /etc/mytoken";
    /// `login.toml` has no rule.
    LOGIN_NO_RULE: "login-no-rule", "configuration", Error, "${EDITOR:-vi} /etc/mytoken/login.toml   # add a [[rule]]";
    /// Two `[[rule]]` with one name.
    RULE_TWICE: "rule-name-twice", "configuration", Warning, "grep -Rns -A1 --include='*.toml' '[[]rule[]]' /etc/mytoken";
    /// `jobs.toml` has no profile.
    JOBS_NO_PROFILE: "jobs-no-profile", "configuration", Error, "${EDITOR:-vi} /etc/mytoken/jobs.toml   # add a [[profile]]";
    /// `[accounts]` or `exempt` of `[account]` names an account that does not exist.
    ACCOUNT_SETTING: "accounts-unknown", "configuration", Warning, "getent passwd NAME";
    /// An exchange asks for tokens that no issuer's audiences accept.
    EXCHANGE_AUDIENCE: "exchange-audience", "audience", Error, "grep -Rns --include='*.toml' audience /etc/mytoken";
    /// The exchange asks for tokens that some issuers' audiences do not accept.
    EXCHANGE_AUDIENCE_PARTLY: "exchange-audience-issuer", "audience", Warning, "grep -Rns --include='*.toml' audience /etc/mytoken";
    /// An exchange asks for tokens without a scope that an issuer requires.
    EXCHANGE_SCOPE: "exchange-scope", "scope", Warning, "grep -Rns --include='*.toml' scope /etc/mytoken";
    /// A file of jobs has another audience than logins. Whether the provider gives both is in none of its documents.
    PROFILE_AUDIENCE: "profile-audience", "audience", Ok, "";
    /// A map file that is not used.
    MAP_UNUSABLE: "map-file-unusable", "map file", Error, "namei -l /etc/mytoken";
    /// A line of a map file that is not used.
    MAP_LINE: "map-file-line", "map file", Error, "${EDITOR:-vi} /etc/mytoken/users.map";
    /// Lines of a map file with an issuer that is not configured.
    MAP_ISSUER: "map-file-issuer", "map file", Warning, "grep -Rns -A2 --include='*.toml' '[[]issuer[]]' /etc/mytoken   # write such a name or url into the map file";
    /// Lines of a map file with an account that does not exist.
    MAP_ACCOUNT: "map-file-account", "map file", Warning, "getent passwd NAME";
    /// Lines of a map file with a system account that login.toml does not open.
    MAP_CLOSED: "map-file-account-closed", "map file", Warning, "grep -RnsE --include='*.toml' 'deny|min_uid|allow_system|map_file' /etc/mytoken";
    /// A map file without lines.
    MAP_EMPTY: "map-file-empty", "map file", Warning, "${EDITOR:-vi} /etc/mytoken/users.map";
    /// Not all accounts of a map file were looked up.
    MAP_LOOKUP: "map-file-lookup", "map file", Warning, "";
    /// The program of a rule's `command` is missing, can be changed by others than root, or cannot be executed as `run_as`.
    MAPPER_PROGRAM: "mapper-program", "mapper", Error, "namei -l PROGRAM";
    /// `run_as` of a rule's `command` is no account of this host, or has uid 0.
    MAPPER_USER: "mapper-run-as", "mapper", Error, "getent passwd NAME";
    /// motley_cue of a rule does not answer, or something else does.
    MOTLEY_CUE: "motley-cue", "mapper", Error, "";
    /// motley_cue does not trust the provider of a rule that asks it.
    MOTLEY_CUE_ISSUER: "motley-cue-issuer", "mapper", Warning, "";
    /// A rule asks motley_cue by plain http: whoever gets its port decides about accounts.
    MOTLEY_CUE_HTTP: "motley-cue-http", "mapper", Warning, "ss -ltnp; sysctl net.ipv4.ip_unprivileged_port_start";
    /// Logins without a token are refused, but for system accounts, and for `exempt` if that can be read: `key_logins` cannot be read, or the files of the last logins cannot.
    KEY_LOGINS: "key-logins-refused", "key logins", Error, "namei -l /var/lib/mytoken/logins";
    /// The look-up of an account or group failed, or needed more than 5 s. The accounts after it were not looked up.
    NSS: "nss-no-answer", "accounts", Warning, "";
    /// The cluster's public key is missing or cannot be used.
    PUBLIC_KEY: "public-key", "public key", Error, "";
    /// The cluster's private key cannot be used.
    PRIVATE_KEY: "private-key", "private key", Error, "namei -l /etc/mytoken/keys/cluster.key";
    /// The two keys are of different pairs.
    KEY_PAIR: "keys-differ", "private key", Error, "";
    /// Neither directory for the keys of issuers can be written.
    CACHE: "cache", "cache", Error, "namei -l /var/cache/mytoken /run/mytoken; df /var/cache /run";
    /// One of the two directories for the keys of issuers cannot be written.
    CACHE_PARTLY: "cache-one-directory", "cache", Warning, "namei -l /var/cache/mytoken /run/mytoken; df /var/cache /run";
    /// The trusted certificates cannot be read.
    CA_FILE: "ca-file", "network", Error, "apt install --reinstall ca-certificates && update-ca-certificates";
    /// The HTTP client cannot be made.
    HTTP_SETTINGS: "http-settings", "network", Error, "grep -Rns -A5 --include='*.toml' '^[[ ]*http' /etc/mytoken";
    /// The configured proxy gives no connection.
    PROXY: "proxy-unreachable", "network", Error, "grep -Rns --include='*.toml' proxy /etc/mytoken";
    /// A server's clock and this host's differ.
    CLOCK: "clock", "network", Warning, "timedatectl set-ntp true   # on both hosts";
    /// A mytoken server gives no usable answer at the moment.
    SERVER_UNAVAILABLE: "server-unavailable", "mytoken server", Error, "";
    /// A mytoken server's certificate is not accepted.
    SERVER_CERTIFICATE: "server-certificate", "mytoken server", Error, "";
    /// There is no mytoken server at this address.
    SERVER_ADDRESS: "server-address", "mytoken server", Error, "";
    /// A mytoken server has another URL than configured.
    SERVER_FOREIGN: "server-issuer", "mytoken server", Error, "";
    /// A mytoken server accepts no more requests for now.
    SERVER_BUSY: "server-busy", "mytoken server", Warning, "mytokenctl status --login   # who sends requests?";
    /// Refused logins alone can use up a mytoken server's request limit.
    SERVER_LIMIT: "server-request-limit", "mytoken server", Warning, "${EDITOR:-vi} /etc/mytoken/login.toml   # [budget] per_host";
    /// A job on all nodes can use up a mytoken server's request limit.
    SERVER_LIMIT_CLUSTER: "server-request-limit-cluster", "mytoken server", Warning, "";
    /// `request_limit` permits this host more than the mytoken server accepts.
    SERVER_LIMIT_SET: "server-request-limit-set", "mytoken server", Warning, "grep -rn request_limit /etc/mytoken   # remove it: the agent then learns the limit from the server's answers";
    /// A mytoken server knows none of the providers whose tokens log in.
    SERVER_PROVIDER: "server-provider", "mytoken server", Error, "";
    /// A mytoken server revokes no mytokens: those of ended jobs and refused logins stay valid until they expire. If only `mytoken-ssh logout` needs it: a warning.
    SERVER_REVOCATION: "server-revocation", "mytoken server", Error, "";
    /// A mytoken server gives no transfer codes, which logins accept and `mytoken-ssh` needs.
    SERVER_CODES: "server-transfer-codes", "mytoken server", Warning, "";
    /// A mytoken server tells nothing about mytokens: after a refused login `mytoken-ssh` warns of a mytoken that is already revoked.
    SERVER_TOKENINFO: "server-tokeninfo", "mytoken server", Warning, "";
    /// A mytoken server does not list what `mytoken-ssh login` needs to get a mytoken. An error if people log in here with its link.
    SERVER_LOGIN_FLOW: "server-login-flow", "mytoken server", Warning, "";
    /// A mytoken server does not list what submissions need to make sub-tokens.
    SERVER_SUB_TOKENS: "server-sub-tokens", "mytoken server", Error, "";
    /// A mytoken server does not enforce a restriction of the sub-tokens of jobs, so submissions get no credential. If only logins by `mytoken-ssh` need it: a warning.
    SERVER_RESTRICTION: "server-restriction", "mytoken server", Error, "";
    /// No provider of a mytoken server lists all scopes that a profile or `[[exchange]]` asks for.
    SERVER_SCOPE: "server-scope", "mytoken server", Warning, "";
    /// A provider gives no usable answer at the moment.
    ISSUER_UNAVAILABLE: "issuer-unavailable", "issuer", Error, "";
    /// A provider's certificate is not accepted.
    ISSUER_CERTIFICATE: "issuer-certificate", "issuer", Error, "";
    /// There is no provider at this address.
    ISSUER_ADDRESS: "issuer-address", "issuer", Error, "";
    /// A provider has another URL than configured.
    ISSUER_FOREIGN: "issuer-issuer", "issuer", Error, "";
    /// A provider's discovery document has endpoints at hosts that are neither its own nor in `endpoint_hosts`.
    ISSUER_ENDPOINT_HOST: "issuer-endpoint-host", "issuer", Error, "";
    /// A provider's keys cannot be fetched.
    ISSUER_KEYS: "issuer-keys", "issuer", Error, "";
    /// A provider cannot be asked about tokens as `validation` wants: an endpoint is missing, or it refuses this site's client.
    ISSUER_VALIDATION: "issuer-validation", "issuer", Error, "";
    /// No key of a provider is for an algorithm that is accepted.
    ISSUER_ALGORITHMS: "issuer-algorithms", "issuer", Error, "";
    /// A rule needs a claim that the provider does not list.
    ISSUER_CLAIM: "issuer-claim", "issuer", Warning, "";
    /// An issuer's `required_scopes` has a scope that the provider does not list, but nearly the same one. Others are told without a
    /// warning: such lists may be incomplete.
    ISSUER_SCOPE: "issuer-scope", "issuer", Warning, "";
    /// A provider's ID tokens would be taken for access tokens.
    ISSUER_ID_TOKENS: "issuer-id-tokens", "issuer", Warning, "${EDITOR:-vi} /etc/mytoken/mytoken.toml   # required_scopes = [\"openid\"]: ID tokens have no scopes; or accept_typ = [\"at+jwt\"]";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_different_and_every_problem_has_a_command_or_says_none() {
        let mut ids: Vec<&str> = ALL.iter().map(|kind| kind.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ALL.len());
        // The commands of servers and issuers have a URL in them.
        let made = |kind: &&Kind| ["issuer", "mytoken server"].contains(&kind.part);
        for kind in ALL.iter().filter(|kind| kind.fix.is_empty() && !made(kind)) {
            let of_line = [
                "pam-line",
                "pam-file-writable",
                "pam-line-not-reached",
                "pam-session-order",
                "pam-user-environment",
                "pam-argument",
                "pam-service",
                "pam-configuration",
                "pam-jump",
                "nologin",
                "pam-account-shut-out",
                "pam-password-expired",
                "pam-account-unknown",
                "public-key",
                "keys-differ",
                "map-file-lookup",
                "motley-cue",
                "motley-cue-issuer",
                "nss-no-answer",
            ];
            // These depend on its files and on what it knows.
            let of_sshd = [
                "sshd-permit-root-login",
                "sshd-use-pam",
                "sshd-keyboard-interactive",
                "sshd-authentication-methods",
                "sshd-password",
                "sshd-login-grace-time",
                "sshd-link-time",
                "sshd-max-startups",
                "sshd-match",
                "sshd-accounts-shut-out",
                "account-shell",
                "sshd-options",
                "sshd-penalties",
                "sshd-file-writable",
            ];
            let none = ["sshd-access-lists", "profile-audience"];
            assert!([&of_line[..], &of_sshd, &none].concat().contains(&kind.id), "{}", kind.id);
        }
    }
}
