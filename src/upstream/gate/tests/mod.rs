//! The gate, on a held clock.

mod fairness;
mod learning;
mod overload;
mod queueing;
mod spellings;
mod turns;
mod world;
