//! Behaviour through the front door: the real binary, a scripted provider behind it, one rule a test.

mod auth;
mod bridge;
mod budgets;
mod corpus;
mod credentials;
mod dialects;
mod errors;
mod explain;
mod front_door;
mod life;
mod limits;
mod metrics;
mod opaque;
mod overload;
mod pools;
mod resume;
mod routing;
mod slow_clients;
mod status;
mod streams;
mod support;
mod tasks;
mod upstreams;
mod usage;
