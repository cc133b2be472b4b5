//! What can go wrong with a call, in words a stranger may read (`say`) and words for us (`why`).
//!
//! Owns the closed list of kinds and what follows from each: status, metric label, who is to blame. It does not know any
//! wire format: how an error looks to a caller is the dialect's business (`dialect::openai::error_body`).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The cause behind an error, for the log only.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed call. `say` goes to the client: it never holds a host name, a key or an upstream body.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub say: Cow<'static, str>,
    /// The request member at fault, in the caller's own spelling (`model`, `stream_options.include_usage`).
    pub param: Option<Cow<'static, str>>,
    /// A finer machine-readable code than the kind's own.
    pub code: Option<&'static str>,
    /// For the log. Never shown to a client.
    pub why: Option<BoxError>,
}

/// Closed list: one exhaustive match gives status, label and blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be understood, or is ambiguous.
    BadRequest,
    /// No key, or one we do not know.
    Unauthorized,
    /// A known key that may not do this.
    Forbidden,
    /// No such path.
    NotFound,
    /// No such model.
    UnknownModel,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// Larger than the limit for this route.
    TooLarge,
    /// The header section is too large.
    HeadersTooLarge,
    /// `Expect` with something else than `100-continue`.
    UnknownExpectation,
    /// The body is encoded in a way we do not decode.
    UnsupportedEncoding,
    /// The client was too slow to send its request.
    RequestTimeout,
    RateLimited {
        retry_after: Duration,
    },
    /// A budget has no more for this call.
    OverBudget {
        /// Until it begins anew; `None`: never.
        resets_in: Option<Duration>,
    },
    /// The gateway itself has no room: connections or buffered bytes.
    Overloaded {
        retry_after: Duration,
    },
    /// The provider does not offer this operation.
    Unsupported,
    /// The provider answered with an error. The status is its own; a dialect may know a better one for its clients.
    UpstreamRefused {
        status: u16,
        reason: Refused,
        retry_after: Option<Duration>,
    },
    /// The provider could not be reached, or broke off.
    UpstreamFailed,
    UpstreamTimeout,
    /// The client left before the end.
    ClientGone,
    ShuttingDown,
    Internal,
}

/// Why a provider refused, whatever its dialect. Closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// It could not use the request.
    BadRequest,
    /// It does not know the gateway's credential: the operator's fault, not the caller's.
    Auth,
    /// The credential may not do this.
    Permission,
    /// No such model or path.
    NotFound,
    TooLarge,
    RateLimit,
    /// It has no room for anybody (Anthropic's 529).
    Overloaded,
    /// The prompt is longer than the model's window.
    ContextLength,
    /// A filter of the provider took offence.
    ContentFilter,
    /// The operator's account is empty or over its quota.
    Billing,
    Timeout,
    ServerError,
}

/// Whose fault it is: for the log, and so that an alert on our own faults stays quiet when a client errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Client,
    Upstream,
    Gateway,
}

// === impl Kind ===

impl Kind {
    /// A provider's refusal of which only the status is known.
    pub fn refused(status: u16) -> Self {
        Kind::UpstreamRefused { status, reason: Refused::of_status(status), retry_after: None }
    }

    /// The HTTP status of our own answer. 499 (client gone) is for the log alone.
    pub fn status(self) -> u16 {
        match self {
            Kind::BadRequest => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NotFound | Kind::UnknownModel => 404,
            Kind::MethodNotAllowed => 405,
            Kind::RequestTimeout => 408,
            Kind::TooLarge => 413,
            Kind::UnsupportedEncoding => 415,
            Kind::UnknownExpectation => 417,
            Kind::RateLimited { .. } | Kind::OverBudget { .. } => 429,
            Kind::HeadersTooLarge => 431,
            Kind::ClientGone => 499,
            Kind::Internal => 500,
            Kind::Unsupported => 400,
            Kind::UpstreamRefused { status, .. } => status,
            Kind::UpstreamFailed => 502,
            Kind::Overloaded { .. } | Kind::ShuttingDown => 503,
            Kind::UpstreamTimeout => 504,
        }
    }

