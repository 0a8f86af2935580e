//! The process tests.
