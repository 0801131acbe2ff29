//! Runs that must show something: what users are promised, measured against a figure. The load of each is a function of
//! addresses, so that tests run it small in one process, and `must-show` large over processes of their own.

pub mod abort;
pub mod client;
pub mod cores;
pub mod drain;
pub mod edits;
pub mod fleet;
pub mod heard;
pub mod held;
pub mod kill;
pub mod manifests;
pub mod outcome;
pub mod prefix;
pub mod replay;
pub mod scale;
pub mod site;
pub mod subscribers;
pub mod tables;

pub use outcome::{Bound, Check, Outcome};
pub use site::Site;
