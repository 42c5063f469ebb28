// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about `SELinux` and `AppArmor`.

use std::path::Path;

use mytoken::http::proxy_url;

use super::host::{Host, Ran};
use super::{Findings, kinds_slurm as kinds};

/// Programs that the product is part of or talks to.
const PROGRAMS: [&str; 7] = ["mytokend", "mytoken-submit", "slurmd", "slurmstepd", "sshd", "sshd-auth", "sshd-session"];

/// Ports of `http_port_t` in the policies of Red Hat, SUSE and Debian, to which the first boolean lets sshd connect.
const HTTP_PORTS: [u16; 6] = [80, 443, 488, 8008, 8009, 8443];

/// Ports of `http_cache_port_t` and `squid_port_t` there, for the second one.
const PROXY_PORTS: [u16; 6] = [3128, 3401, 4827, 8080, 8118, 8123];

/// The types of packaging/selinux/mytoken.cil for the last logins, and for the directory above.
const LAST_LOGINS: &str = "mytoken_runtime_t";
const ABOVE_LAST_LOGINS: &str = "mytoken_var_lib_t";

/// The boolean of packaging/selinux/mytoken.cil that lets logins connect to token servers, or to this proxy, and what to do beside it.
/// `proxy`: its URL; empty for none.
fn boolean(proxy: &str) -> (&'static str, String) {
    let (http, through_proxy) = ("mytoken_sshd_connect_http", "mytoken_sshd_connect_proxy");
    if proxy.is_empty() {
        return (http, String::new());
    }
    // A proxy that cannot be used is a finding of its own.
    match proxy_url(proxy).ok().and_then(|url| url.port_or_known_default()) {
        Some(port) if HTTP_PORTS.contains(&port) => (http, String::new()),
        Some(port) if !PROXY_PORTS.contains(&port) => {
            let also =
                format!("   # and, unless semanage port -l has it: semanage port -a -t squid_port_t -p tcp {port}");
            (through_proxy, also)
        }
        _ => (through_proxy, String::new()),
    }
}

impl Findings {
    /// Checks whether a security module confines the programs that the product needs. `login_proxy`: the proxy of logins; `None` where
    /// nobody logs in by token. `last_logins`: the directory of the last logins; `None` where no login needs it.
    pub(super) fn confinement(&mut self, host: &dyn Host, login_proxy: Option<&str>, last_logins: Option<&Path>) {
        match host.read(Path::new("/sys/fs/selinux/enforce")).as_deref().map(str::trim) {
            Some("1") => self.selinux(host, login_proxy, last_logins),
            Some(_) => self.ok("SELinux", "it does not enforce its policy (permissive)"),
            None => {}
        }
        let profiles = host.read(Path::new("/sys/kernel/security/apparmor/profiles")).unwrap_or_default();
        for profile in profiles.lines().filter_map(|line| line.strip_suffix(" (enforce)")) {
            if profile.split(['/', ' ']).any(|name| PROGRAMS.contains(&name)) {
                let text = format!("the profile \"{profile}\" is enforced: it may forbid what the product does");
                self.add_kind(kinds::APPARMOR_PROFILE, text);
            }
        }
    }

    fn selinux(&mut self, host: &dyn Host, login_proxy: Option<&str>, last_logins: Option<&Path>) {
        match host.run(Path::new("/usr/sbin/semodule"), &["-l"]) {
            Ran::Output(modules) if modules.lines().any(|line| line.split_whitespace().next() == Some("mytoken")) => {
                let boolean = login_proxy.is_some_and(|proxy| self.selinux_boolean(host, proxy));
                let label = last_logins.is_some_and(|directory| self.selinux_label(host, directory));
                if !boolean && !label {
                    self.ok("SELinux", "it enforces its policy, with the module mytoken");
                }
            }
            Ran::Output(_) => {
                self.add_kind(
                    kinds::SELINUX_MODULE,
                    "SELinux enforces its policy, and the module mytoken is not in it",
                );
            }
            Ran::Failed(reason) => {
                let text =
                    format!("SELinux enforces its policy; whether with the module mytoken is not known: {reason}");
                self.add_kind(kinds::SELINUX_MODULE, text);
            }
            Ran::Missing => {
                let text =
                    "SELinux enforces its policy; whether with the module mytoken is not known: there is no semodule";
                self.add_kind(kinds::SELINUX_MODULE, text);
            }
        }
    }
}

impl Findings {
    /// Checks whether the policy lets sshd connect. The requests of this program say nothing about it: root's shell is not confined.
    /// Returns whether it added a finding.
    fn selinux_boolean(&mut self, host: &dyn Host, proxy: &str) -> bool {
        let (name, also) = boolean(proxy);
        let to = if proxy.is_empty() { "the token servers" } else { "the proxy of mytoken.toml" };
        let unknown = |reason: &str| {
            format!("SELinux enforces its policy; whether it lets sshd connect to {to} is not known: {reason}")
        };
        let text = match host.run(Path::new("/usr/sbin/getsebool"), &[name]) {
            Ran::Output(state) if state.trim().ends_with(" on") => return false,
            Ran::Output(_) => {
                format!(
                    "SELinux does not let sshd connect to {to}, because {name} is off: logins that need a server fail"
                )
            }
            Ran::Failed(reason) => unknown(&reason),
            Ran::Missing => unknown("there is no getsebool"),
        };
        self.add_fixed(kinds::SELINUX_BOOLEAN, text, format!("setsebool -P {name} on{also}"));
        true
    }

