// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs that have a generated manual page.

use clap::{Command, CommandFactory};
use mytokend::agent::arguments::DaemonArguments;
use mytokend::control::arguments::ControlArguments;
use mytokend::submit::arguments::SubmitArguments;

/// A program with its command line.
#[derive(Debug, Clone)]
pub struct Program {
    /// The command line, built.
    pub command: Command,
    /// Section of the manual.
    pub section: &'static str,
    /// Whether people type it, so that completions help. The Slurm plugin alone starts mytoken-submit.
    pub is_typed: bool,
}

impl Program {
    fn new(mut command: Command, section: &'static str, is_typed: bool) -> Self {
        command = command.disable_help_subcommand(true);
        command.build();
        Self { command, section, is_typed }
    }

    /// Name of the program.
    pub fn name(&self) -> &str {
        self.command.get_name()
    }
}

/// All of them.
pub fn all() -> [Program; 4] {
    [
        Program::new(ssh_helper::command_line::documented(), "1", true),
        Program::new(ControlArguments::command(), "1", true),
        Program::new(SubmitArguments::command(), "1", false),
        Program::new(DaemonArguments::command(), "8", true),
    ]
}
