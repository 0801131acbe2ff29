//! What takes the place of an object's newest form while that is refused. Pure.
//!
//! Two may know a good form: this process, of an earlier build, and the source, where another process has left it. The later
//! generation counts, and of one generation the form that is remembered, for that is judged already. So replicas that read the
//! same come to the same, whichever of them saw the good form itself.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

/// The largest form that is kept for other processes, in bytes of its JSON.
pub const MAX_KEPT_BYTES: usize = 64 << 10;

/// What is in force of an object in the place of its newest form.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Fallback {
    /// Nothing: the newest form is good.
    #[default]
    Unneeded,
    /// Nothing: the newest form is refused, and no good one is known.
    Missing,
    /// This one, which is to outlive this process.
    Kept(Arc<GoodForm>),
    /// One of this generation, which is larger than what is kept.
    TooLarge(i64),
}

/// A form that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct GoodForm {
    /// The generation that had it, as the source counts, see [`Held`](crate::world::Held); 0 where it does not.
    pub generation: i64,
    /// The `spec` as it was read, defaults included.
    pub spec: Value,
}

impl Fallback {
    /// A form that is in force, of a spec that is plain data.
    pub(super) fn to(generation: i64, spec: &(impl Serialize + ?Sized)) -> Self {
        let spec = serde_json::to_value(spec).expect("a spec is plain data");
        if spec.to_string().len() > MAX_KEPT_BYTES {
            return Self::TooLarge(generation);
        }
        Self::Kept(Arc::new(GoodForm { generation, spec }))
    }

    /// What is to be said beside a refusal, of an object whose edits are `counted` so; nothing where nothing takes the object's place.
    pub(super) fn sentence(&self, counted: &str) -> Option<String> {
        let form = |generation: i64| match generation {
            0 => "its last valid form".to_owned(),
            generation => format!("its last valid form, of {counted} {generation},"),
        };
        match self {
            Self::Unneeded | Self::Missing => None,
            Self::Kept(good) => Some(format!("{} stays in force", form(good.generation))),
            Self::TooLarge(generation) => Some(format!(
                "{} stays in force until the control plane ends: it takes more than the {MAX_KEPT_BYTES} bytes that are kept",
                form(*generation)
            )),
        }
    }
}

/// Whether the form that the source keeps counts, rather than the one that is remembered.
pub(super) fn is_kept_one_later(kept: i64, remembered: Option<i64>) -> bool {
    remembered.is_none_or(|remembered| kept > remembered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_form_counts_and_of_one_generation_the_one_that_is_remembered() {
        assert!(is_kept_one_later(1, None));
        assert!(is_kept_one_later(3, Some(2)));
        assert!(!is_kept_one_later(2, Some(2)));
        assert!(!is_kept_one_later(1, Some(2)));
    }

    #[test]
    fn what_is_too_large_is_in_force_and_not_kept() {
        let text = |bytes: usize| "x".repeat(bytes - 2);
        let fits = Fallback::to(3, &text(MAX_KEPT_BYTES));
        assert!(matches!(&fits, Fallback::Kept(good) if good.generation == 3), "{fits:?}");
        assert_eq!(
            fits.sentence("generation").as_deref(),
            Some("its last valid form, of generation 3, stays in force")
        );
        let large = Fallback::to(3, &text(MAX_KEPT_BYTES + 1));
        assert_eq!(large, Fallback::TooLarge(3));
        assert!(large.sentence("generation").unwrap().contains("until the control plane ends"));
        assert_eq!(Fallback::to(0, "").sentence("generation").as_deref(), Some("its last valid form stays in force"));
        assert_eq!((Fallback::Unneeded.sentence("generation"), Fallback::Missing.sentence("generation")), (None, None));
    }
}
