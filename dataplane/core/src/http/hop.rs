//! What is not forwarded.
