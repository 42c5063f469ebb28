// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manual page of a program: what clap knows, with all commands in one page, and sections that are written by hand.

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::GeneratedFile;
use crate::programs::Program;
use crate::release::{SUITE, VERSION};

/// The page. Its description, and the sections after the commands, are in `manual/sections/NAME.man`.
pub fn page(program: &Program, date: &str) -> io::Result<GeneratedFile> {
    let name = program.name();
    let man = |command: Command| {
        Man::new(command)
            .title(name.to_uppercase())
            .section(program.section)
            .date(date)
            .source(format!("mytoken-suite {VERSION}"))
            .manual(SUITE)
    };
    let written = crate::read(Path::new("manual/sections").join(format!("{name}.man")))?;
    let (description, sections) = written.split_at(written.find("\n.SH ").map_or(written.len(), |at| at + 1));
    let commands: Vec<Command> = program.command.get_subcommands().flat_map(leaves).collect();
    let whole = man(program.command.clone());
    let mut text = String::from(".\\\" Made of the code; see packaging/manual. Do not edit.\n");
    text += &rendered(|out| whole.render_title(out))?;
    text += &section("NAME", &body(|out| whole.render_name_section(out))?);
    text += &section("SYNOPSIS", &synopsis(&program.command, &commands, man)?);
    text += &section("DESCRIPTION", description);
    text += &section("OPTIONS", &body(|out| whole.render_options_section(out))?);
    if !commands.is_empty() {
        text += &section("COMMANDS", &render_commands(&commands, man)?);
    }
    text += sections;
    let path = Path::new("man").join(format!("{name}.{}", program.section));
    Ok(GeneratedFile { path, text })
}

/// The commands of a command that is only a word in front of them, or itself.
fn leaves(command: &Command) -> Vec<Command> {
    let below: Vec<Command> = command.get_subcommands().filter(|one| one.get_name() != "help").cloned().collect();
    if below.is_empty() { vec![command.clone()] } else { below }
}

fn section(heading: &str, body: &str) -> String {
    format!(".SH {heading}\n{body}")
}

/// A line for each command, or for the program if it has none.
fn synopsis(program: &Command, commands: &[Command], man: impl Fn(Command) -> Man) -> io::Result<String> {
    let program = without_help(program);
    if commands.is_empty() {
        return Ok(with_values(&program, &body(|out| man(program.clone()).render_synopsis_section(out))?));
    }
    let line = |command: &Command| {
        let command = without_help(command);
        let text = body(|out| man(command.clone()).render_synopsis_section(out))?;
        Ok(with_values(&command, &text))
    };
    Ok(commands.iter().map(line).collect::<io::Result<Vec<String>>>()?.join(".br\n"))
}

/// A synopsis with the values of options, which `clap_mangen` leaves out, and without angle brackets around required ones.
fn with_values(command: &Command, synopsis: &str) -> String {
    let mut text = synopsis.trim_end().to_owned() + "\n";
    for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
        let (Some(option), Some([value, ..])) = (argument.get_long(), argument.get_value_names()) else { continue };
        let option = format!("\\fB\\-\\-{}\\fR", option.replace('-', "\\-"));
        let is_optional = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
        let shown = match (is_optional, argument.is_require_equals_set()) {
            (true, true) => format!("{option}[=\\fI{value}\\fR]"),
            (true, false) => format!("{option} [\\fI{value}\\fR]"),
            (false, _) => format!("{option} \\fI{value}\\fR"),
        };
        text = text.replace(&format!("<{option}>"), &shown).replace(&format!("[{option}]"), &format!("[{shown}]"));
    }
    // `clap_mangen` shows neither the two dashes in front of a command nor that it may have several words.
    for argument in command.get_arguments().filter(|argument| argument.is_last_set()) {
        let value = argument.get_value_names().into_iter().flatten().next().map_or("", |name| name.as_str());
        text = text.replace(&format!("<\\fI{value}\\fR>"), &format!("\\fB\\-\\-\\fR \\fI{value}\\fR ..."));
    }
    text
}

/// A subsection for each command. Options that an earlier command has too are not repeated.
fn render_commands(commands: &[Command], man: impl Fn(Command) -> Man) -> io::Result<String> {
    let mut text = String::new();
    let mut seen: Vec<(String, String)> = Vec::new();
    for command in commands {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).replace('-', "\\-");
        let options_only = without_help(command).mut_args(|arg| if arg.is_positional() { arg.hide(true) } else { arg });
        let others_only = without_help(command).mut_args(|arg| if arg.is_positional() { arg } else { arg.hide(true) });
        text += &format!(".SS {name}\n");
        text += &body(|out| man(options_only.clone()).render_description_section(out))?;
        text += &body(|out| man(others_only).render_options_section(out))?;
        let options = body(|out| man(options_only).render_options_section(out))?;
        match seen.iter().find(|(_, earlier)| !options.is_empty() && *earlier == options) {
            Some((earlier, _)) => text += &format!(".PP\nThe options are those of\n.BR \"{earlier}\" .\n"),
            None => text += &options,
        }
        seen.push((name, options));
    }
    Ok(text)
}

/// The command without `--help` and `--version`, which all have.
fn without_help(command: &Command) -> Command {
    let has_version = command.get_arguments().any(|argument| argument.get_id() == "version");
    let command = command.clone().mut_arg("help", |help| help.hide(true));
    if has_version { command.mut_arg("version", |version| version.hide(true)) } else { command }
}

fn rendered(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<String> {
    let mut out = Vec::new();
    render(&mut out)?;
    String::from_utf8(out).map_err(io::Error::other)
}

/// A rendered section without its heading, and without the definition of the apostrophe, which belongs once to the top of the page.
/// `clap_mangen` makes empty lines and double breaks in front of possible values, which mandoc warns of.
fn body(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<String> {
    let rendered = rendered(render)?;
    let is_kept =
        |line: &&str| !line.is_empty() && ![".ie ", ".el ", ".SH "].iter().any(|start| line.starts_with(start));
    let mut lines: Vec<&str> = rendered.lines().filter(is_kept).collect();
    lines.dedup_by(|line, before| line == before && *line == ".br");
    Ok(lines.into_iter().map(|line| format!("{line}\n")).collect())
}
