// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parameters of a soak.

use clap::Args;

/// The parameters of a soak. Times are in seconds. The defaults are those of `make soak`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Plan {
    /// Time in which jobs are submitted
    #[arg(long, default_value_t = 900)]
    pub seconds: u32,
    /// Number of nodes
    #[arg(long = "cluster", value_name = "NODES", default_value_t = 8, value_parser = clap::value_parser!(u8).range(2..=64))]
    pub nodes: u8,
    /// Submissions whose tasks run for 5 to 20 s
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    pub short_jobs: u32,
    /// Submissions that run until the end
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub long_jobs: u32,
    /// Lifetime of an access token
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub lifetime: u32,
    /// Percentage of requests to the mytoken server that it refuses: half with 429, half with 500
    #[arg(long, value_name = "PERCENT", default_value_t = 6.6)]
    pub refusals: f64,
    /// Percentage of requests to the mytoken server that it answers after 45 s
    #[arg(long, value_name = "PERCENT", default_value_t = 3.4)]
    pub hangs: f64,
    /// Length of the one outage of the mytoken server; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub outage: u32,
    /// Time between two killed agents; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub kill_every: u32,
    /// The clocks of two agents are set by this number of seconds after two thirds of the time; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = -3600, allow_negative_numbers = true)]
    pub clock_jump: i64,
    /// How long the agents have for the end of all jobs after the last one
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub settle: u32,
    /// The same seed makes the same jobs and kills
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Plan {
    /// The form of `make test`: a minute, and no jump of the clock.
    #[must_use]
    pub fn short() -> Self {
        Self {
            seconds: 60,
            nodes: 8,
            short_jobs: 24,
            long_jobs: 4,
            lifetime: 20,
            refusals: 6.6,
            hangs: 3.4,
            outage: 12,
            kill_every: 10,
            clock_jump: 0,
            settle: 45,
            seed: 1,
        }
    }

    /// Half a minute of refusals and killed agents alone: nothing hangs, and the server is never away.
    #[must_use]
    pub fn refusals_and_kills() -> Self {
        Self { seconds: 30, short_jobs: 12, outage: 0, hangs: 0.0, kill_every: 5, ..Self::short() }
    }

    /// Begin and end of the outage, in seconds after the begin of the soak.
    #[must_use]
    pub fn outage_window(&self) -> Option<(u32, u32)> {
        let begin = self.seconds / 3;
        (self.outage > 0).then_some((begin, begin.saturating_add(self.outage)))
    }
}
