//! What operators see: metrics and the access log. Labels and fields come from the config, never from a caller's free text.

pub mod log;
pub mod metrics;
pub mod record;

pub use log::AccessWriter;
pub use metrics::Metrics;
