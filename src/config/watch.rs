//! The configuration that runs: one snapshot, swapped as a whole, reloaded by signal, by request, or when the file changes.
//!
//! Owns the swap and what is known about the last attempt. SIGHUP and HTTP are wired by others, who call `Live::reload`.
//! A reload is all or nothing: with any fault the old snapshot stays.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::diff::{Change, TakesEffect, diff};
use super::env::Environment;
use super::error::{ConfigError, Place};
use super::{Checked, Snapshot, load};

/// Writers save in several steps; this long after the last one the file is read.
const QUIET: Duration = Duration::from_millis(200);
/// A file that is written to all the time is read anyway after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events get lost (network file systems, a folder that was replaced): look at the bytes this often regardless.
const LOOK: Duration = Duration::from_secs(10);

/// Told of each attempt: the new snapshot, or why there is none.
pub type Hook = Box<dyn Fn(Result<&Snapshot, &[ConfigError]>) + Send + Sync>;

/// The running configuration.
pub struct Live {
    current: ArcSwap<Snapshot>,
    /// What the listeners and threads were set up from.
    started: Arc<Snapshot>,
    /// `None`: started from the environment; nothing can be reloaded.
    file: Option<PathBuf>,
    environment: Environment,
    hook: OnceLock<Hook>,
    /// Held for the whole of a reload, so that two never mix.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Of the file and the files it names, when they were last read.
    digest: Option<[u8; 32]>,
    files: Vec<PathBuf>,
    last: Option<Attempt>,
}

/// An accepted reload.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub generation: u64,
    pub changes: Vec<Change>,
}

/// The last reload, for `GET /api/config`.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    pub at: jiff::Timestamp,
    pub accepted: bool,
    /// Against the configuration before it; empty when refused.
    pub changes: Vec<Change>,
    /// Why it was refused, one line each, without secrets.
    pub errors: Vec<String>,
}

/// What runs, since when, and what became of the last reload.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub generation: u64,
    pub since: jiff::Timestamp,
    /// `None`: from the environment.
    pub file: Option<String>,
    pub last_reload: Option<Attempt>,
    /// Accepted, but in force only after a restart.
    pub pending_restart: Vec<Change>,
}

// === impl Live ===

impl Live {
    /// Start with a checked configuration. Without a `file` there is nothing to reload.
    pub fn new(first: Checked, file: Option<PathBuf>, environment: Environment) -> Arc<Self> {
        let files = first.files.clone();
        let digest = file.as_deref().and_then(|file| digest(file, &files));
        let started = Arc::new(first.into_snapshot(1));
        Arc::new(Live {
            current: ArcSwap::new(started.clone()),
            started,
            file,
            environment,
            hook: OnceLock::new(),
            state: Mutex::new(State { digest, files, last: None }),
        })
    }

    /// `hook` runs after each attempt from now on (certificates, counters). The first one set stays.
    pub fn on_reload(&self, hook: Hook) {
        if self.hook.set(hook).is_err() {
            tracing::warn!("a second reload hook was not set");
        }
    }

    fn tell(&self, outcome: Result<&Snapshot, &[ConfigError]>) {
        if let Some(hook) = self.hook.get() {
            hook(outcome);
        }
    }

    /// The snapshot of this moment. A request takes it once.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Reads the file again and swaps, or changes nothing and says why. Logs the outcome; blocks for the reading.
    pub fn reload(&self) -> Result<Outcome, Vec<ConfigError>> {
        self.reload_with(&mut self.state())
    }

