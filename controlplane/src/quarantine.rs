//! An object that makes us panic is a fault of ours, and no reason to stop for all the others: it counts as one that is refused, until it
//! is edited.

use std::any::Any;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, PoisonError};

thread_local! {
    /// Whether what this thread does is caught.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Texts of panics that were told. What is read while one lasts mostly panics again, and is to be told once.
#[derive(Debug, Default)]
pub(crate) struct Panics(HashSet<String>);

impl Panics {
    /// More of them than this are not told: whoever was told so many has enough to do.
    const MOST: usize = 100;

    /// Whether it is to be told.
    pub(crate) fn is_news(&mut self, text: &str) -> bool {
        self.0.len() < Self::MOST && self.0.insert(text.to_owned())
    }

    /// They are over, and another one is news again.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// From now on the process says where a panic came from, but of those that are caught each place and text once only.
pub(crate) fn tell_once() {
    let (told, tell) = (Mutex::new(Panics::default()), take_hook());
    set_hook(Box::new(move |panic| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if !GUARDED.get() || told.is_news(&panic.to_string()) {
            tell(panic);
        }
    }));
}

/// What comes of work on one object; in a sentence, that it panicked. What the work changes besides must be in order all the same.
pub(crate) fn guarded<T>(object: &impl Display, work: impl FnOnce() -> T) -> Result<T, String> {
    caught(work).map_err(|why| {
        tracing::error!(%object, why, "the control plane panicked over this object and goes on without it: please report it");
        "the control plane cannot read it, by a fault of its own that its log tells of; please report it".to_owned()
    })
}

/// What comes of work; the panic's text where it panicked. What the work changes besides must be in order all the same.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.map_err(|payload| text(&*payload))
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_panic_is_news_once_until_it_is_over_and_there_are_not_too_many() {
        let mut panics = Panics::default();
        assert_eq!(["a", "a", "b", "a"].map(|text| panics.is_news(text)), [true, false, true, false]);
        panics.forget();
        assert!(panics.is_news("a"));
        assert_eq!((0..1_000).filter(|n| panics.is_news(&n.to_string())).count(), Panics::MOST - 1);
    }

    #[test]
    fn a_panic_is_told_by_its_text() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| -> u8 { panic!("plain") }), Err("plain".to_owned()));
        assert_eq!(caught(|| -> u8 { panic!("with {}", 7) }), Err("with 7".to_owned()));
        assert_eq!(caught(|| -> u8 { std::panic::panic_any(7) }), Err("a panic without a text".to_owned()));
    }
}
