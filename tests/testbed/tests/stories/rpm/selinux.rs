// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `SELinux` module, linked with Debian's reference policy. That policy has `sshd_t`, but not `sshd_session_t` and
//! `unconfined_service_t`: a second module that declares them stands for the policies that have them.

use testbed::Result;

use super::host::Host;

const POLICY: &str = "policy=$(ls /etc/selinux/default/policy/policy.*); ";

/// Types of the policies of Red Hat Enterprise Linux 10 that Debian's does not have.
const NEWER_POLICY: &str = "\
(type sshd_session_t)
(roletype system_r sshd_session_t)
(typeattributeset domain (sshd_session_t))
(type unconfined_service_t)
(roletype system_r unconfined_service_t)
(typeattributeset domain (unconfined_service_t))
";

/// The rules of the policy from one type to another, for a class of objects, that stand in our module.
fn rules(host: &Host, from: &str, to: &str, class: &str) -> Result<String> {
    let search =
        format!("{POLICY} sesearch --allow --source {from} --target {to} --class {class} $policy | grep mytoken_ || :");
    host.output(&search)
}

/// In /var/lib/mytoken sshd makes and uses the directory of the last logins. The keys of nodes are beside it.
fn the_last_logins_alone_are_open_to_sshd(host: &Host) -> Result<()> {
    let of = |path: &str| host.output(&format!("matchpathcon -n {path}"));
    for path in ["/var/lib/mytoken/logins", "/var/lib/mytoken/logins/2001"] {
        assert_eq!(of(path)?, "system_u:object_r:mytoken_runtime_t:s0\n", "{path}");
    }
    let others = ["", "/node.key", "/nodes/n1.json", "/escrow/1", "/logins-other"];
    for path in others.map(|name| format!("/var/lib/mytoken{name}")) {
        assert_eq!(of(&path)?, "system_u:object_r:mytoken_var_lib_t:s0\n", "{path}");
    }
    assert!(!of("/var/lib/mytoken-other")?.contains("mytoken_"));
    assert_eq!(host.output("stat -c '%a %U' /var/lib/mytoken; ls -A /var/lib/mytoken")?, "755 root\n");
    let made = format!("{POLICY} sesearch --type_trans --source sshd_t --target mytoken_var_lib_t $policy");
    assert_eq!(host.output(&made)?, "type_transition sshd_t mytoken_var_lib_t:dir mytoken_runtime_t logins;\n");
    for path in ["var_t", "var_lib_t"] {
        let rule = format!("allow mytoken_login_domain {path}:dir {{ getattr open read search }};\n");
        assert_eq!(rules(host, "sshd_t", path, "dir")?, rule);
    }
    let directory = "allow mytoken_login_domain mytoken_var_lib_t:dir { add_name getattr open read search write };\n";
    assert_eq!(rules(host, "sshd_t", "mytoken_var_lib_t", "dir")?, directory);
    for class in ["file", "lnk_file", "sock_file"] {
        let all =
            format!("{POLICY} sesearch --allow --source sshd_t --target mytoken_var_lib_t --class {class} $policy");
        assert_eq!(host.output(&all)?, "", "{class}");
    }
    Ok(())
}

