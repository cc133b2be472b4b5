//! Why a token opens nothing, in our own words: nothing of the token is repeated.

use std::time::Duration;

use crate::error::{Error, Kind};

/// A token was not taken. The later kinds say more: of two entries with the same issuer, the one that got further is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It is no token.
    Unreadable(&'static str),
    /// Nobody here vouches for it.
    Untrusted(&'static str),
    /// Signed with a key that its issuer does not show.
    UnknownKey,
    /// Its issuer's keys cannot be had; it may be good.
    Unavailable,
    /// Its issuer made it, but not for this.
    Unfit(&'static str),
    NotYet,
    Expired,
}

/// Where the issuer's keys could not be had.
const COME_BACK: Duration = Duration::from_secs(5);

// === impl Refusal ===

impl Refusal {
    pub const fn unreadable(why: &'static str) -> Self {
        Refusal::Unreadable(why)
    }

    pub const fn untrusted(why: &'static str) -> Self {
        Refusal::Untrusted(why)
    }

    pub const fn unfit(why: &'static str) -> Self {
        Refusal::Unfit(why)
    }

    /// Whether whoever shows such a token may be guessing.
    pub fn is_a_guess(self) -> bool {
        match self {
            Refusal::Unreadable(_) | Refusal::Untrusted(_) | Refusal::UnknownKey => true,
            Refusal::Unavailable | Refusal::Unfit(_) | Refusal::NotYet | Refusal::Expired => false,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let refused = |why: &str| {
            Error::new(Kind::Unauthorized, format!("The token is not accepted: {why}.")).code("invalid_token")
        };
        match refusal {
            Refusal::Unreadable(why) | Refusal::Untrusted(why) | Refusal::Unfit(why) => refused(why),
            Refusal::UnknownKey => refused("its issuer shows no key that it is signed with"),
            Refusal::Unavailable => Error::new(
                Kind::Overloaded { retry_after: COME_BACK },
                "The token cannot be verified at present, since its issuer's keys cannot be had; try again.",
            )
            .code("issuer_unavailable"),
            Refusal::NotYet => {
                Error::new(Kind::Unauthorized, "The token is not valid yet.").code("token_not_yet_valid")
            }
            Refusal::Expired => Error::new(Kind::Unauthorized, "The token has expired.").code("token_expired"),
        }
    }
}
