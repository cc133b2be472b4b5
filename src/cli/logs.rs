//! Text logs, on stderr: readable on a terminal, JSON lines elsewhere.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::snapshot::{Log, LogFormat};

/// Pingora reports each closed connection as an error; calls have their own record.
const QUIET: &str = "pingora_core=off,pingora_proxy=off,h2=off,rustls=off";

pub fn start(log: &Log) {
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::try_new(format!("{QUIET},{level}")).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    let text = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(color);
    // a second start in one process (tests) keeps the first
    let _ = if text { builder.with_target(false).try_init() } else { builder.json().try_init() };
}
