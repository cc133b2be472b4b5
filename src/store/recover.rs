//! What dead processes left in the journal's folder, brought into the database: settlements as they are, reservations as orphans.
//!
//! A segment is its process' own for as long as that lives; whoever can lock `OWNER.lock` knows that it does not. Doing it twice, or stopping in
//! the middle, changes nothing: rows are upserts, and files go last.

use std::collections::BTreeSet;
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
    for owner in owners(folder).into_iter().filter(|owner| owner != own) {
        let lock = match lock(folder, &owner) {
            Ok(Some(lock)) => lock,
            Ok(None) => continue,
            Err(error) => {
                warn(&lock_path(folder, &owner), "cannot be locked", &error);
                continue;
            }
        };
        // listed now that nobody adds to it or takes from it
        let segments = segments_of(folder, &owner);
        let Some(found) = one(&segments, db, upserts).await? else { continue };
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

/// One process' segments, oldest first. `None`: one of them cannot be read; all stay, for another time.
async fn one(segments: &[PathBuf], db: &Db, upserts: &mut Upserts) -> Result<Option<Recovered>, StoreError> {
    let mut found = Recovered::default();
    let mut open = Open::new(Carried::Open);
    for (index, path) in segments.iter().enumerate() {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                warn(path, "cannot be read", &error);
                return Ok(None);
            }
        };
        let records = bytes.strip_prefix(&MAGIC).unwrap_or_default();
        let sorted = open.sort(records, u64::try_from(index).unwrap_or(u64::MAX), Instant::now());
        let left = bytes.get(bytes.len() - (records.len() - sorted.length)..).unwrap_or_default();
        judge(path, if records.is_empty() { &bytes } else { left }, sorted.damaged || records.is_empty());
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
    Ok(Some(found))
}

/// What could not be read at the end of a segment. A record that was cut short was acknowledged to nobody; anything else is kept for whoever
/// can make sense of it.
fn judge(path: &Path, left: &[u8], damaged: bool) {
    let nothing = left.iter().all(|byte| *byte == 0) || MAGIC.starts_with(left) || left == MAGIC;
    if nothing {
        return;
    }
    let (bytes, shown) = (left.len(), path.display());
    if !damaged {
        tracing::info!(bytes, "{shown} ends with a record that was cut short");
        return;
    }
    let kept = path.with_extension("damaged");
    match std::fs::copy(path, &kept) {
        Ok(_) => tracing::error!(bytes, "{shown} is damaged: what could not be read of it is in {}", kept.display()),
        Err(error) => warn(path, "is damaged, and cannot be copied", &error),
    }
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

fn names(folder: &Path) -> Vec<String> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
        Err(error) => {
            warn(folder, "cannot be read", &error);
            Vec::new()
        }
    }
}

fn owners(folder: &Path) -> BTreeSet<String> {
    let owner = |name: &String| match name.strip_suffix(".lock") {
        Some(owner) => Some(owner.to_owned()),
        None => segment_of(name).map(|(owner, _)| owner.to_owned()),
    };
    names(folder).iter().filter_map(owner).collect()
}

/// Oldest first: their numbers have leading zeros.
fn segments_of(folder: &Path, owner: &str) -> Vec<PathBuf> {
    let mut names = names(folder);
    names.retain(|name| segment_of(name).is_some_and(|(of, _)| of == owner));
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{} cannot be removed: {error}", path.display());
    }
}

fn warn(path: &Path, what: &str, error: &io::Error) {
    tracing::warn!("{} {what}: {error}", path.display());
}
