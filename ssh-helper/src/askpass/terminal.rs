// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to the person at the terminal, for prompts that are not ours to answer.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use zeroize::Zeroizing;

use crate::signals::heeded;

/// Longest answer: a passphrase. ssh takes 1023 bytes.
const LONGEST: usize = 1024;

/// An answer without its newline.
pub type Line = Zeroizing<Vec<u8>>;

/// Asks on the controlling terminal. `None`: there is none that can be asked. `Some(None)`: the person did not answer.
///
/// `kind` is `SSH_ASKPASS_PROMPT`: `confirm`, `none`, or unset for a secret.
pub fn ask(prompt: &str, kind: Option<&str>) -> Option<Option<Line>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    if kind == Some("none") {
        // A notice ("touch your key"): ssh ends us when it is over.
        terminal.write_all(format!("{}\n", shown(prompt)).as_bytes()).ok()?;
        return Some(Some(Line::default()));
    }
    // Before the prompt: what is typed as soon as it appears must not be seen either.
    let hidden = if is_host_key_question(prompt) { None } else { Some(Hidden::begin(&terminal)?) };
    terminal.write_all(shown(prompt).as_bytes()).ok()?;
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

/// The only questions whose answer may be seen: those of ssh itself about host keys, in the words of OpenSSH 8.5 to 10.
///
/// ssh puts `(user@host) ` in front of what a server asks, so that no server can ask in these words; whatever else ends in a question
/// mark may ask for a secret.
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

/// Echo is off while this lives; back on also when a signal ends us, and while one stops us.
struct Hidden {
    before: Arc<Mutex<Option<(File, Termios)>>>,
}

impl Hidden {
    fn begin(terminal: &File) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let own = terminal.try_clone().ok()?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        let mut signals = Signals::new(heeded(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP])).ok()?;
        let hidden = Self { before: Arc::new(Mutex::new(Some((own, before)))) };
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet).ok()?;
        let shared = Arc::clone(&hidden.before);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                // Held meanwhile, so that the terminal is not hidden after the answer.
                let mut before = shared.lock().unwrap_or_else(PoisonError::into_inner);
                restore(before.as_ref());
                if signal != SIGTSTP {
                    *before = None;
                }
                let _ = signal_hook::low_level::emulate_default_handler(signal);
                if let Some((terminal, _)) = &*before {
                    let _ = tcsetattr(terminal, SetArg::TCSADRAIN, &quiet);
                }
            }
        });
        Some(hidden)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        restore(self.before.lock().unwrap_or_else(PoisonError::into_inner).take().as_ref());
    }
}

fn restore(before: Option<&(File, Termios)>) {
    if let Some((terminal, before)) = before {
        let _ = tcsetattr(terminal, SetArg::TCSADRAIN, before);
    }
}
