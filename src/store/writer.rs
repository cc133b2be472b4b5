//! The one task that carries the journal into the database, and keeps both in order: it follows what is appended, writes batches, shows what
//! lasts, takes segments away, recovers what dead processes left, prunes. It also tells how all that goes.
//!
//! Nobody waits for it but [`super::Ledger::flush`]. What it could not write it reads again from the journal, so it holds no queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::codec;
use super::db::{Db, StoreError};
use super::entry::{Entry, State};
use super::journal::{Journal, Segment};
use super::prune::{Pruned, prune};
use super::recover::{self, recover};
use super::report::DAY;
use super::rows::{Batch, Upserts};
use super::tail::{Carried, Open, Tail};

/// Settlements the journal did not take, at most.
const SPILLED: usize = 20_000;
/// Rows that are shown in one transaction.
const SHOWN: usize = 500;
/// After so many newer segments, what is open in an old one is carried on.
const CARRY_AFTER: usize = 4;

/// The paces of the writer. Tests have their own.
#[derive(Debug, Clone)]
pub(super) struct Tuning {
    pub segment_size: u64,
    /// So long rows are gathered for one transaction.
    pub gather: Duration,
    /// A reservation that lasts longer stands in the database.
    pub show_after: Duration,
    pub recover_every: Duration,
    pub prune_every: Duration,
    /// Of one transaction.
    pub write_timeout: Duration,
    pub longest_backoff: Duration,
    /// How long the start waits for the database.
    pub patience: Duration,
}

/// What the callers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    wake: Notify,
    /// The writer sleeps until it is woken.
    asleep: AtomicBool,
    closing: AtomicBool,
    /// Somebody wants no file left behind.
    tidy: AtomicBool,
    /// How far the journal is in the database, in bytes appended since the start.
    progress: watch::Sender<u64>,
    settled: AtomicU64,
    stored: AtomicU64,
    open: AtomicU64,
    lost: AtomicU64,
    orphans: AtomicU64,
    spilled: Mutex<VecDeque<Entry>>,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Trouble {
    pub error: Option<String>,
    /// Since when a batch has been waiting.
    pub since: Option<Instant>,
}

pub(super) struct Writer {
    db: Db,
    journal: Arc<Journal>,
    shared: Arc<Shared>,
    tuning: Tuning,
    upserts: Upserts,
    tail: Tail,
    open: Open,
    migrated: bool,
    recovered: Option<Instant>,
    shown: Instant,
    active: Instant,
    carried: u64,
    /// Rows older than this become sums.
    keep: Duration,
    /// When there was nothing left to prune.
    pruned: Option<Instant>,
    failures: u32,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There is more to read.
    More,
    Wrote,
    Idle,
}

