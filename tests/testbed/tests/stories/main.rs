// SPDX-License-Identifier: MIT OR Apache-2.0
//! All stories, and the tests of packages, archives and images: one program, so that some run while others wait. cargo runs one test
//! program after the other.
//!
//! Programs of their own are `documents`, `make` and `dist`, which need no site; and `host`, which compares the state of the host before
//! and after a site, and needs the host for itself.
//!
//! Each module is a subject, which is chosen by its name: `cargo test -p testbed --test stories -- login::`. This chooses all names that
//! contain these letters: `installation::` also chooses `rpm::installation::`.
//!
//! libtest begins the tests in the order of their full names. A long story that begins late runs alone at the end, so the modules with
//! the longest ones have names that come early, such as `administrator_guide`. After `shapes` and `soak`, which also take minutes, there
//! are enough short ones.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests may end when nobody reads what it prints"
)]

mod administrator_guide;
mod ansible;
mod arm64;
mod bad_tokens;
mod boot;
mod broker;
mod check;
mod check_account;
mod check_brokers;
mod check_configuration;
mod check_host;
mod check_kinds;
mod check_nodes;
mod check_pam;
mod check_plugstack;
mod check_screen;
mod check_slurm;
mod check_sshd;
mod check_user;
mod check_validation;
mod clients;
mod earlier_build;
mod enrolment;
mod facts;
mod fail2ban;
mod failure_matrix;
mod failures;
mod fairness;
mod installation;
mod jobs;
mod leaks;
mod link_login;
mod login;
mod login_configuration;
mod login_harm;
mod loops;
mod mappers;
mod node_without_key;
mod oidc_provider;
mod packages;
mod pam;
mod penalties;
mod portable;
mod quick_start;
mod replace;
mod rpm;
mod shapes;
mod site;
mod slurm_plugin;
mod soak;
mod ssh_clients;
mod ssh_matrix;
mod steps;
mod submission;
mod watchdog;

// What several of them use.
mod browser_login;
mod build_paths;
mod built_packages;
mod checked;
mod old_glibc;
mod written;
