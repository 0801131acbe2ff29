//! What every engine has cached, as the engines themselves tell it.
//!
//! An engine publishes an event for each block that it stores or evicts, one stream for each data-parallel rank. Each
//! stream goes the same way: bytes → [`decode`] → `trust` (is anything missing?) → what is to be applied, or forgotten.
//! What a stream cannot know for certain is not believed: a block that is missed costs a worse choice, a block that is
//! believed and not there costs one for every request until somebody notices.

pub mod agree;
pub mod decode;
pub mod discover;
pub mod endpoint;
pub mod event;
pub mod store;
pub mod subscribe;
pub mod supervise;
pub mod text;
pub mod trust;
pub mod vocabulary;
pub mod zmtp;
