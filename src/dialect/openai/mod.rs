//! The OpenAI grammar: chat completions, legacy completions, embeddings, responses.
//!
//! Only what the splice lane needs: which members of a request are read and changed (`request`), what a reply used (`usage`), how an
//! event stream is followed beside the forwarding (`stream`), and our own errors in its words (`error`). And legacy completions for
//! providers that have conversations only (`completions`).
//! For the splice lane only what it needs: which members of a request are read and changed (`request`), what a reply used (`usage`), how
//! an event stream is followed beside the forwarding (`stream`). For the bridge the whole of it: `chat`. For both: our own errors in its
//! words (`error`), and what a provider's mean (`refusal`).
//! Truth: the OpenAI API reference and its OpenAPI description, 2.3.0.

pub mod chat;
pub mod completions;
pub mod error;
pub mod refusal;
pub mod responses;
pub mod stream;
pub mod usage;

pub use chat::Chat;
