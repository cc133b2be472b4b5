//! All counters that are in use, found by their rule and by whom it counts. Those that have nothing to remember are forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::Now;
use super::counter::Counter;
use crate::config::quota::{Rule, Who};

const SHARDS: usize = 64;
/// From one place to the next, where two subjects meet.
const AGAIN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Between two values of a subject: no tag, key or model holds a control character.
pub const BETWEEN: char = '\u{1f}';

#[derive(Debug)]
pub struct Counters {
    shards: Box<[Mutex<Shard>]>,
    /// Drawn anew by each process: nobody outside can make two subjects meet.
    seeds: ahash::RandomState,
}

type Shard = HashMap<u64, Arc<Counter>, BuildHasherDefault<Hashed>>;

/// For keys that are hashes already.
#[derive(Debug, Default)]
pub struct Hashed(u64);

/// Whom a counter of a rule is for.
#[derive(Debug, Clone, Copy)]
pub struct Whom<'a> {
    pub who: &'a Who<'a>,
    pub provider: Option<&'a str>,
}

// === impl Counters ===

impl Counters {
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Counters { shards, seeds: ahash::RandomState::new() }
    }

    /// The counter of a rule for somebody, made where there is none.
    pub fn get(&self, rule: &Arc<Rule>, whom: Whom<'_>, make: impl FnOnce(Box<str>) -> Counter) -> Arc<Counter> {
        let mut hash = self.hash(rule.id, whom, &rule.scope);
        loop {
            let mut shard = self.shard(hash);
            let Some(found) = shard.get(&hash) else {
                let made = Arc::new(make(subject(rule, whom).into()));
                shard.insert(hash, Arc::clone(&made));
                return made;
            };
            if found.id == rule.id && is_subject(&found.subject, rule, whom) {
                return Arc::clone(found);
            }
            // two that are not the same, once in many ages
            hash = hash.wrapping_add(AGAIN);
        }
    }

    /// The same, by the values that the rule's scope leaves open.
    pub fn get_of(&self, rule: &Rule, values: &[&str], make: impl FnOnce(Box<str>) -> Counter) -> Arc<Counter> {
        let subject = values.join(&BETWEEN.to_string());
        let mut hasher = self.seeds.build_hasher();
        hasher.write_u64(rule.id);
        for value in values {
            hasher.write(value.as_bytes());
            hasher.write_u8(0xff);
        }
        let mut hash = hasher.finish();
        loop {
            let mut shard = self.shard(hash);
            let Some(found) = shard.get(&hash) else {
                let made = Arc::new(make(subject.into()));
                shard.insert(hash, Arc::clone(&made));
                return made;
            };
            if found.id == rule.id && *found.subject == *subject {
                return Arc::clone(found);
            }
            hash = hash.wrapping_add(AGAIN);
        }
    }

    /// The one there is.
    pub fn find(&self, rule: &Rule, whom: Whom<'_>) -> Option<Arc<Counter>> {
        let mut hash = self.hash(rule.id, whom, &rule.scope);
        loop {
            let shard = self.shard(hash);
            let found = shard.get(&hash)?;
            if found.id == rule.id && is_subject(&found.subject, rule, whom) {
                return Some(Arc::clone(found));
            }
            hash = hash.wrapping_add(AGAIN);
        }
    }

    /// Forgets those that hold nothing and are used by nobody.
    pub fn sweep(&self, now: Now) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            // who holds one got it under this lock
            shard.retain(|_, counter| {
                Arc::strong_count(counter) > 1 || counter.pinned.load(Ordering::Relaxed) || !counter.is_idle(now)
            });
            if shard.capacity() > 64 && shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit();
            }
        }
    }

    pub fn each(&self, mut see: impl FnMut(&Arc<Counter>)) {
        for shard in &self.shards {
            let all: Vec<Arc<Counter>> = lock(shard).values().cloned().collect();
            all.iter().for_each(&mut see);
        }
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // the map takes the lower bits
        let place = usize::try_from(hash >> 48).unwrap_or_default() % SHARDS;
        lock(&self.shards[place])
    }

    fn hash(&self, id: u64, whom: Whom<'_>, scope: &crate::config::quota::Scope) -> u64 {
        let mut hasher = self.seeds.build_hasher();
        hasher.write_u64(id);
        scope.values(whom.who, whom.provider, |value| {
            hasher.write(value.as_bytes());
            hasher.write_u8(0xff);
        });
        hasher.finish()
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The values that tell this counter from the rule's others.
fn subject(rule: &Rule, whom: Whom<'_>) -> String {
    let mut text = String::new();
    let mut first = true;
    rule.scope.values(whom.who, whom.provider, |value| {
        if !first {
            text.push(BETWEEN);
        }
        text.push_str(value);
        first = false;
    });
    text
}

fn is_subject(subject: &str, rule: &Rule, whom: Whom<'_>) -> bool {
    let mut rest = Some(subject);
    let mut first = true;
    rule.scope.values(whom.who, whom.provider, |value| {
        let behind = if first { rest } else { rest.and_then(|rest| rest.strip_prefix(BETWEEN)) };
        rest = behind.and_then(|rest| rest.strip_prefix(value));
        first = false;
    });
    rest == Some("")
}

// === impl Hashed ===

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
