//! What every call passes before a provider is asked. One concern a file.

pub mod auth;
pub mod jwt;
pub mod tags;
