//! Connections to providers: names resolved by us, pooled by Pingora, one try at a time.
//!
//! It knows addresses, credentials and deadlines; not what is said over them.

mod attempt;
pub mod breaker;
mod credential;
mod dial;
pub mod gate;
mod peers;
mod pool;
pub mod retry;
#[cfg(test)]
mod tests;
pub mod track;
mod tunnel;

pub use attempt::{Failure, FailureKind, Reply};
pub use credential::{Body, Credentials, Proof, Sent};
pub use peers::{Place, Upstreams};
pub use pool::{Condition, EndpointShown};

/// How the gateway calls itself to providers.
pub const AGENT: http::HeaderValue = http::HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
