//! Valid snapshots for property tests.