    /// Checks whether the policy lets sshd use the directory of the last logins. This program can, whatever its label:
    /// root's shell is not confined. Returns whether it added a finding.
    fn selinux_label(&mut self, host: &dyn Host, last_logins: &Path) -> bool {
        let above = last_logins.parent().unwrap_or(last_logins);
        // The first login with a token makes it, with its label.
        let (path, wanted, effect) = if host.exists(last_logins) {
            (last_logins, LAST_LOGINS, "logins without a token are refused")
        } else {
            (above, ABOVE_LAST_LOGINS, "no login with a token is remembered for key_logins")
        };
        let shown = path.display();
        let unknown = |reason: &str| {
            format!(
                "SELinux enforces its policy; whether it lets sshd use {shown} for key_logins is not known: {reason}"
            )
        };
        let text = if host.exists(path) {
            match host.run(Path::new("/usr/bin/stat"), &["-L", "-c", "%C", &path.to_string_lossy()]) {
                // user:role:type, and the level after it
                Ran::Output(label) => match label.trim().split(':').nth(2) {
                    Some(found) if found == wanted => return false,
                    Some(found) => {
                        format!("SELinux does not let sshd use {shown}: its type is {found}, not {wanted}; {effect}")
                    }
                    None => unknown("it has no label"),
                },
                Ran::Failed(reason) => unknown(&reason),
                Ran::Missing => unknown("there is no stat"),
            }
        } else {
            format!("there is no {shown}, and SELinux does not let sshd make it: {effect}")
        };
        self.add_kind(kinds::SELINUX_LABEL, text);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kernel {
        enforce: Option<&'static str>,
        modules: Ran,
        profiles: Option<&'static str>,
        boolean: Ran,
        /// The files of the last logins.
        existing: &'static [&'static str],
        label: Ran,
    }

    impl Host for Kernel {
        fn read(&self, path: &Path) -> Option<String> {
            let text = if path.ends_with("enforce") { self.enforce } else { self.profiles };
            text.map(str::to_owned)
        }
        fn exists(&self, path: &Path) -> bool {
            self.existing.iter().any(|existing| path == Path::new(existing))
        }
        fn run(&self, program: &Path, arguments: &[&str]) -> Ran {
            if program.ends_with("stat") {
                assert_eq!(arguments[..3], ["-L", "-c", "%C"]);
                assert_eq!(arguments.get(3), self.existing.last());
                return self.label.clone();
            }
            if program.ends_with("getsebool") { self.boolean.clone() } else { self.modules.clone() }
        }
    }

    fn host(enforce: Option<&'static str>, modules: Ran, profiles: Option<&'static str>) -> Kernel {
        Kernel { enforce, modules, profiles, boolean: Ran::Missing, existing: &[], label: Ran::Missing }
    }

    fn found(enforce: Option<&'static str>, modules: &str, profiles: Option<&'static str>) -> Vec<String> {
        let mut findings = Findings::default();
        findings.confinement(&host(enforce, Ran::Output(modules.to_owned()), profiles), None, None);
        findings.problems().filter_map(|finding| finding.id.clone()).collect()
    }

    #[test]
    fn selinux_needs_the_module_only_while_it_enforces() {
        let none: [&str; 0] = [];
        assert_eq!(found(None, "", None), none);
        assert_eq!(found(Some("0"), "", None), none);
        assert_eq!(found(Some("1"), "munge\nmytoken\t1.0\n", None), none);
        assert_eq!(found(Some("1\n"), "munge\nmytokens\n", None), ["selinux-module"]);
        let mut findings = Findings::default();
        findings.confinement(&host(Some("1"), Ran::Missing, None), None, None);
        assert!(findings.findings[0].text.ends_with("there is no semodule"), "{findings:?}");
    }

