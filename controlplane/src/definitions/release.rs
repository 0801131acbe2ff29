//! Releases in their order.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A release as `1.2.3` or `1.2.3-rc.1`, which comes before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    numbers: [u64; 3],
    /// Empty for the release itself.
    candidate: String,
}

impl Release {
    /// This program's.
    ///
    /// # Panics
    /// Never: cargo accepts no other version.
    pub fn ours() -> Self {
        env!("CARGO_PKG_VERSION").parse().expect("cargo's versions are of this form")
    }
}

impl FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no release as 1.2.3");
        // What follows a plus counts for nothing.
        let text = text.split('+').next().unwrap_or_default();
        let (numbers, candidate) = text.split_once('-').unwrap_or((text, ""));
        let numbers: Vec<u64> = numbers.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let numbers = numbers.try_into().map_err(|_| wrong())?;
        Ok(Self { numbers, candidate: candidate.to_owned() })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if self.candidate.is_empty() { Ok(()) } else { write!(f, "-{}", self.candidate) }
    }
}

impl Ord for Release {
    fn cmp(&self, other: &Self) -> Ordering {
        let candidates = match (self.candidate.as_str(), other.candidate.as_str()) {
            ("", "") => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (ours, theirs) => by_parts(ours, theirs),
        };
        self.numbers.cmp(&other.numbers).then(candidates)
    }
}

impl PartialOrd for Release {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As semver.org has it: part by part, numbers by value and before words, the shorter first where all else is equal.
fn by_parts(ours: &str, theirs: &str) -> Ordering {
    let part = |text: &str| text.parse::<u64>().map_or((1, 0, text.to_owned()), |number| (0, number, String::new()));
    ours.split('.').map(part).cmp(theirs.split('.').map(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_as_semver_orders_them() {
        let rising = ["0.1.0", "0.2.0-alpha", "0.2.0-rc.2", "0.2.0-rc.10", "0.2.0", "0.10.0", "1.0.0-rc", "1.0.0"];
        let releases = rising.map(|text| text.parse::<Release>().unwrap());
        assert!(releases.is_sorted_by(|a, b| a < b), "{releases:?}");
        assert_eq!("1.0.0+build.7".parse::<Release>().unwrap(), releases[7]);
        assert_eq!(releases[3].to_string(), "0.2.0-rc.10");
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for text in ["", "1", "1.2", "1.2.3.4", "v1.2.3", "1.2.x", "-"] {
            text.parse::<Release>().unwrap_err();
        }
    }
}
