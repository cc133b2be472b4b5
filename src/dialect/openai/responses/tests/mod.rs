//! The codec against recorded traffic, and by case.
