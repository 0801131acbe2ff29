//! Where the world comes from. Each source fills a [`crate::world::World`]; nothing past here knows which one it was.

pub mod directory;
pub mod manifest;
