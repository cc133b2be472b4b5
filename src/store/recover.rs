//! What dead processes left in the journal's folder, brought into the database: settlements as they are, reservations as orphans.
//!
//! A segment is its process' own for as long as that lives; whoever can lock `OWNER.lock` knows that it does not. Doing it twice, or stopping in
//! the middle, changes nothing: rows are upserts, and files go last.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::codec::MAGIC;
use super::db::{Db, StoreError};
use super::entry::State;
use super::journal::{lock_path, segment_of};
use super::rows::{Batch, Upserts, is_at_fault};
use super::tail::{Carried, Open};

/// Rows of one transaction.
const ROWS: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Recovered {
    /// Rows that were not in the database yet.
    pub settled: u64,
    pub orphans: u64,
    /// Rows that no database takes.
    pub lost: u64,
}

/// Everything in the folder that is not `own` and whose process is dead.
pub(super) async fn recover(folder: &Path, own: &str, db: &Db, upserts: &mut Upserts) -> Result<Recovered, StoreError> {
    let mut all = Recovered::default();
    for (owner, segments) in owners(folder).map_err(|error| unreadable(folder, &error))? {
        if owner == own {
            continue;
        }
        let Some(lock) = lock(folder, &owner).map_err(|error| unreadable(folder, &error))? else { continue };
        // Its owner may have gone in good order since the list was made.
        let segments = if segments.is_empty() { segments } else { segments_of(folder, &owner) };
        let found = one(&segments, db, upserts).await?;
        for path in &segments {
            remove(path);
        }
        remove(&lock_path(folder, &owner));
        drop(lock);
        if !segments.is_empty() {
            let Recovered { settled, orphans, lost } = found;
            tracing::info!(settled, orphans, lost, "the journal of an ended process was recovered");
        }
        all.settled += found.settled;
        all.orphans += found.orphans;
        all.lost += found.lost;
    }
    Ok(all)
}

/// One process' segments, oldest first.
async fn one(segments: &[PathBuf], db: &Db, upserts: &mut Upserts) -> Result<Recovered, StoreError> {
    let mut found = Recovered::default();
    let mut open = Open::new(Carried::Open);
    for (index, path) in segments.iter().enumerate() {
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
        let records = bytes.strip_prefix(&MAGIC).unwrap_or_default();
        let sorted = open.sort(records, u64::try_from(index).unwrap_or(u64::MAX), Instant::now());
        let left = records.len() - sorted.length;
        if left > 0 {
            let path = path.display();
            tracing::warn!(bytes = left, "{path} ends with a torn record; it was not acknowledged to anybody");
        }
        for rows in sorted.settled.chunks(ROWS) {
            let batch = Batch { rows, again: &[], tariffs: &sorted.tariffs };
            found.settled += write(db, upserts, batch, State::Settled, &mut found.lost).await?;
        }
        let again = Batch { again: &sorted.again, ..Batch::default() };
        found.settled += write(db, upserts, again, State::Settled, &mut found.lost).await?;
    }
    for rows in open.all().chunks(ROWS) {
        let batch = Batch { rows, ..Batch::default() };
        found.orphans += write(db, upserts, batch, State::Orphaned, &mut found.lost).await?;
    }
    Ok(found)
}

/// A batch, and where a row of it is at fault, the others.
pub(super) async fn write(
    db: &Db,
    upserts: &mut Upserts,
    batch: Batch<'_, '_>,
    state: State,
    lost: &mut u64,
) -> Result<u64, StoreError> {
    let error = match upserts.write(db, batch, state).await {
        Ok(changed) => return Ok(changed),
        Err(error) if is_at_fault(&error) => error,
        Err(error) => return Err(error.into()),
    };
    tracing::error!("the database refuses a row, so each is written on its own: {error}");
    let mut changed = 0;
    for row in batch.rows.iter().chain(batch.again) {
        let one = Batch { rows: std::slice::from_ref(row), again: &[], tariffs: batch.tariffs };
        match upserts.write(db, one, state).await {
            Ok(count) => changed += count,
            Err(error) if is_at_fault(&error) => {
                *lost += 1;
                tracing::error!(
                    call = row.call,
                    attempt = row.attempt,
                    "a row is lost, the database refuses it: {error}"
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(changed)
}

/// `None`: it lives.
fn lock(folder: &Path, owner: &str) -> io::Result<Option<File>> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o640).open(lock_path(folder, owner))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn owners(folder: &Path) -> io::Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut owners: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(owner) = name.strip_suffix(".lock") {
            owners.entry(owner.to_owned()).or_default();
        } else if let Some((owner, _)) = segment_of(name) {
            owners.entry(owner.to_owned()).or_default().push(path);
        }
    }
    // numbers have leading zeros
    owners.values_mut().for_each(|paths| paths.sort());
    Ok(owners)
}

fn segments_of(folder: &Path, owner: &str) -> Vec<PathBuf> {
    owners(folder).ok().and_then(|mut owners| owners.remove(owner)).unwrap_or_default()
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{} cannot be removed: {error}", path.display());
    }
}

fn unreadable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{} cannot be read: {error}", path.display()))
}
