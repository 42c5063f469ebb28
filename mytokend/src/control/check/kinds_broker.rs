// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of findings about brokers and the enrolment of nodes. An id never changes its meaning: scripts compare it.

use super::Severity;
use super::kinds::{Kind, kinds};

kinds! {
    /// This host is a broker, and the files of the brokers' authority are missing or cannot be used.
    AUTHORITY: "broker-authority", "brokers", Error, "mytokenctl broker-ca   # on one broker; then copy both files to the other brokers, and broker-ca.pem to the nodes";
    /// The certificate of the brokers' authority ends within 90 days.
    AUTHORITY_ENDS: "broker-authority-ends", "brokers", Warning, "mytokenctl broker-ca --dir /root/new-authority   # then as in the chapter on brokers, \"A new authority\"";
    /// The private key of the brokers' authority is on a host that `broker.names` does not name.
    AUTHORITY_ELSEWHERE: "broker-authority-elsewhere", "brokers", Warning, "";
    /// This host is a broker, and does not have the cluster's private key.
    WITHOUT_KEY: "broker-without-key", "private key", Error, "";
    /// There are brokers, and this other host has the cluster's private key, too.
    KEY_ON_NODE: "cluster-key-on-node", "private key", Warning, "";
    /// The broker that runs on this host is of another version than this program.
    BROKER_VERSION: "broker-version", "brokers", Warning, "systemctl restart mytokend-broker";
    /// The broker on this host has not loaded the cluster's key to which submissions are sealed.
    BROKER_KEY: "broker-key", "brokers", Error, "systemctl reload mytokend-broker";
    /// The broker on this host has not loaded a private key that is on disk.
    BROKER_KEY_UNREAD: "broker-key-not-read", "brokers", Warning, "systemctl reload mytokend-broker";
    /// The broker on this host refused its last reload, and goes on as before.
    BROKER_RELOAD: "broker-reload-refused", "brokers", Warning, "mytokend broker --check && systemctl reload mytokend-broker   # the check says what is still wrong";
    /// The broker's service runs, and would not start at the next boot.
    BROKER_BOOT: "broker-not-enabled", "brokers", Warning, "systemctl enable mytokend-broker";
    /// A node cannot use the certificate of the brokers' authority.
    CA_FILE: "broker-ca-file", "brokers", Error, "";
    /// A node has no certificate for the brokers that is valid.
    NOT_ENROLLED: "node-not-enrolled", "brokers", Error, "mytokenctl node enrol";
    /// A broker does not know this node, another one does, and the agent cannot enrol by MUNGE.
    UNKNOWN_NODE: "node-unknown-at-broker", "brokers", Warning, "mytokenctl node enrol --code   # with a code of: mytokenctl node code, on that broker";
    /// A node's certificate ends within 30 days, and was not renewed.
    CERTIFICATE_ENDS: "node-certificate-ends", "brokers", Warning, "mytokenctl node enrol";
    /// The name of a broker cannot be looked up.
    NAME: "broker-name", "brokers", Error, "";
    /// A broker gives no answer, and another one does.
    UNREACHABLE: "broker-unreachable", "brokers", Warning, "";
    /// No broker gives an answer.
    ALL_UNREACHABLE: "brokers-unreachable", "brokers", Error, "";
    /// The cluster has more than 16 nodes and no broker.
    DIRECT_MODE: "direct-mode-nodes", "brokers", Warning, "${EDITOR:-vi} /etc/mytoken/jobs.toml   # [broker] names";
    /// Escrow is on, and this broker cannot keep credentials: its directory for them is missing or cannot be used, or the disk is full.
    ESCROW: "broker-escrow", "brokers", Error, "";
    /// Escrow is on, and the disk of this broker has little room for credentials.
    ESCROW_ROOM: "broker-escrow-room", "brokers", Warning, "";
    /// Escrow is on, and a host that submits has no certificate of the brokers' authority: its jobs carry their credentials.
    ESCROW_CA_FILE: "escrow-ca-file", "brokers", Warning, "";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::check::{kinds, kinds_slurm, kinds_user};

    #[test]
    fn ids_are_different_and_every_problem_has_a_command_or_says_none() {
        let others = kinds::ALL.iter().chain(kinds_slurm::ALL).chain(kinds_user::ALL);
        let others: Vec<&str> = others.map(|kind| kind.id).collect();
        let mut ids: Vec<&str> = ALL.iter().map(|kind| kind.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == ALL.len() && !ids.iter().any(|id| others.contains(id)));
        // Their command has a path or a name in it.
        let computed = ["broker-authority-elsewhere", "broker-without-key", "cluster-key-on-node", "broker-ca-file"];
        let of_name = ["broker-name", "broker-unreachable", "brokers-unreachable"];
        let of_escrow = ["broker-escrow", "broker-escrow-room", "escrow-ca-file"];
        for kind in ALL.iter().filter(|kind| kind.fix.is_empty()) {
            assert!(computed.iter().chain(&of_name).chain(&of_escrow).any(|id| *id == kind.id), "{}", kind.id);
        }
    }
}
