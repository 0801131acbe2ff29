//! Load: what is asked, when, over which connections, and what came of it.
pub mod hist;
