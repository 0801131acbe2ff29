//! Byte classes.
