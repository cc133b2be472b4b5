//! The one clock of limits and budgets, which tests can hold.
//!
//! Rates go by the time that only runs forward, periods of the calendar by the time of day.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { begun: Instant },
    Held(Arc<AtomicI64>),
}

/// A moment, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the clock was made; never runs back.
    pub mono: i64,
    /// Since 1970, UTC.
    pub wall: i64,
}

// === impl Clock ===

impl Clock {
    pub fn system() -> Self {
        Clock(Source::System { begun: Instant::now() })
    }

    /// Stands at `wall` microseconds since 1970 until somebody moves it. Clones are the same clock.
    pub fn held(wall: i64) -> Self {
        Clock(Source::Held(Arc::new(AtomicI64::new(wall))))
    }

    /// Moves a held clock on.
    pub fn advance(&self, time: std::time::Duration) {
        if let Source::Held(at) = &self.0 {
            at.fetch_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    pub fn now(&self) -> Now {
        match &self.0 {
            Source::System { begun } => Now {
                mono: i64::try_from(begun.elapsed().as_micros()).unwrap_or(i64::MAX),
                wall: jiff::Timestamp::now().as_microsecond(),
            },
            Source::Held(at) => {
                let at = at.load(Ordering::SeqCst);
                Now { mono: at, wall: at }
            }
        }
    }
}
