//! Single fields. Each function reports what is wrong and returns something all the same, so that decoding goes on and
//! lists keep their positions.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::path::{Path, Problems};
use super::{Object, Reason};
use crate::duration as wire;
use crate::limits::{MAX_MODEL_NAME_BYTES, MAX_NAME_BYTES, MAX_TIMEOUT};

/// A list's or map's length.
pub(super) fn count(problems: &mut Problems, at: &Path<'_>, found: usize, (what, max): (&'static str, usize)) {
    if found > max {
        problems.add(at, Reason::TooMany { what, found, max });
    }
}

/// A text's length, and that it has no control characters, which would break logs.
pub(super) fn text(problems: &mut Problems, at: &Path<'_>, value: &str, max: usize) {
    if value.len() > max {
        problems.add(at, Reason::TooLong { found: value.len(), max });
    } else if value.chars().any(char::is_control) {
        let wanted = "leave out control characters";
        problems.add(at, Reason::Malformed { found: value.to_owned(), wanted });
    }
}

/// What an object needs to be treated rightly: nothing of that is known yet.
pub(super) fn needs(problems: &mut Problems, at: &Path<'_>, wire: Vec<String>) {
    for (i, need) in wire.into_iter().enumerate() {
        problems.add(&at.item("needs", i), Reason::UnknownNeed(need));
    }
}

/// A name that must be there.
pub(super) fn name(problems: &mut Problems, at: &Path<'_>, value: &str) {
    match value {
        "" => problems.add(at, Reason::Missing("give it a name")),
        value => text(problems, at, value, MAX_NAME_BYTES),
    }
}

/// `namespace/name`.
pub(super) fn namespaced(problems: &mut Problems, at: &Path<'_>, value: &str) {
    let wanted = "names here are `namespace/name`, as in default/llama";
    match value.split_once('/') {
        Some((namespace, rest)) if !namespace.is_empty() && !rest.is_empty() && !rest.contains('/') => {
            text(problems, at, value, MAX_NAME_BYTES);
        }
        _ if value.is_empty() => problems.add(at, Reason::Missing("give it a name, as `namespace/name`")),
        _ => problems.add(at, Reason::Malformed { found: value.to_owned(), wanted }),
    }
}

/// A model name that must be there.
pub(super) fn model<T: From<String>>(problems: &mut Problems, at: &Path<'_>, value: String) -> T {
    match value.as_str() {
        "" => problems.add(at, Reason::Missing("give the model's name")),
        value => text(problems, at, value, MAX_MODEL_NAME_BYTES),
    }
    value.into()
}

/// A model name, absent where empty.
pub(super) fn optional_model<T: From<String>>(problems: &mut Problems, at: &Path<'_>, value: String) -> Option<T> {
    (!value.is_empty()).then(|| model(problems, at, value))
}

/// A label-like text, absent where empty.
pub(super) fn optional_text(problems: &mut Problems, at: &Path<'_>, value: String) -> Option<Arc<str>> {
    text(problems, at, &value, MAX_NAME_BYTES);
    (!value.is_empty()).then(|| value.into())
}

/// A number with a default.
pub(super) fn number<T>(
    problems: &mut Problems,
    at: &Path<'_>,
    value: Option<T>,
    (default, range): (T, RangeInclusive<T>),
) -> T
where
    T: PartialOrd + Display + Copy,
{
    let value = value.unwrap_or(default);
    if !range.contains(&value) {
        let (min, max) = (range.start().to_string(), range.end().to_string());
        problems.add(at, Reason::OutOfRange { found: value.to_string(), min, max });
    }
    value
}

/// A number that was checked to fit by `number`; the placeholder after a problem is the type's least value.
pub(super) fn narrow<T: TryFrom<u32> + Default>(value: u32) -> T {
    T::try_from(value).unwrap_or_default()
}

/// A duration with a default, of at least a nanosecond.
pub(super) fn wait(
    problems: &mut Problems,
    at: &Path<'_>,
    value: Option<wire::Duration>,
    default: Duration,
) -> Duration {
    duration(problems, at, value, (default, Duration::from_nanos(1)..=MAX_TIMEOUT))
}

/// A duration with a default.
pub(super) fn duration(
    problems: &mut Problems,
    at: &Path<'_>,
    value: Option<wire::Duration>,
    (default, range): (Duration, RangeInclusive<Duration>),
) -> Duration {
    let Some(given) = value else { return default };
    let exact = match (u64::try_from(given.seconds), u32::try_from(given.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Some(Duration::new(seconds, nanos)),
        _ => None,
    };
    match exact {
        Some(value) if range.contains(&value) => value,
        _ => {
            let found = exact.map_or_else(|| format!("{}s and {}ns", given.seconds, given.nanos), |d| format!("{d:?}"));
            let (min, max) = (format!("{:?}", range.start()), format!("{:?}", range.end()));
            problems.add(at, Reason::OutOfRange { found, min, max });
            default
        }
    }
}

/// An enum's number.
pub(super) fn choice<T: TryFrom<i32> + Default>(
    problems: &mut Problems,
    at: &Path<'_>,
    found: i32,
    known: &'static str,
) -> T {
    T::try_from(found).unwrap_or_else(|_| {
        problems.add(at, Reason::UnknownValue { found, known });
        T::default()
    })
}

/// What problems are attributed to: an object without a name cannot be named.
pub(super) fn object<N: From<String>>(name: &str, of: fn(N) -> Object) -> Option<Object> {
    (!name.is_empty()).then(|| of(name.to_owned().into()))
}
