//! Connections to providers: names resolved by us, pooled by Pingora, one try at a time.
//!
//! It knows addresses, credentials and deadlines; not what is said over them.

mod attempt;
pub mod breaker;
mod credential;
pub mod gate;
mod peers;
pub mod retry;
pub mod track;
mod tunnel;

pub use attempt::{Failure, FailureKind, Reply};
pub use credential::{Body, Credentials, Proof, Sent};
pub use peers::Upstreams;
