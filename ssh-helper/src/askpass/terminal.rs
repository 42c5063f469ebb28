// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks the user at the terminal, for prompts that do not ask for the token.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::{Handle, Signals};
use zeroize::Zeroizing;

use crate::printable::printable_lines;
use crate::signals::not_ignored;

/// Longest answer in bytes: a terminal gives no longer line. ssh itself takes 1023 bytes (SSH-15).
const MAX_ANSWER: usize = 4095;

/// An answer without its newline.
pub type Line = Zeroizing<Vec<u8>>;

/// What ssh expects of its askpass (`SSH_ASKPASS_PROMPT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    /// A line of text, usually a secret. The variable is not set.
    Text,
    /// `confirm`: yes or no.
    Confirm,
    /// `none`: a notice, for example "touch your key". ssh kills the askpass when the notice is out of date.
    Notice,
}

impl PromptKind {
    /// Reads `SSH_ASKPASS_PROMPT`.
    pub fn from_environment() -> Self {
        match std::env::var("SSH_ASKPASS_PROMPT").as_deref() {
            Ok("confirm") => Self::Confirm,
            Ok("none") => Self::Notice,
            _ => Self::Text,
        }
    }
}

/// The user's reply.
#[derive(Debug)]
pub enum TerminalReply {
    /// The user typed this.
    Line(Line),
    /// The user did not confirm.
    Declined,
    /// There is no terminal, or it gave no line.
    Unavailable,
}

/// Asks on the controlling terminal.
pub fn ask(prompt: &str, kind: PromptKind) -> TerminalReply {
    match (ask_line(prompt, kind), kind) {
        (None, _) => TerminalReply::Unavailable,
        (Some(line), PromptKind::Confirm) if !matches!(line.as_slice(), b"y" | b"Y" | b"yes" | b"Yes") => {
            TerminalReply::Declined
        }
        (Some(line), _) => TerminalReply::Line(line),
    }
}

fn ask_line(prompt: &str, kind: PromptKind) -> Option<Line> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    if kind == PromptKind::Notice {
        terminal.write_all(format!("{}\n", printable_lines(prompt)).as_bytes()).ok()?;
        return Some(Line::default());
    }
    // Echo goes off before the prompt appears, because the user may type at once.
    let echo_off = if is_host_key_question(prompt) { None } else { Some(EchoOff::start(&terminal)?) };
    terminal.write_all(printable_lines(prompt).as_bytes()).ok()?;
    let line = read_line(&mut terminal);
    if echo_off.is_some() {
        drop(echo_off);
        let _ = terminal.write_all(b"\n");
    }
    line
}

/// Whether ssh itself asks about a host key, in its own words (SSH-25). Only the answers to these questions are echoed.
///
/// A server cannot ask in these words, because ssh puts `(user@host) ` in front of its prompts. Any other question may
/// ask for a secret, also one that ends with a question mark.
fn is_host_key_question(prompt: &str) -> bool {
    const ENDS: [&str; 2] = ["(yes/no/[fingerprint])? ", "(yes/no)? "];
    const OTHERS: [&str; 3] = [
        "Please type 'yes' or 'no': ",
        "Please type 'yes', 'no' or the fingerprint: ",
        "Accept updated hostkeys? (yes/no): ",
    ];
    let new = prompt.starts_with("The authenticity of host '") && ENDS.iter().any(|end| prompt.ends_with(end));
    new || OTHERS.contains(&prompt)
}

/// Reads a line. `None`: end of file or an error.
fn read_line(terminal: &mut File) -> Option<Line> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
    let mut byte = Zeroizing::new([0_u8; 1]);
    loop {
        match terminal.read(byte.as_mut()) {
            Ok(1) if matches!(byte.first(), Some(b'\n' | b'\r')) => return Some(line),
            Ok(1) if line.len() < MAX_ANSWER => line.extend_from_slice(byte.as_ref()),
            Ok(1) => {}
            _ => return None,
        }
    }
}

/// Switches the terminal's echo off until it is dropped. Echo is also on while a signal stops this process, and after
/// one has ended it.
struct EchoOff {
    before: Arc<Mutex<Option<(File, Termios)>>>,
    signals: Handle,
    watcher: Option<JoinHandle<()>>,
}

impl EchoOff {
    fn start(terminal: &File) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let handle = terminal.try_clone().ok()?;
        let mut without_echo = before.clone();
        without_echo.local_flags.remove(LocalFlags::ECHO);
        let mut signals = Signals::new(not_ignored(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP])).ok()?;
        let before = Arc::new(Mutex::new(Some((handle, before))));
        let mut echo_off = Self { before: Arc::clone(&before), signals: signals.handle(), watcher: None };
        tcsetattr(terminal, SetArg::TCSAFLUSH, &without_echo).ok()?;
        let shared = before;
        echo_off.watcher = Some(std::thread::spawn(move || {
            for signal in signals.forever() {
                // The lock is held until echo is off again, so that this thread does not switch it off after `drop`.
                let mut before = shared.lock().unwrap_or_else(PoisonError::into_inner);
                restore(before.as_ref());
                if signal != SIGTSTP {
                    *before = None;
                }
                let _ = signal_hook::low_level::emulate_default_handler(signal);
                if let Some((terminal, _)) = &*before {
                    let _ = tcsetattr(terminal, SetArg::TCSADRAIN, &without_echo);
                }
            }
        }));
        Some(echo_off)
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // From now on a signal is the caller's: the thread would end the process in the middle of what it does with the answer.
        self.signals.close();
        let _ = self.watcher.take().map(JoinHandle::join);
        restore(self.before.lock().unwrap_or_else(PoisonError::into_inner).take().as_ref());
    }
}

fn restore(before: Option<&(File, Termios)>) {
    if let Some((terminal, before)) = before {
        let _ = tcsetattr(terminal, SetArg::TCSADRAIN, before);
    }
}