    #[test]
    fn the_boolean_that_logins_need_must_be_on() {
        let proxy = "setsebool -P mytoken_sshd_connect_proxy on";
        let http = "setsebool -P mytoken_sshd_connect_http on";
        let odd = "setsebool -P mytoken_sshd_connect_proxy on   # and, unless semanage port -l has it: semanage port -a -t \
                   squid_port_t -p tcp 9999";
        let answer = |state: &str| Ran::Output(format!("mytoken_sshd_connect_x --> {state}\n"));
        let is_off = |state: Ran, of: Option<&'static str>| -> Option<String> {
            let mut findings = Findings::default();
            let modules = Ran::Output("mytoken\n".to_owned());
            let kernel = Kernel { boolean: state, ..host(Some("1"), modules, None) };
            findings.confinement(&kernel, of, None);
            assert_eq!(findings.findings.len(), 1, "{findings:?}");
            let finding = &findings.findings[0];
            (finding.id.as_deref() == Some("selinux-boolean")).then(|| finding.fix.clone().unwrap())
        };
        for (of, expected) in [
            (None, None),
            (Some(""), Some(http)),
            (Some("http://proxy:3128"), Some(proxy)),
            (Some("http://me:p@ss:80@proxy:3128/"), Some(proxy)),
            (Some("http://[2001:db8::80]:8080"), Some(proxy)),
            (Some("proxy:3128"), Some(proxy)),
            (Some("http://proxy:9999"), Some(odd)),
            // The servers' ports are those of the first boolean.
            (Some("http://proxy"), Some(http)),
            (Some("https://[2001:db8::3128]/"), Some(http)),
            (Some("http://proxy:8443"), Some(http)),
        ] {
            assert_eq!(is_off(answer("off"), of).as_deref(), expected, "{of:?}");
            assert_eq!(is_off(answer("on"), of), None, "{of:?}");
            // Silence would say that it works.
            for unknown in [Ran::Missing, Ran::Failed("no such boolean".to_owned())] {
                assert_eq!(is_off(unknown, of).as_deref(), expected, "{of:?}");
            }
        }
    }

    #[test]
    fn the_directory_of_the_last_logins_must_have_its_type() {
        let (logins, above) = ("/var/lib/mytoken/logins", "/var/lib/mytoken");
        let answer = |of: &str| Ran::Output(format!("system_u:object_r:{of}:s0\n"));
        let found = |modules: &str, existing: &'static [&'static str], label: Ran| {
            let kernel = Kernel { existing, label, ..host(Some("1"), Ran::Output(modules.to_owned()), None) };
            let mut findings = Findings::default();
            findings.confinement(&kernel, None, Some(Path::new(logins)));
            assert_eq!(findings.findings.len(), 1, "{findings:?}");
            let finding = findings.findings.remove(0);
            (finding.id.unwrap(), finding.text)
        };
        let is_wrong = |existing: &'static [&'static str], label: Ran, says: [&str; 2]| {
            let (id, text) = found("mytoken\n", existing, label);
            assert!(id == "selinux-label" && says.iter().all(|part| text.contains(part)), "{id} {text}");
        };
        let both: &[&str] = &["/var/lib/mytoken", "/var/lib/mytoken/logins"];
        let only_above: &[&str] = &["/var/lib/mytoken"];
        for (existing, label) in [(both, "mytoken_runtime_t"), (only_above, "mytoken_var_lib_t")] {
            assert_eq!(found("mytoken\n", existing, answer(label)).0, "selinux-ok");
        }
        let refused = "logins without a token are refused";
        is_wrong(both, answer("var_lib_t"), [logins, refused]);
        // sshd may only make the directory below it.
        is_wrong(both, answer("mytoken_var_lib_t"), ["its type is mytoken_var_lib_t, not mytoken_runtime_t", refused]);
        is_wrong(only_above, answer("var_lib_t"), [above, "no login with a token is remembered"]);
        is_wrong(only_above, answer("mytoken_runtime_t"), [above, "not mytoken_var_lib_t"]);
        is_wrong(&[], Ran::Missing, ["there is no /var/lib/mytoken,", "no login with a token is remembered"]);
        // Silence would say that it works.
        for unknown in [Ran::Missing, Ran::Failed("no such file".to_owned()), Ran::Output("?\n".to_owned())] {
            is_wrong(both, unknown, [logins, "is not known: "]);
        }
        // Another module may have other types.
        assert_eq!(found("munge\n", both, answer("var_lib_t")).0, "selinux-module");
    }

    #[test]
    fn booleans_and_types_are_those_of_the_module() {
        let module = include_str!("../../../../packaging/selinux/mytoken.cil");
        for (path, of) in
            [("/var/lib/mytoken/logins(/.*)?", LAST_LOGINS), ("/var/lib/mytoken(/.*)?", ABOVE_LAST_LOGINS)]
        {
            let line = format!("(filecon \"{path}\" any (system_u object_r {of} ");
            assert!(module.contains(&line), "{line}");
        }
        for proxy in ["", "http://proxy:3128"] {
            let (name, _) = boolean(proxy);
            assert!(module.contains(&format!("(boolean {name} ")), "{name}");
        }
    }

    #[test]
    fn only_enforced_profiles_of_the_programs_count() {
        let profiles =
            "/usr/sbin/sshd (complain)\nunprivileged_userns (enforce)\nlsb_release (enforce)\n/usr/bin/man (enforce)\n";
        assert_eq!(found(None, "", Some(profiles)), [""; 0]);
        assert_eq!(found(None, "", Some("/usr/sbin/sshd (enforce)\n")), ["apparmor-profile"]);
        assert_eq!(found(None, "", Some("sshd-session (enforce)\nslurmd (kill)\n")), ["apparmor-profile"]);
    }
}
