//! Atomics and the shared pointer, from loom when the interleavings are checked.

#[cfg(not(all(loom, test)))]
pub(super) use real::*;

#[cfg(all(loom, test))]
pub(super) use model::*;

#[cfg(not(all(loom, test)))]
mod real {
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    pub(in crate::index) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    /// A pointer to the current generation.
    pub(in crate::index) type Swap<T> = ArcSwap<T>;

    /// A reader's hold on a generation: one relaxed load tells whether it is still the current one.
    pub(in crate::index) type Cached<T> = arc_swap::Cache<Arc<Swap<T>>, Arc<T>>;

    pub(in crate::index) fn cached<T>(swap: &Arc<Swap<T>>) -> Cached<T> {
        arc_swap::Cache::new(Arc::clone(swap))
    }
}

#[cfg(all(loom, test))]
mod model {
    use std::sync::Arc;

    pub(in crate::index) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    #[derive(Debug)]
    pub(in crate::index) struct Swap<T>(loom::sync::Mutex<Arc<T>>);

    impl<T> Swap<T> {
        pub(in crate::index) fn new(value: Arc<T>) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(in crate::index) fn store(&self, value: Arc<T>) {
            *self.0.lock().expect("no holder panics") = value;
        }
    }

    #[derive(Debug)]
    pub(in crate::index) struct Cached<T> {
        swap: Arc<Swap<T>>,
        held: Arc<T>,
    }

    impl<T> Clone for Cached<T> {
        fn clone(&self) -> Self {
            Self { swap: Arc::clone(&self.swap), held: Arc::clone(&self.held) }
        }
    }

    impl<T> Cached<T> {
        pub(in crate::index) fn load(&mut self) -> &Arc<T> {
            self.held = Arc::clone(&self.swap.0.lock().expect("no holder panics"));
            &self.held
        }
    }

    pub(in crate::index) fn cached<T>(swap: &Arc<Swap<T>>) -> Cached<T> {
        let held = Arc::clone(&swap.0.lock().expect("no holder panics"));
        Cached { swap: Arc::clone(swap), held }
    }
}
