//! Names and identifiers. Inside, a `ModelName` is valid because it exists: it was checked where it came in.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

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
            /// The text, which is not copied.
            pub fn text(&self) -> Arc<str> {
                Arc::clone(&self.0)
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
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let [high, low] = [random(), random()].map(u64::to_le_bytes);
        let mut bits = [0u8; 10];
        bits[..8].copy_from_slice(&high);
        bits[8..].copy_from_slice(&low[..2]);
        let millis = u64::try_from(since.as_millis()).unwrap_or_default();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid();
        let mut buffer = [0u8; uuid::fmt::Hyphenated::LENGTH];
        RequestId(Box::from(&*id.hyphenated().encode_lower(&mut buffer)))
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

/// Ids must differ, not surprise: SplitMix64, seeded once a thread by the system, spares a system call per request.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(())));
    }
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_version_7_and_differ_across_threads() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..10_000).map(|_| RequestId::generate().0).collect::<Vec<_>>()))
            .collect();
        let ids: HashSet<Box<str>> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        assert_eq!(ids.len(), 40_000);
        assert!(ids.iter().all(|id| uuid::Uuid::parse_str(id).unwrap().get_version_num() == 7));
    }

    #[test]
    fn a_clients_id_is_kept_only_when_it_can_be_repeated_anywhere() {
        assert!(RequestId::from_client(b"req_1.a:B-2").is_some());
        for bad in [&b""[..], b"a b", b"a\r\nb", "\u{e9}".as_bytes(), &[b'x'; 129]] {
            assert!(RequestId::from_client(bad).is_none());
        }
    }
}
