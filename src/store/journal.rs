//! The journal: files that are only appended to, one after the other (segments), by one process each.
//!
//! Owns the files of this process and what they take; reading them is [`super::tail`]'s business, those of dead processes [`super::recover`]'s.
//! A record is one `write`, so it outlives the process from then on. With [`Durability::Disk`] those who reserve wait for the disk, all
//! together for one `fdatasync`.
//!
//! ```text
//! OWNER.lock            locked (flock) for as long as the process lives: whoever can lock it knows that the owner is dead
//! OWNER-00000001.log    a segment
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::codec::{self, MAGIC, TooLarge};
use super::entry::{Entry, Reservation};
use super::ledger::Unavailable;
use crate::config::store::Durability;
use crate::id::RequestId;

/// Tariffs whose name is remembered by their address; more are hashed anew.
const TARIFFS: usize = 4096;

#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    owner: String,
    /// Held open, and with it locked.
    _lock: File,
    durability: Durability,
    /// Bytes of all segments at most; a reservation beyond is refused.
    limit: u64,
    segment_size: u64,
    state: Mutex<State>,
    synced: Condvar,
    /// Of all segments of this process on disk.
    bytes: AtomicU64,
    /// Of those that others left in the folder.
    foreign: AtomicU64,
    /// The last append failed.
    broken: AtomicBool,
}

#[derive(Debug)]
struct State {
    active: Option<Active>,
    /// Not taken away yet, oldest first; without the active one.
    closed: Vec<Segment>,
    next: u64,
    /// Bytes appended since the start.
    written: u64,
    /// Of these, on disk for sure, but for those that are `lost`.
    durable: u64,
    /// The last ones that the disk did not take.
    lost: Range<u64>,
    /// Somebody waits for the disk on behalf of all.
    syncing: bool,
    buffer: Vec<u8>,
    tariffs: Tariffs,
}

#[derive(Debug)]
struct Active {
    segment: Segment,
    /// Tariffs that stand in it.
    tariffs: HashSet<i64>,
}

/// A segment as far as it is written: whole records up to `length`.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub number: u64,
    pub file: Arc<File>,
    pub length: u64,
    /// Where it begins, in bytes appended since the start.
    pub base: u64,
    /// Nothing will be added.
    pub closed: bool,
}

/// Names of tariffs by the address of their text, which is kept so that no other can have it.
#[derive(Debug, Default)]
struct Tariffs(HashMap<usize, (Arc<str>, i64)>);

// === impl Journal ===

impl Journal {
    pub(super) fn open(folder: &Path, limit: u64, segment_size: u64, durability: Durability) -> io::Result<Journal> {
        DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        let (owner, lock) = own(folder)?;
        let state = State {
            active: None,
            closed: Vec::new(),
            next: 1,
            written: 0,
            durable: 0,
            lost: 0..0,
            syncing: false,
            buffer: Vec::with_capacity(4096),
            tariffs: Tariffs::default(),
        };
        let journal = Journal {
            folder: folder.to_owned(),
            owner,
            _lock: lock,
            durability,
            limit,
            segment_size,
            state: Mutex::new(state),
            synced: Condvar::new(),
            bytes: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        };
        // what cannot be written is found out now
        journal.rotate(&mut journal.state())?;
        journal.recount();
        Ok(journal)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// In the whole folder.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) + self.foreign.load(Ordering::Relaxed)
    }

    /// How much others left: a gateway that is started again and again while the database is away must not fill the disk.
    pub(super) fn recount(&self) {
        let foreign = |entry: &DirEntry| {
            entry.file_name().to_str().and_then(segment_of).is_some_and(|(owner, _)| owner != self.owner)
        };
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().filter(foreign);
        let sum = files.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum();
        self.foreign.store(sum, Ordering::Relaxed);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn reserve(&self, reservation: &Reservation) -> Result<(), Unavailable> {
        if self.bytes() >= self.limit {
            return Err(Unavailable::Full);
        }
        let mut state = self.state();
        state.buffer.clear();
        codec::put_reservation(&mut state.buffer, reservation)?;
        let end = self.append(&mut state)?;
        match self.durability {
            Durability::Process => Ok(()),
            Durability::Disk => self.wait_for_disk(state, end),
        }
    }

    /// Never refused for its size: it makes room. It does not wait for the disk: what is lost with the power is billed as an orphan.
    pub(super) fn settle(&self, entry: &Entry) -> Result<(), Unavailable> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.buffer.clear();
        let tariff = match &entry.rates {
            None => None,
            Some(rates) => {
                let id = state.tariffs.id(rates);
                if state.active.as_ref().is_none_or(|active| !active.tariffs.contains(&id)) {
                    codec::put_tariff(&mut state.buffer, id, rates)?;
                }
                Some(id)
            }
        };
        codec::put_settlement(&mut state.buffer, entry, tariff)?;
        self.append(state)?;
        if let (Some(id), Some(active)) = (tariff, &mut state.active) {
            active.tariffs.insert(id);
        }
        Ok(())
    }

