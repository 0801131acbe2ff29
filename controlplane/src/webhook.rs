//! The admission webhook: an API server asks, before it stores one of our objects, whether it is right.
//!
//! [`Webhook`] is the server: HTTPS with whatever certificate is the newest, one path, everything bounded. What a question means is decided
//! by `review`, which is pure and calls what `check` and the directory source call. [`reach`] tells when an API server has come through to
//! a webhook of ours, which is part of being ready.
//!
//! Every replica serves it, whoever holds the Lease. Its Service publishes addresses that are not ready, for a replica is ready only once
//! the API server has come through.

mod answer;
mod notes;
mod pace;
mod reach;
mod review;
mod serve;

pub use reach::{Reach, reach};
pub use review::{Answer, Malformed, Request};
pub use serve::{Counts, Webhook};

#[cfg(test)]
mod tests;
