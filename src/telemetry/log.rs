//! The access log: one JSON line per call, written beside the data path. Text logs for people go through `tracing`.
//!
//! Lines are gathered in memory and written by a thread of its own, many in one write. When the destination cannot keep up the
//! lines are dropped and counted: the log never slows a call.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines held back at most, in bytes.
const LIMIT: usize = 8 * 1024 * 1024;
/// A line waits at most this long.
const INTERVAL: Duration = Duration::from_millis(100);
/// The writer is woken early above this.
const BATCH: usize = 64 * 1024;

/// Where the lines of the access log go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessWriter(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    closing: bool,
    writing: bool,
}

/// The line was dropped: the destination is too slow, or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped;

// === impl AccessWriter ===

impl AccessWriter {
    pub fn off() -> Self {
        AccessWriter(None)
    }

    pub fn stdout() -> io::Result<Self> {
        Self::to(io::stdout())
    }

    pub fn stderr() -> io::Result<Self> {
        Self::to(io::stderr())
    }

    /// Append to a file, made readable by its owner and group only.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file: File = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        Self::to(file)
    }

    fn to(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&mut out))?;
        Ok(AccessWriter(Some(shared)))
    }

    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// Add a line (with its line end).
    pub fn line(&self, line: &[u8]) -> Result<(), Dropped> {
        let Some(shared) = &self.0 else { return Ok(()) };
        let mut state = shared.lock();
        if state.pending.len() + line.len() > LIMIT {
            return Err(Dropped);
        }
        let before = state.pending.len();
        state.pending.extend_from_slice(line);
        if before < BATCH && state.pending.len() >= BATCH {
            shared.wake.notify_one();
        }
        Ok(())
    }

    /// Wait until everything so far is written, two seconds at most: before the process ends.
    pub fn flush(&self) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.lock();
        state.closing = true;
        shared.wake.notify_all();
        for _ in 0..20 {
            if state.pending.is_empty() && !state.writing {
                return;
            }
            state = match shared.wake.wait_timeout(state, Duration::from_millis(100)) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl Shared {
    /// A panic elsewhere cannot leave half a line: the state is only ever appended to.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, out: &mut dyn Write) {
        let mut batch = Vec::with_capacity(BATCH * 2);
        loop {
            {
                let state = self.lock();
                let waited = self.wake.wait_timeout_while(state, INTERVAL, |s| s.pending.len() < BATCH && !s.closing);
                let mut state = match waited {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                };
                std::mem::swap(&mut state.pending, &mut batch);
                state.writing = !batch.is_empty();
            }
            if !batch.is_empty() {
                if let Err(error) = out.write_all(&batch).and_then(|()| out.flush()) {
                    tracing::warn!("the access log could not be written: {error}");
                }
                batch.clear();
            }
            let mut state = self.lock();
            state.writing = false;
            self.wake.notify_all();
            if state.closing && state.pending.is_empty() {
                state.closing = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_in_order_after_a_flush() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = AccessWriter::file(&path).unwrap();
        for n in 0..10_000 {
            log.line(format!("{{\"n\":{n}}}\n").as_bytes()).unwrap();
        }
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().map(String::from).eq((0..10_000).map(|n| format!("{{\"n\":{n}}}"))));
    }
}
