// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes lines in a thread of its own. A system log whose disk is busy accepts no lines for seconds, and standard error blocks without a
//! limit; whoever logs may hold a lock that all jobs need.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::{Level, Log, Sink};

/// Most lines that wait.
const MOST: usize = 1_024;

/// Stack of the thread in bytes.
const STACK: usize = 256 * 1024;

/// Longest wait for the last lines.
const PATIENCE: Duration = Duration::from_secs(2);

type Line = (Level, String);

/// The lines that wait for the thread.
#[derive(Default)]
pub(super) struct Waiting {
    /// `None` without a thread.
    sender: Mutex<Option<SyncSender<Line>>>,
    /// Lines for which there was no room.
    lost: Arc<AtomicU64>,
}

impl Waiting {
    /// Takes a line in. Returns it if there is no thread that writes it.
    pub(super) fn take_in(&self, level: Level, text: String) -> Option<String> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(to) = sender.as_ref() else { return Some(text) };
        match to.try_send((level, text)) {
            Ok(()) => None,
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(TrySendError::Disconnected((_, text))) => Some(text),
        }
    }
}

/// The thread of [`Log::write_in_background`].
pub struct LogWriter {
    thread: JoinHandle<()>,
}

impl Log {
    /// From now on a thread writes the lines, and nobody waits for the system log. While it accepts none, at most 1,024 lines wait; how many
    /// did not fit is told afterwards.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn write_in_background(&self) -> std::io::Result<LogWriter> {
        let (sender, lines) = sync_channel(MOST);
        let (sink, lost) = (Arc::clone(&self.sink), Arc::clone(&self.waiting.lost));
        let builder = Builder::new().name("log".to_owned()).stack_size(STACK);
        let thread = builder.spawn(move || write_all(&sink, &lines, &lost))?;
        *self.waiting.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Ok(LogWriter { thread })
    }

    /// Ends the thread when it has written the lines that wait, or after two seconds. Further lines are written at once.
    pub fn stop_writing(&self, writer: LogWriter) {
        drop(self.waiting.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let begin = Instant::now();
        while !writer.thread.is_finished() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        if writer.thread.is_finished() {
            let _ = writer.thread.join();
        }
    }
}

fn write_all(sink: &Sink, lines: &Receiver<Line>, lost: &AtomicU64) {
    while let Ok((level, text)) = lines.recv() {
        sink.write(level, &text);
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} lines were left out, because the system log did not accept lines in time");
            sink.write(Level::Warning, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc::channel;

    use super::*;

    /// Longer than every wait for a log in these tests.
    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn a_system_log_that_accepts_nothing_delays_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        let log = Arc::new(Log::open_at("mytokend", &path));
        let writer = log.write_in_background().unwrap();
        // The first of all waits while the socket is full, so the lock of the sink stands for a disk that hangs.
        let sink = Arc::clone(&log.sink);
        let hangs = sink.system.lock().unwrap();
        let (send, written) = channel();
        let own = Arc::clone(&log);
        std::thread::spawn(move || {
            (0..MOST + 500).for_each(|number| own.line(Level::Info, &format!("line {number}")));
            let _ = send.send(());
        });
        written.recv_timeout(TIMEOUT).expect("nobody waits");
        drop(hangs);
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let read = move || {
            let mut line = [0; 1024];
            let length = socket.recv(&mut line).unwrap();
            String::from_utf8_lossy(&line[..length]).into_owned()
        };
        let first = read();
        assert!(first.ends_with(": line 0"), "{first}");
        let told = read();
        let count = told.split_once("]: ").and_then(|(_, text)| text.split(' ').next()?.parse::<usize>().ok());
        let count =
            count.filter(|_| told.ends_with("because the system log did not accept lines in time")).unwrap_or(0);
        assert!((498..=500).contains(&count), "{told}");
        // The writer waits for a full socket only as long as any line may take; a line beyond that goes to standard error. So on a machine
        // that is busy some may be missing here, but none comes twice or in another order.
        let (send, half) = channel();
        let reader = std::thread::spawn(move || {
            let mut seen = vec![0];
            loop {
                let line = read();
                match line.rsplit_once(": line ").and_then(|(_, number)| number.parse::<usize>().ok()) {
                    Some(number) => {
                        seen.push(number);
                        if seen.len() == MOST / 2 {
                            send.send(()).unwrap();
                        }
                    }
                    None => return (seen, line),
                }
            }
        });
        half.recv_timeout(TIMEOUT).expect("half of the lines come, and now there is room for the last one");
        log.line(Level::Info, "the last one");
        log.stop_writing(writer);
        // At once, so that the reader ends even if that one went to standard error.
        log.line(Level::Info, "the end");
        let (seen, last) = reader.join().unwrap();
        assert!(last.ends_with(": the last one") || last.ends_with(": the end"), "{last}");
        assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
        assert!(seen.len() <= MOST + 500 - count, "{} and {count} of {}", seen.len(), MOST + 500);
    }
}
