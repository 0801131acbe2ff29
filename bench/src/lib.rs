//! Simulated engine and measuring tools.

pub mod engine;
