//! What a call used, in one convention for every provider.

use crate::units::Tokens;

/// Tokens as billed. `input` includes cached ones, whatever the provider's convention;
/// invariant: `cache_read + cache_write_5m + cache_write_1h <= input`, `reasoning <= output`, `input_audio <= input`,
/// `output_audio <= output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub input: Tokens,
    /// Of `input`: read from the provider's prompt cache.
    pub cache_read: Tokens,
    /// Of `input`: written to the prompt cache for five minutes (or for as long as the provider does where it has one term only).
    pub cache_write_5m: Tokens,
    /// Of `input`: written to the prompt cache for an hour.
    pub cache_write_1h: Tokens,
    /// Of `input`: audio.
    pub input_audio: Tokens,
    pub output: Tokens,
    /// Of `output`: not shown to the caller.
    pub reasoning: Tokens,
    /// Of `output`: audio.
    pub output_audio: Tokens,
    /// Searches and the like that the provider ran itself and bills apart.
    pub server_tool_calls: u32,
}