    pub fn status(&self) -> Status {
        let last_reload = self.state().last.clone();
        let current = self.load();
        let mut pending_restart = diff(&self.started, &current);
        pending_restart.retain(|change| change.takes_effect == TakesEffect::Restart);
        Status {
            generation: current.generation,
            since: current.loaded_at,
            file: self.file.as_ref().map(|file| file.display().to_string()),
            last_reload,
            pending_restart,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements; a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_with(&self, state: &mut State) -> Result<Outcome, Vec<ConfigError>> {
        let Some(file) = &self.file else {
            let message = "started from the environment, without a file: nothing to reload".to_owned();
            return Err(vec![ConfigError { file: "environment".into(), place: Place::default(), message }]);
        };
        let at = jiff::Timestamp::now();
        // Before reading: a change while we read is seen as one afterwards.
        state.digest = digest(file, &state.files);
        match load(file, &self.environment) {
            Ok(checked) => {
                if state.files != checked.files {
                    state.files.clone_from(&checked.files);
                    state.digest = digest(file, &state.files);
                }
                let old = self.load();
                let new = Arc::new(checked.into_snapshot(old.generation + 1));
                let changes = diff(&old, &new);
                self.current.store(new.clone());
                self.tell(Ok(&new));
                tracing::info!(generation = new.generation, changes = changes.len(), "configuration reloaded");
                state.last = Some(Attempt { at, accepted: true, changes: changes.clone(), errors: Vec::new() });
                Ok(Outcome { generation: new.generation, changes })
            }
            Err(errors) => {
                for error in &errors {
                    tracing::error!(%error, "configuration not reloaded, the old one stays");
                }
                self.tell(Err(&errors));
                let shown = errors.iter().map(ToString::to_string).collect();
                state.last = Some(Attempt { at, accepted: false, changes: Vec::new(), errors: shown });
                Err(errors)
            }
        }
    }

    /// Reloads when the bytes differ from those last read.
    fn reload_if_changed(&self) {
        let Some(file) = &self.file else { return };
        let mut state = self.state();
        if digest(file, &state.files) != state.digest {
            // Logged and kept for `status`.
            let _told = self.reload_with(&mut state);
        }
    }

    /// Whether one of our files may be among those of an event. A log that is written in the same folder is not.
    fn reads(&self, event: &notify::Result<notify::Event>) -> bool {
        let Ok(event) = event else { return true };
        let files = match self.state.try_lock() {
            Ok(state) => state.files.clone(),
            // while we read, whatever happens is looked at afterwards
            Err(_) => return true,
        };
        let named = |path: &Path, file: &Path| path.file_name().is_some() && path.file_name() == file.file_name();
        event.paths.iter().any(|path| {
            let mut ours = self.file.iter().chain(&files);
            ours.any(|file| named(path, file) || file.canonicalize().is_ok_and(|real| named(path, &real)))
        })
    }

    /// The folders where a change would show: of each file as named, and as it resolves through links.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let files = self.state().files.clone();
        let folder = |path: &Path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
            parent => parent.map(Path::to_path_buf),
        };
        self.file
            .iter()
            .chain(&files)
            .flat_map(|file| [folder(file), file.canonicalize().ok().and_then(|real| folder(&real))])
            .flatten()
            .collect()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("file", &self.file).field("current", &self.current).finish_non_exhaustive()
    }
}

/// Watches the file and those it names, on a thread of its own that ends with the last `Arc` of `live`. Folders are
/// watched, not files, so that an editor's rename and Kubernetes' swap of the `..data` link are seen. When events cannot be
/// had, the bytes are still looked at every 10 s.
pub fn watch(live: &Arc<Live>) -> std::io::Result<()> {
    watch_every(LOOK, live)
}

fn watch_every(look: Duration, live: &Arc<Live>) -> std::io::Result<()> {
    let live = Arc::downgrade(live);
    std::thread::Builder::new().name("config-watch".to_owned()).spawn(move || run(look, &live)).map(drop)
}

