//! From a failure to an answer, in the caller's grammar: one table at the edge.

use std::time::Duration;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::{reply, router};
use crate::call::Call;
use crate::dialect;
use crate::error::{Error, Kind};
use crate::upstream::{Failure, FailureKind};

/// After an answer to a request whose body is still coming, so much of it is read and thrown away, so that the client gets to read the
/// answer: closing at once would reset the connection under it (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 32 * 1024 * 1024;

/// Answer with an error, or end a stream that has begun. Never fails: what cannot be said is only recorded.
pub async fn answer(session: &mut Session, call: &mut Call, error: &Error) {
    call.fail(error);
    if session.response_written().is_some_and(|head| !head.status.is_informational()) {
        return;
    }
    let (status, body) = dialect::error(call.grammar, error);
    call.status = status;
    if error.kind == Kind::ClientGone {
        session.set_keepalive(None);
        return;
    }
    if let Err(failed) = write(session, call, error, body).await {
        tracing::debug!("an error answer could not be written: {failed}");
        session.set_keepalive(None);
        return;
    }
    // a slow client has had its time
    if !session.is_body_done() && error.kind != Kind::RequestTimeout {
        linger(session).await;
    }
}

async fn write(session: &mut Session, call: &mut Call, error: &Error, body: Bytes) -> pingora::Result<()> {
    let mut head = ResponseHeader::build_no_case(call.status, Some(12))?;
    head.insert_header("content-type", "application/json")?;
    head.insert_header("content-length", body.len())?;
    if let Some(seconds) = error.kind.retry_after() {
        head.insert_header("retry-after", seconds)?;
    }
    match error.kind {
        Kind::Unauthorized => head.insert_header("www-authenticate", "Bearer")?,
        Kind::MethodNotAllowed => head.insert_header("allow", router::allowed(session.req_header().uri.path()))?,
        // the caller's SDK must not repeat what cannot succeed, and need not guess about what can
        Kind::Overloaded { .. } | Kind::ShuttingDown => head.insert_header("x-should-retry", "true")?,
        Kind::OverBudget { .. } => head.insert_header("x-should-retry", "false")?,
        _ => {}
    }
    reply::ours(&mut head, call)?;
    if !session.is_body_done() {
        session.set_keepalive(None);
    }
    call.bytes_out += body.len() as u64;
    let bodiless = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

async fn linger(session: &mut Session) {
    let discard = async {
        let mut left = LINGER_BYTES;
        while let Ok(Some(chunk)) = session.read_request_body().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, discard).await;
}

/// A failed attempt in the client's words. The reason stays in the log.
pub fn of_attempt(failure: Failure) -> Error {
    let error = match failure.kind {
        FailureKind::Credentials => {
            Error::new(Kind::UpstreamFailed, "The gateway's credentials for the provider could not be had.")
                .code("provider_credentials")
        }
        FailureKind::Connect => {
            Error::new(Kind::UpstreamFailed, "The provider could not be reached.").code("upstream_connect")
        }
        FailureKind::Broken => Error::new(Kind::UpstreamFailed, "The provider broke off the connection."),
        FailureKind::Timeout => Error::new(Kind::UpstreamTimeout, "The provider did not answer in time."),
    };
    error.why(failure.why)
}

/// An error of Pingora's own phases, for the opaque lane.
pub fn of_pingora(error: &pingora::Error) -> Error {
    use pingora::{ErrorSource, ErrorType};
    let kind = match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(status)) if *status < 500 => Kind::BadRequest,
        (
            ErrorSource::Downstream,
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::H2Error,
        ) => Kind::ClientGone,
        (ErrorSource::Downstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => Kind::RequestTimeout,
        (ErrorSource::Downstream, _) => Kind::BadRequest,
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout | ErrorType::ConnectTimedout) => {
            Kind::UpstreamTimeout
        }
        (ErrorSource::Upstream, _) => Kind::UpstreamFailed,
        (ErrorSource::Internal | ErrorSource::Unset, _) => Kind::Internal,
    };
    let say = match kind {
        Kind::UpstreamFailed => "The provider could not be reached, or broke off.",
        Kind::UpstreamTimeout => "The provider did not answer in time.",
        Kind::RequestTimeout => "The request came too slowly.",
        Kind::BadRequest => "The request could not be read.",
        Kind::ClientGone => "The client closed the connection.",
        _ => "The gateway failed to answer.",
    };
    Error::new(kind, say).why(error.to_string())
}
