//! Watching answers as they pass.
