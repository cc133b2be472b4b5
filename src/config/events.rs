//! Where events go: the checked form of `events`. Owns no connection; `crate::event` sends.

use super::secret::Secret;

/// Read once, at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventsConfig {
    pub webhook: Option<Webhook>,
    pub redis: Option<Stream>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Whoever knows it can often write there.
    pub url: Secret,
    /// What bodies are signed with.
    pub secret: Secret,
    pub on: On,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub url: Secret,
    pub stream: String,
    pub on: On,
}

/// What is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct On {
    /// Budgets that pass one of their soft percents.
    pub budget: bool,
    /// What each try was booked with.
    pub cost: bool,
}

/// Where events go in Redis, unless it is said.
pub const STREAM: &str = "tollgate:events";

// === impl On ===

impl On {
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [("budget", self.budget), ("cost", self.cost)].into_iter().filter(|(_, on)| *on).map(|(word, _)| word)
    }
}
