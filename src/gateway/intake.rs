//! The client's request body, read whole within its bounds: size, time, rate, and the memory of all calls together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora_proxy::Session;

use crate::config::snapshot::Server;
use crate::error::{Error, Kind, Result};

/// An upload may be slow to start before its rate counts.
const RATE_GRACE: Duration = Duration::from_secs(5);
/// Room made at once for a declared length; more grows as it comes.
const FIRST_ROOM: usize = 1024 * 1024;

/// Bytes held in memory by all calls, against one limit.
#[derive(Debug, Default)]
pub struct Buffered(AtomicUsize);

/// Bytes of one call, given back when dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Buffered>,
    bytes: usize,
}

// === impl Buffered ===

impl Buffered {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub fn share(self: &Arc<Self>) -> Share {
        Share { of: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    /// Refuse early what would not fit now. Nothing is held for bytes that were only announced: a few idle clients could take all.
    fn room_for(&self, bytes: usize, limit: usize) -> Result<()> {
        if self.of.bytes().saturating_add(bytes) > limit { Err(no_room()) } else { Ok(()) }
    }

    /// Hold `bytes` in all, or refuse when all calls together would hold more than `limit`.
    fn grow_to(&mut self, bytes: usize, limit: usize) -> Result<()> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|m| *m > 0) else { return Ok(()) };
        let before = self.of.0.fetch_add(more, Ordering::AcqRel);
        if before.saturating_add(more) > limit {
            self.of.0.fetch_sub(more, Ordering::AcqRel);
            return Err(no_room());
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Read the body. `declared` was checked by the front door.
pub async fn read(
    session: &mut Session,
    server: &Server,
    declared: Option<u64>,
    expects_continue: bool,
    share: &mut Share,
) -> Result<Bytes> {
    let too_large = || too_large(server);
    let declared = declared.map_or(Ok(0), usize::try_from).map_err(|_| too_large())?;
    if declared > server.body_limit {
        return Err(too_large());
    }
    share.room_for(declared, server.buffer_limit)?;
    if expects_continue {
        session.write_continue_response().await.map_err(gone)?;
    }
    let begun = Instant::now();
    let whole = async {
        let Some(first) = session.read_request_body().await.map_err(gone)? else { return Ok(Bytes::new()) };
        share.grow_to(first.len(), server.buffer_limit)?;
        if first.len() >= declared && session.is_body_done() {
            return if first.len() > server.body_limit { Err(too_large()) } else { Ok(first) };
        }
        let mut body = Vec::with_capacity(declared.clamp(first.len(), FIRST_ROOM.max(first.len())));
        body.extend_from_slice(&first);
        drop(first);
        while let Some(chunk) = session.read_request_body().await.map_err(gone)? {
            let len = body.len() + chunk.len();
            if len > server.body_limit {
                return Err(too_large());
            }
            share.grow_to(len, server.buffer_limit)?;
            let taken = begun.elapsed();
            if taken > RATE_GRACE && (len as u64) < taken.as_secs().saturating_mul(server.body_min_rate) {
                return Err(slow());
            }
            // grow in one step where the length is known: doubling would hold up to twice the body
            if body.capacity() < len {
                body.reserve_exact(declared.max(len) - body.len());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(body))
    };
    tokio::time::timeout(server.body_timeout, whole).await.unwrap_or_else(|_| Err(slow()))
}

pub fn too_large(server: &Server) -> Error {
    let say = format!("The request body is larger than this gateway accepts ({} bytes).", server.body_limit);
    Error::new(Kind::TooLarge, say)
}

fn no_room() -> Error {
    Error::new(
        Kind::Overloaded { retry_after: Duration::from_secs(1) },
        "The gateway holds as many request bytes as it may; try again in a moment.",
    )
}

fn slow() -> Error {
    Error::new(Kind::RequestTimeout, "The request body came too slowly.")
}

/// The client broke off, or its framing is broken: nothing more can be said to it in most cases.
fn gone(error: Box<pingora::Error>) -> Error {
    let kind = match error.etype() {
        pingora::ErrorType::ReadTimedout => Kind::RequestTimeout,
        pingora::ErrorType::ConnectionClosed
        | pingora::ErrorType::ReadError
        | pingora::ErrorType::WriteError
        | pingora::ErrorType::H2Error => Kind::ClientGone,
        _ => Kind::BadRequest,
    };
    Error::new(kind, "The request body could not be read to its end.").why(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_calls_share_one_limit_and_give_back_what_they_held() {
        let all = Arc::new(Buffered::default());
        let mut one = all.share();
        let mut two = all.share();
        one.grow_to(60, 100).unwrap();
        let refused = two.grow_to(50, 100).unwrap_err();
        assert!(matches!(refused.kind, Kind::Overloaded { .. }));
        assert_eq!(refused.kind.retry_after(), Some(1));
        two.grow_to(40, 100).unwrap();
        drop(one);
        assert_eq!(all.bytes(), 40);
        two.grow_to(100, 100).unwrap();
        drop(two);
        assert_eq!(all.bytes(), 0);
    }
}
