//! What a call used, in one convention for every provider.

use crate::units::Tokens;

/// Tokens as billed. `input` includes cached ones, whatever the provider's convention;
/// invariant: `cache_read <= input`, `reasoning <= output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub input: Tokens,
    /// Of `input`: read from the provider's prompt cache.
    pub cache_read: Tokens,
    pub output: Tokens,
    /// Of `output`: not shown to the caller.
    pub reasoning: Tokens,
}