fn run(look: Duration, live: &Weak<Live>) {
    let (send, events) = mpsc::sync_channel::<()>(64);
    let known = live.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if matters(&event) && (!is_writing(&event) || known.upgrade().is_some_and(|live| live.reads(&event))) {
            // Full: a look is due anyway. Gone: the thread has ended.
            let _full = send.try_send(());
        }
    })
    .inspect_err(|error| tracing::warn!(%error, "no file events; the configuration is looked at every 10 s"))
    .ok();
    let mut watched = BTreeSet::new();
    loop {
        {
            let Some(live) = live.upgrade() else { return };
            rewatch(watcher.as_mut(), &mut watched, &live.folders());
            live.reload_if_changed();
        }
        match events.recv_timeout(look) {
            Ok(()) => settle(&events),
            Err(RecvTimeoutError::Timeout) => {
                // A folder that was removed and made again is another one: watch anew.
                for folder in std::mem::take(&mut watched) {
                    if let Some(watcher) = watcher.as_mut() {
                        // It may be gone, and its watch with it.
                        let _gone = watcher.unwatch(&folder);
                    }
                }
            }
            // No watcher, so nobody holds the sender.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(look),
        }
    }
}

/// Our own reading of the file makes events too (open, close); answering them would never end. An error may mean lost events.
fn matters(event: &notify::Result<notify::Event>) -> bool {
    match event {
        Ok(event) => !event.kind.is_access() || event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write)),
        Err(_) => true,
    }
}

/// Bytes of a file changed; no name did.
fn is_writing(event: &notify::Result<notify::Event>) -> bool {
    use notify::event::ModifyKind::{Data, Metadata};
    let writing = |kind| matches!(kind, EventKind::Modify(Data(_) | Metadata(_)) | EventKind::Access(_));
    event.as_ref().is_ok_and(|event| writing(event.kind))
}

/// Until nothing has happened for a while.
fn settle(events: &Receiver<()>) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && events.recv_timeout(QUIET).is_ok() {}
}

fn rewatch(watcher: Option<&mut impl Watcher>, watched: &mut BTreeSet<PathBuf>, wanted: &BTreeSet<PathBuf>) {
    let Some(watcher) = watcher else { return };
    for folder in watched.difference(wanted) {
        // It may be gone, and its watch with it.
        let _gone = watcher.unwatch(folder);
    }
    watched.retain(|folder| wanted.contains(folder));
    for folder in wanted {
        if !watched.contains(folder) && watcher.watch(folder, RecursiveMode::NonRecursive).is_ok() {
            watched.insert(folder.clone());
        }
    }
}

