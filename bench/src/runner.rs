//! Runs contenders interleaved.