    /// A reservation again, so that its old segment can go. `payload`: as it stands there.
    pub(super) fn carry(&self, payload: &[u8]) -> Result<(), Unavailable> {
        let mut state = self.state();
        state.buffer.clear();
        codec::put_carried(&mut state.buffer, payload)?;
        self.append(&mut state).map(drop)
    }

    /// All segments that are there, oldest first.
    pub(super) fn segments(&self) -> Vec<Segment> {
        let state = self.state();
        state.closed.iter().chain(state.active.as_ref().map(|active| &active.segment)).cloned().collect()
    }

    /// Bytes appended since the start.
    pub(super) fn written(&self) -> u64 {
        self.state().written
    }

    /// A closed segment that nobody needs any more.
    pub(super) fn remove(&self, number: u64) {
        let mut state = self.state();
        let Some(index) = state.closed.iter().position(|segment| segment.number == number) else { return };
        let segment = state.closed.remove(index);
        drop(state);
        self.unlink(&segment);
    }

    /// Begin a new segment unless the active one has grown beyond `length`, which is as far as it is needed no more: it goes.
    pub(super) fn retire(&self, number: u64, length: u64) {
        let mut state = self.state();
        let unneeded = |active: &mut Active| active.segment.number == number && active.segment.length == length;
        if let Some(active) = state.active.take_if(unneeded) {
            drop(state);
            self.unlink(&active.segment);
        }
    }

