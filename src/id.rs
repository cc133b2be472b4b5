//! Names and identifiers. Inside, a `ModelName` is valid because it exists: it was checked where it came in.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// What a client asks for in `model`: an entry of `models`, or `provider/model`.
    ModelName
);
name!(
    /// A name under `providers`.
    ProviderName
);
name!(
    /// The name of a virtual key: shown in logs and metrics, never the key itself.
    KeyName
);

/// One call, from the client's log to the provider's. Ours is a UUID version 7 (RFC 9562); a client's own `x-request-id`
/// is kept when it is 1 to 128 characters of `[A-Za-z0-9._:-]`.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Box<str>);

impl RequestId {
    pub fn generate() -> Self {
        let mut buffer = [0u8; uuid::fmt::Hyphenated::LENGTH];
        RequestId(Box::from(&*uuid::Uuid::now_v7().hyphenated().encode_lower(&mut buffer)))
    }

    /// The client's own id, or `None` when it is not one we would repeat in a log or a header.
    pub fn from_client(value: &[u8]) -> Option<Self> {
        let fit = (1..=128).contains(&value.len())
            && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'));
        fit.then(|| RequestId(String::from_utf8_lossy(value).into_owned().into_boxed_str()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
