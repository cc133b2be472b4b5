//! A pool over time: the clock is an argument.
