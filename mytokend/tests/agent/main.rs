// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent over its socket, with an authority and a slurmctld that the test plays.

#[cfg(test)]
mod end;
#[cfg(test)]
#[path = "../../../tests/ordinary_user.rs"]
mod ordinary_user;
#[cfg(test)]
mod play;
#[cfg(test)]
mod renewal;
#[cfg(test)]
mod session;
#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod start;
