//! When a call is tried again at a target that has failed it: how long to wait, and how many may.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::config::policy::Retry;

/// Retries are so many in a hundred calls.
#[derive(Debug, Default)]
pub struct Budget(Mutex<(u64, u64)>);

pub fn backoff(retry: &Retry, nth: u32, _seed: u64) -> Duration {
    retry.backoff.saturating_mul(1 << nth.min(16)).min(retry.max_backoff)
}

impl Budget {
    pub fn deposit(&self, _percent: u8) {}

    pub fn withdraw(&self, _now: Instant) -> bool {
        self.0.lock().is_ok()
    }
}
