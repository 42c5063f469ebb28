// SPDX-License-Identifier: MIT OR Apache-2.0
//! A terminal picture of a login and a job, made from a real run, as SVG for README.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anstyle_svg::Term;

use crate::drive::people::{self, Session};
use crate::error::WithContext;
use crate::{Options, Result, Site};

/// Bold, for what the person types.
const TYPED: &str = "\u{1b}[1m";
/// Dimmed, for prompts.
const PROMPT: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// What alice types in her session after the login.
const COMMANDS: [&str; 5] =
    ["ls -l $BEARER_TOKEN_FILE", "mytokenctl status", "sbatch --mytoken job.sh", "cat job.out", "logout"];

/// Width of the terminal. README's page shows about so many columns at their full size.
const COLUMNS: usize = 100;

/// How long a command may take, and the job.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the picture and writes it to `file`.
///
/// # Errors
/// When the site cannot be made or a command fails.
pub fn draw(options: Options, file: &Path) -> Result<()> {
    let site = Site::start(options)?;
    people::first_mytoken(&site, "alice")?;
    let job = format!(
        "#!/bin/bash\n#SBATCH --output=job.out --nodelist=n2\n\
         echo \"node $SLURMD_NODENAME: $BEARER_TOKEN_FILE is accepted with HTTP $({})\"\n",
        people::call("-s -o /dev/null -w %{http_code}")
    );
    site.script("alice", "cat >job.sh").stdin(job).run()?.ok()?;
    let mut screen = String::new();
    line(&mut screen, "alice@laptop", "mytoken-ssh ssh --delegate testbed");
    let mut session = Session::open(&site, "alice", "mytoken-ssh ssh --delegate testbed bash -s")?;
    for command in COMMANDS {
        line(&mut screen, "alice@testbed", command);
        // What a person waits for without typing.
        match command {
            "cat job.out" => session.run("until [ -s job.out ]; do sleep 0.2; done", LIMIT)?.ok()?,
            "logout" => break,
            _ => session.run("sleep 1", LIMIT)?.ok()?,
        };
        for shown in session.run(command, LIMIT)?.ok()?.stdout.trim_end().lines().flat_map(rows) {
            screen.push_str(&shown);
            screen.push('\n');
        }
    }
    session.close()?;
    let picture = Term::new().min_width_px(760).render_svg(&screen);
    fs::write(file, picture).with_context(|| format!("writing {}", file.display()))
}

/// The rows of a line, as a terminal breaks it.
fn rows(line: &str) -> Vec<String> {
    if line.is_empty() {
        return vec![String::new()];
    }
    let characters: Vec<char> = line.chars().collect();
    characters.chunks(COLUMNS).map(|row| row.iter().collect()).collect()
}

fn line(screen: &mut String, place: &str, command: &str) {
    screen.push_str(&format!("{PROMPT}{place}:~$ {PLAIN}{TYPED}{command}{PLAIN}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_takes_more_rows() {
        assert_eq!(rows("short"), ["short"]);
        assert_eq!(rows(""), [""]);
        assert_eq!(rows(&"é".repeat(COLUMNS + 1)), ["é".repeat(COLUMNS), "é".to_owned()]);
    }
}
