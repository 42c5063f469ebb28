// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to the person at the terminal, for prompts that are not ours to answer.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use zeroize::Zeroizing;

/// Longest answer: a passphrase. ssh takes 1023 bytes.
const LONGEST: usize = 1024;

/// An answer without its newline.
pub type Line = Zeroizing<Vec<u8>>;

/// Asks on the controlling terminal. `None`: there is none. `Some(None)`: the person did not answer.
///
/// `kind` is `SSH_ASKPASS_PROMPT`: `confirm`, `none`, or unset for a secret.
pub fn ask(prompt: &str, kind: Option<&str>) -> Option<Option<Line>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    terminal.write_all(shown(prompt).as_bytes()).ok()?;
    if kind == Some("none") {
        // A notice ("touch your key"): ssh ends us when it is over.
        terminal.write_all(b"\n").ok()?;
        return Some(Some(Line::default()));
    }
    let visible = kind == Some("confirm") || is_question(prompt);
    let hidden = if visible { None } else { Hidden::begin(&terminal) };
    let line = read_line(&mut terminal);
    if hidden.is_some() {
        drop(hidden);
        let _ = terminal.write_all(b"\n");
    }
    let line = line?;
    if kind == Some("confirm") && !matches!(line.as_slice(), b"y" | b"Y" | b"yes" | b"Yes") {
        return Some(None);
    }
    Some(Some(line))
}

/// The host key question, the only one of ssh whose answer may be seen.
fn is_question(prompt: &str) -> bool {
    prompt.trim_end().ends_with('?') || prompt.contains("(yes/no") || prompt.contains("'yes'")
}

/// ssh has escaped control characters of the server, but jump hosts and other programs ask as well.
fn shown(prompt: &str) -> String {
    prompt.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

fn read_line(terminal: &mut File) -> Option<Line> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut byte = Zeroizing::new([0_u8; 1]);
    loop {
        match terminal.read(byte.as_mut()) {
            Ok(1) if matches!(byte.first(), Some(b'\n' | b'\r')) => return Some(line),
            Ok(1) if line.len() < LONGEST => line.extend_from_slice(byte.as_ref()),
            Ok(1) => {}
            // End of file: nothing was answered.
            _ => return None,
        }
    }
}

/// Echo is off while this lives, and back on also when a signal ends us.
struct Hidden {
    before: Arc<Mutex<Option<(File, Termios)>>>,
}

impl Hidden {
    fn begin(terminal: &File) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let own = terminal.try_clone().ok()?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        let before = Arc::new(Mutex::new(Some((own, before))));
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]).ok()?;
        let restored = Arc::clone(&before);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                restore(&restored);
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        });
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet).ok()?;
        Some(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

fn restore(before: &Mutex<Option<(File, Termios)>>) {
    if let Some((terminal, before)) = before.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(&terminal, SetArg::TCSADRAIN, &before);
    }
}