/// Of the file and all others; `None` when the file itself cannot be read.
fn digest(file: &Path, others: &[PathBuf]) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(Sha256::digest(super::read(file).ok()?.as_bytes()));
    for other in others {
        // One that cannot be read counts as empty: its coming back is a change.
        hash.update(Sha256::digest(std::fs::read(other).unwrap_or_default()));
    }
    Some(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn text(model: &str) -> String {
        format!("providers: {{openai: {{api_key: canary}}}}\nmodels: {{{model}: openai/x}}\n")
    }

    fn live(file: &Path) -> (Arc<Live>, Arc<AtomicU64>) {
        let environment = Environment::of([("A", "b")]);
        let seen = Arc::new(AtomicU64::new(0));
        let hooked = seen.clone();
        let live = Live::new(load(file, &environment).unwrap(), Some(file.to_owned()), environment);
        live.on_reload(Box::new(move |outcome| {
            if let Ok(snapshot) = outcome {
                hooked.store(snapshot.generation, Ordering::SeqCst);
            }
        }));
        (live, seen)
    }

    /// Bounded: at most 20 s, usually under half of one.
    fn eventually(mut done: impl FnMut() -> bool) -> bool {
        (0..400).any(|_| {
            let done = done();
            if !done {
                std::thread::sleep(Duration::from_millis(50));
            }
            done
        })
    }

    #[test]
    fn a_reload_is_all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        std::fs::write(&file, text("one")).unwrap();
        let (live, seen) = live(&file);
        let before = live.load();

        std::fs::write(&file, format!("{}strict: perhaps\n", text("two"))).unwrap();
        assert_eq!(live.reload().unwrap_err().len(), 1);
        assert!(Arc::ptr_eq(&before, &live.load()));
        assert_eq!(seen.load(Ordering::SeqCst), 0);
        let attempt = live.status().last_reload.unwrap();
        assert!(!attempt.accepted && attempt.errors[0].contains("strict"), "{attempt:?}");

        std::fs::write(&file, format!("{}listen: 127.0.0.1:5\n", text("two"))).unwrap();
        let outcome = live.reload().unwrap();
        assert_eq!((outcome.generation, seen.load(Ordering::SeqCst)), (2, 2));
        assert!(live.load().models.contains_key("two") && !live.load().models.contains_key("one"));
        let status = live.status();
        assert!(status.last_reload.unwrap().accepted);
        assert_eq!(status.generation, 2);
        assert_eq!(status.pending_restart.len(), 2, "{:?}", status.pending_restart);
        // Who took the old one keeps it.
        assert!(before.models.contains_key("one"));

        std::fs::remove_file(&file).unwrap();
        assert!(live.reload().is_err());
        assert_eq!(live.load().generation, 2);
    }

    #[test]
    fn a_changed_file_is_picked_up_and_an_unchanged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        std::fs::write(&file, text("one")).unwrap();
        let (live, _) = live(&file);
        watch(&live).unwrap();
        // The same bytes again, then by rename as editors do.
        std::fs::write(&file, text("one")).unwrap();
        std::fs::write(folder.path().join("new"), text("two")).unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        assert!(eventually(|| live.load().models.contains_key("two")));
        assert_eq!(live.load().generation, 2);

        std::fs::write(&file, "models: [").unwrap();
        assert!(eventually(|| live.status().last_reload.is_some_and(|attempt| !attempt.accepted)));
        assert_eq!(live.load().generation, 2);
    }

    #[test]
    fn a_swapped_link_as_in_kubernetes_is_picked_up() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, model) in [("..1", "one"), ("..2", "two")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("c.yaml"), text(model)).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/c.yaml", at("c.yaml")).unwrap();
        let (live, _) = live(&at("c.yaml"));
        watch(&live).unwrap();
        symlink("..2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        std::fs::remove_dir_all(at("..1")).unwrap();
        assert!(eventually(|| live.load().models.contains_key("two")));
    }

    #[test]
    fn a_folder_that_disappears_and_comes_back_is_survived() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("conf");
        let file = folder.join("c.yaml");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, text("one")).unwrap();
        let (live, _) = live(&file);
        watch_every(Duration::from_millis(500), &live).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(eventually(|| live.status().last_reload.is_some_and(|attempt| !attempt.accepted)));
        assert_eq!(live.load().generation, 1);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, text("two")).unwrap();
        assert!(eventually(|| live.load().models.contains_key("two")));
    }

    #[test]
    fn reading_the_file_wakes_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        std::fs::write(&file, "a").unwrap();
        let (send, events) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |event| {
            let _gone = send.send(matters(&event));
        })
        .unwrap();
        watcher.watch(folder.path(), RecursiveMode::NonRecursive).unwrap();
        std::fs::read(&file).unwrap();
        // A mark, so that the end is known without waiting.
        std::fs::rename(&file, folder.path().join("d.yaml")).unwrap();
        let seen: Vec<bool> = std::iter::from_fn(|| events.recv_timeout(Duration::from_secs(5)).ok())
            .take_while(|matters| !matters)
            .collect();
        assert!(!seen.is_empty(), "the watcher does not tell of reading any more; `matters` may go");
    }

    #[test]
    fn without_a_file_there_is_nothing_to_reload() {
        let environment = Environment::of([("XAI_API_KEY", "canary")]);
        let first = crate::config::from_environment(&environment, &crate::config::keys::generate(), None);
        let live = Live::new(first.unwrap().unwrap(), None, environment);
        assert_eq!(
            live.reload().unwrap_err()[0].to_string(),
            "environment: started from the environment, without a file: nothing to reload"
        );
    }
}
