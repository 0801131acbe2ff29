//! Runs that must show something.
