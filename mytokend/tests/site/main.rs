// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs as they are installed, against the test server: from a submission to the end of its job.

#[cfg(test)]
mod budget;
#[cfg(test)]
mod followed;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod job;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod profiles;
#[cfg(test)]
#[path = "../../../tests/programs.rs"]
mod programs;
#[cfg(test)]
mod submission;
#[cfg(test)]
mod submission_late;
#[cfg(test)]
mod submission_loop;