// === impl Tuning ===

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            segment_size: 8 << 20,
            gather: Duration::from_millis(50),
            show_after: Duration::from_secs(5),
            recover_every: Duration::from_secs(30),
            prune_every: Duration::from_secs(3600),
            write_timeout: Duration::from_secs(30),
            longest_backoff: Duration::from_secs(10),
            patience: Duration::from_secs(10),
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new() -> Self {
        Shared {
            wake: Notify::new(),
            asleep: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            tidy: AtomicBool::new(false),
            progress: watch::Sender::new(0),
            settled: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            open: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            orphans: AtomicU64::new(0),
            spilled: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// A settlement was appended.
    pub(super) fn appended(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// A settlement that the journal did not take.
    pub(super) fn spill(&self, entry: Entry) {
        let mut spilled = lock(&self.spilled);
        if spilled.len() < SPILLED {
            spilled.push_back(entry);
            drop(spilled);
            self.appended();
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Write now, and leave nothing behind; what is told next is how far that has come.
    pub(super) fn hurry(&self) -> watch::Receiver<u64> {
        let progress = self.progress.subscribe();
        self.tidy.store(true, Ordering::Relaxed);
        self.wake.notify_one();
        progress
    }

    pub(super) fn in_memory(&self) -> u64 {
        u64::try_from(lock(&self.spilled).len()).unwrap_or(u64::MAX)
    }

    pub(super) fn behind(&self) -> u64 {
        let stored = self.stored.load(Ordering::Relaxed);
        self.settled.load(Ordering::Relaxed).saturating_sub(stored)
    }

    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn orphans(&self) -> u64 {
        self.orphans.load(Ordering::Relaxed)
    }

    pub(super) fn trouble(&self) -> Trouble {
        lock(&self.trouble).clone()
    }
}

/// What these locks hold is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(db: Db, journal: Arc<Journal>, shared: Arc<Shared>, keep: Duration, tuning: Tuning) -> Self {
        let now = Instant::now();
        Writer {
            db,
            journal,
            shared,
            tuning,
            upserts: Upserts::new(),
            tail: Tail::default(),
            open: Open::new(Carried::Settled),
            migrated: false,
            recovered: None,
            shown: now,
            active: now,
            carried: 0,
            keep,
            pruned: None,
            failures: 0,
        }
    }

    /// Tables, and what dead processes left. An error is told when it is not one that time may heal.
    pub(super) async fn prepare(&mut self) -> Result<(), StoreError> {
        let patience = self.tuning.patience;
        let prepared = match timeout(patience, self.migrate()).await {
            // as long as it takes: what was spent is not known before
            Ok(Ok(())) => self.recover().await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::Timeout),
        };
        match prepared {
            Ok(()) => Ok(()),
            Err(error @ (StoreError::Refused(_) | StoreError::Off)) => Err(error),
            Err(error) => {
                tracing::warn!("{error}; calls are kept in the journal until it is there");
                self.failed(&error);
                Ok(())
            }
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let closing = self.shared.closing.load(Ordering::Relaxed);
            match self.round().await {
                Ok(Round::More) => tokio::task::yield_now().await,
                Ok(Round::Wrote | Round::Idle) if closing => break,
                Ok(Round::Wrote) => self.wait(self.tuning.gather).await,
                Ok(Round::Idle) => self.sleep().await,
                Err(_) if closing => break,
                Err(error) => {
                    self.failed(&error);
                    self.wait(self.backoff()).await;
                }
            }
        }
        self.tidy(true);
    }

    /// Gathers, unless somebody is in a hurry.
    async fn wait(&self, duration: Duration) {
        let _either = timeout(duration, self.shared.wake.notified()).await;
    }

    /// Until something is appended, or for a second.
    async fn sleep(&self) {
        self.shared.asleep.store(true, Ordering::Relaxed);
        // whoever appends from now on sees that we sleep: the journal's lock lies between
        if self.journal.written() == self.tail.position() && self.shared.in_memory() == 0 {
            self.wait(Duration::from_secs(1)).await;
        }
        self.shared.asleep.store(false, Ordering::Relaxed);
        if !self.shared.closing.load(Ordering::Relaxed) && !self.shared.tidy.load(Ordering::Relaxed) {
            self.wait(self.tuning.gather).await;
        }
    }

    async fn round(&mut self) -> Result<Round, StoreError> {
        if !self.migrated {
            self.migrate().await?;
        }
        if self.recovered.is_none_or(|at| at.elapsed() >= self.tuning.recover_every) {
            self.recover().await?;
        }
        self.write_spilled().await?;
        let round = self.write_next().await?;
        if round == Round::More {
            self.well();
            return Ok(round);
        }
        self.show_lasting().await?;
        self.tidy(self.shared.tidy.swap(false, Ordering::Relaxed));
        self.well();
        self.shared.progress.send_replace(self.tail.position());
        Ok(if self.prune_some().await == Pruned::Some { Round::Wrote } else { round })
    }

    /// A little at a time, between batches. When it fails, it is tried again the next time it is due.
    async fn prune_some(&mut self) -> Pruned {
        if self.pruned.is_some_and(|at| at.elapsed() < self.tuning.prune_every) {
            return Pruned::All;
        }
        let keep = jiff::SignedDuration::try_from(self.keep).unwrap_or(jiff::SignedDuration::MAX);
        let before = jiff::Timestamp::now().checked_sub(keep).map_or(0, |then| then.as_microsecond());
        // whole days, so that a day is a sum or rows
        let before = before - before.rem_euclid(DAY);
        let pruned = timeout(self.tuning.write_timeout, prune(&self.db, before)).await;
        let pruned = pruned.unwrap_or(Err(StoreError::Timeout)).unwrap_or_else(|error| {
            tracing::warn!("old rows were not made sums: {error}");
            Pruned::All
        });
        if pruned == Pruned::All {
            self.pruned = Some(Instant::now());
        }
        pruned
    }

    async fn migrate(&mut self) -> Result<(), StoreError> {
        timeout(self.tuning.write_timeout, self.db.migrate()).await.map_err(|_| StoreError::Timeout)??;
        self.migrated = true;
        Ok(())
    }

    async fn recover(&mut self) -> Result<(), StoreError> {
        let journal = Arc::clone(&self.journal);
        let found = recover(journal.folder(), journal.owner(), &self.db, &mut self.upserts).await?;
        self.recovered = Some(Instant::now());
        self.journal.recount();
        self.shared.orphans.fetch_add(found.orphans, Ordering::Relaxed);
        self.shared.lost.fetch_add(found.lost, Ordering::Relaxed);
        Ok(())
    }

    /// The next bytes of the journal, in one transaction. When it fails, they are read again.
    async fn write_next(&mut self) -> Result<Round, StoreError> {
        let segments = self.journal.segments();
        let unreadable =
            |error: std::io::Error| StoreError::Unavailable(format!("the journal cannot be read: {error}"));
        let Some(chunk) = self.tail.next(&segments).map_err(unreadable)? else { return Ok(Round::Idle) };
        self.active = Instant::now();
        let sorted = self.open.sort(chunk.bytes, chunk.segment, self.active);
        let (length, damaged, last) = (sorted.length, sorted.damaged, chunk.last);
        let count = u64::try_from(sorted.settled.len() + sorted.again.len()).unwrap_or(u64::MAX);
        if count > 0 {
            lock(&self.shared.trouble).since.get_or_insert(self.active);
            let batch = Batch { rows: &sorted.settled, again: &sorted.again, tariffs: &sorted.tariffs };
            let mut lost = 0;
            let written = recover::write(&self.db, &mut self.upserts, batch, State::Settled, &mut lost);
            timeout(self.tuning.write_timeout, written).await.map_err(|_| StoreError::Timeout)??;
            self.shared.lost.fetch_add(lost, Ordering::Relaxed);
        }
        self.tail.advance(length);
        if damaged {
            tracing::error!("a segment of the journal is damaged; what follows in it is lost");
            self.tail.skip_segment(&segments);
        }
        self.shared.stored.fetch_add(count, Ordering::Relaxed);
        self.shared.open.store(u64::try_from(self.open.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(if last { Round::Wrote } else { Round::More })
    }

    /// What the journal did not take goes into the database as it is.
    async fn write_spilled(&mut self) -> Result<(), StoreError> {
        loop {
            let some: Vec<Entry> = lock(&self.shared.spilled).iter().take(SHOWN).cloned().collect();
            if some.is_empty() {
                return Ok(());
            }
            let mut bytes = Vec::new();
            for entry in &some {
                // the rates go along in each: this is not the common way
                let tariff = entry.rates.as_ref().map(|rates| (super::journal::tariff_id(rates), rates));
                let tariff_id = tariff.map(|(id, _)| id);
                let fit = tariff.map_or(Ok(()), |(id, rates)| codec::put_tariff(&mut bytes, id, rates));
                if fit.and_then(|()| codec::put_settlement(&mut bytes, entry, tariff_id)).is_err() {
                    self.shared.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            let sorted = self.open.sort(&bytes, self.tail.segment(), Instant::now());
            let batch = Batch { rows: &sorted.settled, again: &sorted.again, tariffs: &sorted.tariffs };
            let mut lost = 0;
            let written = recover::write(&self.db, &mut self.upserts, batch, State::Settled, &mut lost);
            timeout(self.tuning.write_timeout, written).await.map_err(|_| StoreError::Timeout)??;
            self.shared.lost.fetch_add(lost, Ordering::Relaxed);
            lock(&self.shared.spilled).drain(..some.len());
            self.shared.stored.fetch_add(u64::try_from(some.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Reservations that last become visible, once a second.
    async fn show_lasting(&mut self) -> Result<(), StoreError> {
        let Some(then) = Instant::now().checked_sub(self.tuning.show_after) else { return Ok(()) };
        if self.shown > then && self.shown.elapsed() < Duration::from_secs(1) {
            return Ok(());
        }
        self.shown = Instant::now();
        loop {
            let rows = self.open.lasting(then, SHOWN);
            if rows.is_empty() {
                return Ok(());
            }
            let batch = Batch { rows: &rows, ..Batch::default() };
            let mut lost = 0;
            let written = recover::write(&self.db, &mut self.upserts, batch, State::Reserved, &mut lost);
            timeout(self.tuning.write_timeout, written).await.map_err(|_| StoreError::Timeout)??;
            self.open.mark_shown(then, SHOWN);
        }
    }

    /// Segments go when all in them is settled and written. What is still open in an old one is carried on into the newest.
    fn tidy(&mut self, entirely: bool) {
        let segments = self.journal.segments();
        let done = |s: &Segment| {
            s.number < self.tail.segment() || (s.number == self.tail.segment() && s.length == self.tail.offset())
        };
        for (index, segment) in segments.iter().enumerate().filter(|(_, segment)| done(segment)) {
            let newer = segments.len() - index - 1;
            match self.open.in_segment(segment.number) {
                0 if segment.closed => self.journal.remove(segment.number),
                // long silence, or the end: nothing needs to be read again at the next start
                0 if segment.length > 8 && (entirely || self.active.elapsed() > Duration::from_secs(60)) => {
                    self.journal.retire(segment.number, segment.length);
                }
                0 => {}
                _ if newer > CARRY_AFTER
                    && segment.number > self.carried
                    && self.open.payloads_in(segment.number).all(|payload| self.journal.carry(payload).is_ok()) =>
                {
                    self.carried = segment.number;
                }
                _ => {}
            }
        }
    }

    fn well(&mut self) {
        self.failures = 0;
        let mut trouble = lock(&self.shared.trouble);
        if trouble.error.take().is_some() {
            tracing::info!("the ledger's database takes rows again");
        }
        trouble.since = None;
    }

    fn failed(&mut self, error: &StoreError) {
        let text = error.to_string();
        let mut trouble = lock(&self.shared.trouble);
        trouble.since.get_or_insert_with(Instant::now);
        if trouble.error.as_ref() != Some(&text) {
            tracing::warn!("rows wait in the journal: {text}");
            trouble.error = Some(text);
        }
        drop(trouble);
        self.failures = self.failures.saturating_add(1);
        // It may be another database by now, or one that was restored: what it knows is not what we wrote.
        self.upserts.forget();
    }

    /// Doubles from a tenth of a second; by chance up to a half less, so that replicas do not come back all at once.
    fn backoff(&self) -> Duration {
        let full =
            Duration::from_millis(100).saturating_mul(1 << self.failures.min(10)).min(self.tuning.longest_backoff);
        let chance = u32::from(getrandom::u32().unwrap_or_default().to_le_bytes()[0]);
        full - full / 512 * chance
    }
}
