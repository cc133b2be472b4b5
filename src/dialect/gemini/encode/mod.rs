//! From the bridge's words to Google's JSON.

pub mod config;
pub mod contents;
pub mod grounding;
pub mod media;
pub mod part;
pub mod reasoning;
pub mod request;
pub mod response;
pub mod stream;
pub mod tools;
