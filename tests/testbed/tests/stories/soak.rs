// SPDX-License-Identifier: MIT OR Apache-2.0
//! The soak in its short form. `make soak` runs the long one.

use testbed::soak::goals::{Table, missed};
use testbed::soak::plan::Plan;
use testbed::{Options, Result, soak, story_with_own_servers};

#[test]
fn jobs_of_a_minute_with_failing_servers_and_agents_meet_the_goals() -> Result<()> {
    let plan = Plan::short();
    story_with_own_servers(soak::options(&plan, Options::new()?), |site| {
        let figures = soak::run(site, &plan)?;
        println!("{}", Table(&figures));
        assert_eq!(missed(&figures), [""; 0], "\n{}", Table(&figures));
        Ok(())
    })
}

#[test]
fn refusals_and_killed_agents_alone_cost_no_job_its_token() -> Result<()> {
    let plan = Plan::refusals_and_kills();
    story_with_own_servers(soak::options(&plan, Options::new()?), |site| {
        let figures = soak::run(site, &plan)?;
        let table = Table(&figures).to_string();
        assert_eq!(missed(&figures), [""; 0], "\n{table}");
        assert_eq!(
            (figures.expired, figures.alive, figures.alive_unused, figures.alive_unknown),
            (0, 0, 0, 0),
            "\n{table}"
        );
        // The first token of a task may be late. No task loses one that it has.
        assert!(figures.longest_gap <= 0.0, "\n{table}");
        Ok(())
    })
}