    /// Metric label and log field: one word, a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Kind::BadRequest => "bad_request",
            Kind::Unauthorized => "unauthorized",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not_found",
            Kind::UnknownModel => "unknown_model",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::TooLarge => "too_large",
            Kind::HeadersTooLarge => "headers_too_large",
            Kind::UnknownExpectation => "unknown_expectation",
            Kind::UnsupportedEncoding => "unsupported_encoding",
            Kind::RequestTimeout => "request_timeout",
            Kind::RateLimited { .. } => "rate_limited",
            Kind::OverBudget { .. } => "over_budget",
            Kind::Overloaded { .. } => "overloaded",
            Kind::Unsupported => "unsupported",
            Kind::UpstreamRefused { .. } => "upstream_refused",
            Kind::UpstreamFailed => "upstream_failed",
            Kind::UpstreamTimeout => "upstream_timeout",
            Kind::ClientGone => "client_gone",
            Kind::ShuttingDown => "shutting_down",
            Kind::Internal => "internal",
        }
    }

    pub fn blame(self) -> Blame {
        match self {
            Kind::BadRequest
            | Kind::Unauthorized
            | Kind::Forbidden
            | Kind::NotFound
            | Kind::UnknownModel
            | Kind::MethodNotAllowed
            | Kind::TooLarge
            | Kind::HeadersTooLarge
            | Kind::UnknownExpectation
            | Kind::UnsupportedEncoding
            | Kind::RequestTimeout
            | Kind::RateLimited { .. }
            | Kind::OverBudget { .. }
            | Kind::Unsupported
            | Kind::ClientGone => Blame::Client,
            Kind::UpstreamRefused { .. } | Kind::UpstreamFailed | Kind::UpstreamTimeout => Blame::Upstream,
            Kind::Overloaded { .. } | Kind::ShuttingDown | Kind::Internal => Blame::Gateway,
        }
    }

    /// Seconds for `Retry-After` (RFC 9110 10.2.3), rounded up, where waiting helps.
    pub fn retry_after(self) -> Option<u64> {
        let after = match self {
            Kind::RateLimited { retry_after } | Kind::Overloaded { retry_after } => retry_after,
            Kind::UpstreamRefused { retry_after: Some(retry_after), .. } => retry_after,
            Kind::OverBudget { resets_in: Some(resets_in) } => resets_in,
            Kind::ShuttingDown => Duration::from_secs(1),
            _ => return None,
        };
        Some(after.as_secs() + u64::from(after.subsec_nanos() > 0))
    }
}

// === impl Refused ===

impl Refused {
    /// By the status alone, for a body that says nothing.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Refused::Auth,
            402 => Refused::Billing,
            403 => Refused::Permission,
            404 | 410 => Refused::NotFound,
            408 | 504 => Refused::Timeout,
            413 => Refused::TooLarge,
            429 => Refused::RateLimit,
            503 | 529 => Refused::Overloaded,
            500.. => Refused::ServerError,
            _ => Refused::BadRequest,
        }
    }

    /// Metric label and log field.
    pub fn label(self) -> &'static str {
        match self {
            Refused::BadRequest => "bad_request",
            Refused::Auth => "auth",
            Refused::Permission => "permission",
            Refused::NotFound => "not_found",
            Refused::TooLarge => "too_large",
            Refused::RateLimit => "rate_limit",
            Refused::Overloaded => "overloaded",
            Refused::ContextLength => "context_length",
            Refused::ContentFilter => "content_filter",
            Refused::Billing => "billing",
            Refused::Timeout => "timeout",
            Refused::ServerError => "server_error",
        }
    }
}

// === impl Error ===

impl Error {
    pub fn new(kind: Kind, say: impl Into<Cow<'static, str>>) -> Self {
        Error { kind, say: say.into(), param: None, code: None, why: None }
    }

    pub fn bad_request(say: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::BadRequest, say)
    }

    pub fn internal(say: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Internal, say)
    }

    #[must_use]
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    #[must_use]
    pub fn why(mut self, why: impl Into<BoxError>) -> Self {
        self.why = Some(why.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.label(), self.say)?;
        match &self.why {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
