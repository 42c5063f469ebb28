// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes what brokers and nodes read of each other, and what a broker reads of slurmctld: users choose the name of the host that submits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mytokend::agent::budget::site::SitePermit;
use mytokend::broker::binding::{Asked, Binding, judge};
use mytokend::broker::cluster_jobs::ClusterJobs;
use mytokend::broker::escrow::KeptText;
use mytokend::broker::messages::{
    CertificateAnswer, EndAnswer, EndRequest, EnrolRequest, ForgetAnswer, ForgetRequest, JobsAnswer, JobsRequest,
    KeepAnswer, KeepRequest, KeptAnswer, KeptRequest, PermitRequest, Refusal, RenewRequest, ReplaceAnswer,
    ReplaceRequest, ReplacedAnswer, ReplacedRequest, StartAnswer, StartRequest, TokenAnswer, TokenRequest,
};
use mytokend::broker::replacements::Replacement;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was read is read again from what is written of it.
fn round<T: DeserializeOwned + Serialize>(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(data) {
        let written = serde_json::to_vec(&message).expect("a message has a JSON form");
        let again = serde_json::from_slice::<T>(&written).expect("it is of the same form");
        assert_eq!(serde_json::to_vec(&again).expect("a JSON form"), written);
    }
}

fuzz_target!(|data: &[u8]| {
    round::<TokenRequest>(data);
    round::<TokenAnswer>(data);
    round::<EndRequest>(data);
    round::<EndAnswer>(data);
    round::<EnrolRequest>(data);
    round::<RenewRequest>(data);
    round::<CertificateAnswer>(data);
    round::<Refusal>(data);
    round::<JobsRequest>(data);
    round::<JobsAnswer>(data);
    round::<StartRequest>(data);
    round::<StartAnswer>(data);
    round::<PermitRequest>(data);
    round::<SitePermit>(data);
    round::<KeepRequest>(data);
    round::<KeepAnswer>(data);
    round::<KeptRequest>(data);
    round::<KeptAnswer>(data);
    round::<ForgetRequest>(data);
    round::<ForgetAnswer>(data);
    // In a file that a broker has kept.
    round::<KeptText>(data);
    round::<ReplaceRequest>(data);
    round::<ReplaceAnswer>(data);
    round::<ReplacedRequest>(data);
    round::<ReplacedAnswer>(data);
    // In a file that a broker has kept.
    round::<Replacement>(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(jobs) = ClusterJobs::parse(text) else { return };
    for id in 0..64 {
        let Some(job) = jobs.job(id) else { continue };
        let asked = |uid| judge(Some(job), Asked { job: id, uid, node: "n1" }, &Binding::default());
        assert!(asked(job.uid ^ 1).is_err(), "another user's job");
        assert!(asked(job.uid).is_err() || job.is_on("n1"), "a job on another node");
        assert!(!job.is_on("n1") || job.had("n1"));
        assert!(!jobs.of_user(job.uid).is_empty());
    }
});