#[test]
fn the_module_allows_what_the_product_does_and_goes_with_its_package() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output("rpm --install --nodeps /packages/mytoken-selinux-*.rpm")?;
    let listed = host.output("semodule --list=full | grep mytoken")?;
    assert!(listed.split_whitespace().eq(["200", "mytoken", "cil"]), "{listed}");

    let connect = |port: &str| rules(&host, "sshd_t", port, "tcp_socket");
    let allowed = |port: &str, boolean: &str| {
        format!("allow mytoken_login_domain {port}:tcp_socket name_connect; [ {boolean} ]:True\n")
    };
    assert_eq!(connect("http_port_t")?, allowed("http_port_t", "mytoken_sshd_connect_http"));
    for port in ["http_cache_port_t", "squid_port_t"] {
        assert_eq!(connect(port)?, allowed(port, "mytoken_sshd_connect_proxy"));
    }
    let booleans = host.output(&format!("{POLICY} seinfo --bool -x $policy | grep mytoken"))?;
    let states: Vec<&str> = booleans.lines().map(str::trim).collect();
    assert_eq!(states, ["bool mytoken_sshd_connect_http true;", "bool mytoken_sshd_connect_proxy false;"]);

    for path in ["/run/mytoken", "/run/mytoken/agent.sock", "/var/run/mytoken/sessions/1000/1"] {
        let label = host.output(&format!("matchpathcon -n {path}"))?;
        assert_eq!(label, "system_u:object_r:mytoken_runtime_t:s0\n", "{path}");
    }
    assert!(!host.output("matchpathcon -n /run/mytoken-other")?.contains("mytoken_runtime_t"));
    the_last_logins_alone_are_open_to_sshd(&host)?;
    // The module writes; confined users read and ask the agent, and write nothing.
    assert!(rules(&host, "sshd_t", "mytoken_runtime_t", "file")?.contains(" unlink write"));
    let users = rules(&host, "user_t", "mytoken_runtime_t", "file")?;
    assert!(users.contains(" read") && !users.contains("write"), "{users}");
    assert!(rules(&host, "user_t", "mytoken_runtime_t", "sock_file")?.contains("write"));
    // systemd makes the directory with its label.
    let systemd = format!(
        "{POLICY} sesearch --allow --source systemd_tmpfiles_t --target mytoken_runtime_t --class dir --perms create,relabelto $policy"
    );
    assert!(host.output(&systemd)?.contains("relabelto"), "systemd-tmpfiles cannot make /run/mytoken");

    host.output("rpm --erase --nodeps mytoken-selinux")?;
    assert_eq!(host.output("semodule --list=full | grep mytoken || :")?, "");
    assert_eq!(host.output("find /usr /etc /var -xdev -name '*mytoken*'")?, "", "files of the package are left");
    Ok(())
}

#[test]
fn optional_blocks_take_effect_where_the_policy_has_their_types() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output(&format!("cat >/root/newer_policy.cil <<'END'\n{NEWER_POLICY}END\n"))?;
    host.output("rpm --install --nodeps /packages/mytoken-selinux-*.rpm")?;
    host.output("semodule --noreload --store default --install /root/newer_policy.cil")?;
    let connect = rules(&host, "sshd_session_t", "http_port_t", "tcp_socket")?;
    assert!(connect.contains("name_connect; [ mytoken_sshd_connect_http ]:True"), "{connect}");
    let agent = rules(&host, "sshd_session_t", "unconfined_service_t", "unix_stream_socket")?;
    assert_eq!(agent, "allow mytoken_login_domain unconfined_service_t:unix_stream_socket connectto;\n");
    Ok(())
}

/// A kernel with `SELinux`, and a program that writes down what is labelled. No kernel of the tests has `SELinux`.
const ENABLED: &str = "cd /usr/sbin && rm -f selinuxenabled load_policy restorecon && \
                       printf '#!/bin/sh\\n' >selinuxenabled && cp selinuxenabled load_policy && \
                       printf '#!/bin/sh\\necho \"$@\" >>/root/labelled\\n' >restorecon && \
                       chmod 755 selinuxenabled load_policy restorecon && mkdir -p /run/mytoken";

#[test]
fn directories_are_labelled_when_the_module_comes_and_goes() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output(ENABLED)?;
    let labelled = || host.output("cat /root/labelled && rm /root/labelled");
    host.output("rpm --install --nodeps /packages/mytoken-selinux-*.rpm")?;
    // The second one is the package's: sshd may not make it.
    assert_eq!(labelled()?, "-R /run/mytoken\n-R /var/lib/mytoken\n");
    host.output("mkdir -m 0700 /var/lib/mytoken/logins && rpm --erase --nodeps mytoken-selinux")?;
    assert_eq!(labelled()?, "-R /run/mytoken\n-R /var/lib/mytoken\n");
    host.output("rmdir /var/lib/mytoken/logins")?;
    Ok(())
}
