//! The data port: one `ProxyHttp` as the shell of everything, in the order in which a request meets it.

mod asking;
mod attempt;
mod billing;
mod bridge;
mod connections;
mod exchange;
pub mod explain;
mod failover;
mod fault;
mod flow;
mod front;
mod intake;
mod local;
mod opaque;
mod proxy;
mod reply;
mod router;
mod spending;
mod splice;
pub mod status;
mod task;
pub mod tls;

pub use connections::{Connections, Door};
pub use intake::Buffered;
pub use proxy::{Gateway, Shared};