    fn unlink(&self, segment: &Segment) {
        let path = self.path(segment.number);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) => tracing::warn!("{} cannot be removed: {error}", path.display()),
        }
        self.bytes.fetch_sub(segment.length, Ordering::Relaxed);
    }

    /// One write of the buffer; returns where it ends, in bytes since the start. What is written in part is taken back, so that a segment never
    /// has a torn record in its middle.
    fn append(&self, state: &mut State) -> Result<u64, Unavailable> {
        let done = self.try_append(state);
        self.broken.store(done.is_err(), Ordering::Relaxed);
        done.map_err(|error| {
            tracing::debug!("the journal cannot be written: {error}");
            Unavailable::Disk
        })
    }

    fn try_append(&self, state: &mut State) -> io::Result<u64> {
        if state.active.as_ref().is_none_or(|active| active.segment.length >= self.segment_size)
            && let Err(error) = self.rotate(state)
            && state.active.is_none()
        {
            return Err(error);
        }
        let Some(active) = &mut state.active else { return Err(io::ErrorKind::NotFound.into()) };
        let segment = &mut active.segment;
        if let Err(error) = (&*segment.file).write_all(&state.buffer) {
            if segment.file.set_len(segment.length).is_err() {
                // whoever reads it stops at the torn record; what follows goes into another
                self.close(state);
            }
            return Err(error);
        }
        let added = u64::try_from(state.buffer.len()).unwrap_or(u64::MAX);
        segment.length += added;
        state.written += added;
        self.bytes.fetch_add(added, Ordering::Relaxed);
        Ok(state.written)
    }

    fn rotate(&self, state: &mut State) -> io::Result<()> {
        let number = state.next;
        let path = self.path(number);
        let file = OpenOptions::new().create_new(true).read(true).append(true).mode(0o640).open(&path)?;
        let prepared = (&file).write_all(&MAGIC).and_then(|()| match self.durability {
            Durability::Process => Ok(()),
            // the name must be on disk too
            Durability::Disk => file.sync_all().and_then(|()| File::open(&self.folder)?.sync_all()),
        });
        if let Err(error) = prepared {
            let _gone = std::fs::remove_file(&path);
            return Err(error);
        }
        self.close(state);
        let length = u64::try_from(MAGIC.len()).unwrap_or_default();
        let segment = Segment { number, file: Arc::new(file), length, base: state.written, closed: false };
        state.active = Some(Active { segment, tariffs: HashSet::new() });
        state.next += 1;
        state.written += length;
        self.bytes.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    fn close(&self, state: &mut State) {
        let Some(Active { mut segment, .. }) = state.active.take() else { return };
        segment.closed = true;
        if self.durability == Durability::Disk {
            let end = segment.base + segment.length;
            match segment.file.sync_data() {
                Ok(()) => state.durable = state.durable.max(end),
                Err(_) => state.lost = state.durable..end,
            }
        }
        state.closed.push(segment);
    }

    /// One of those who wait asks the disk, for all that is written by then.
    fn wait_for_disk<'s>(&'s self, mut state: MutexGuard<'s, State>, end: u64) -> Result<(), Unavailable> {
        loop {
            if state.lost.start < end && end <= state.lost.end {
                return Err(Unavailable::Disk);
            }
            if end <= state.durable {
                return Ok(());
            }
            let file = state.active.as_ref().map(|active| Arc::clone(&active.segment.file));
            match file {
                Some(file) if !state.syncing => {
                    state.syncing = true;
                    let reached = state.written;
                    drop(state);
                    let done = file.sync_data();
                    state = self.state();
                    state.syncing = false;
                    self.synced.notify_all();
                    match done {
                        Ok(()) => state.durable = state.durable.max(reached),
                        Err(_) => {
                            // What the kernel could not write it may forget (fsync(2), "Errors"): nothing more into this file.
                            self.broken.store(true, Ordering::Relaxed);
                            state.lost = state.durable..reached;
                            self.close(&mut state);
                            return Err(Unavailable::Disk);
                        }
                    }
                }
                Some(_) => state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner),
                // its segment was closed, and the disk did not take it
                None => return Err(Unavailable::Disk),
            }
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(segment_name(&self.owner, number))
    }

    /// Between two statements the state may be half changed only while a file is asked, and then by nobody who panics.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.active.is_none() && state.closed.is_empty() {
            let _gone = std::fs::remove_file(lock_path(&self.folder, &self.owner));
        }
    }
}

impl Tariffs {
    fn id(&mut self, rates: &Arc<str>) -> i64 {
        let address = rates.as_ptr().addr();
        if let Some((known, id)) = self.0.get(&address)
            && Arc::ptr_eq(known, rates)
        {
            return *id;
        }
        let id = tariff_id(rates);
        if self.0.len() >= TARIFFS {
            self.0.clear();
        }
        self.0.insert(address, (Arc::clone(rates), id));
        id
    }
}

impl From<TooLarge> for Unavailable {
    fn from(_: TooLarge) -> Self {
        Unavailable::TooLarge
    }
}

// === names ===

/// Half of half a SHA-256: among some thousands of tariffs no two are the same.
pub(super) fn tariff_id(rates: &str) -> i64 {
    Sha256::digest(rates.as_bytes()).first_chunk::<8>().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

/// A name nobody has, and its lock.
fn own(folder: &Path) -> io::Result<(String, File)> {
    for _ in 0..16 {
        let owner = RequestId::generate().as_str().to_owned();
        let lock = OpenOptions::new().create_new(true).write(true).mode(0o640).open(lock_path(folder, &owner))?;
        // Whoever recovers may have been quicker; it will take the file away.
        if lock.try_lock().is_ok() {
            return Ok((owner, lock));
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "no lock could be had in the journal's folder"))
}

pub(super) fn lock_path(folder: &Path, owner: &str) -> PathBuf {
    folder.join(format!("{owner}.lock"))
}

fn segment_name(owner: &str, number: u64) -> String {
    format!("{owner}-{number:08}.log")
}

/// Owner and number of a segment's file.
pub(super) fn segment_of(name: &str) -> Option<(&str, u64)> {
    let (owner, number) = name.strip_suffix(".log")?.rsplit_once('-')?;
    Some((owner, number.parse().ok()?))
}
