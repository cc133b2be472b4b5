//! Words as requests.
