//! Kubernetes' quantities (`10`, `"0.5"`, `500m`, `1Gi`) as numbers.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// What apimachinery accepts; the same pattern stands in every CRD with a quantity.
const PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// A number, written as an integer or as a string with a suffix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// Written as a number.
    Integer(i64),
    /// Written as a string.
    Text(String),
}

impl Quantity {
    /// Its value; none where the text is no quantity.
    pub fn value(&self) -> Option<f64> {
        let text = match self {
            Self::Integer(number) => return Some(*number as f64),
            Self::Text(text) => text.as_str(),
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c)).unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let scale = match suffix {
            "" => 1.0,
            "n" => 1e-9,
            "u" => 1e-6,
            "m" => 1e-3,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "P" => 1e15,
            "E" => 1e18,
            "Ki" => 2f64.powi(10),
            "Mi" => 2f64.powi(20),
            "Gi" => 2f64.powi(30),
            "Ti" => 2f64.powi(40),
            "Pi" => 2f64.powi(50),
            "Ei" => 2f64.powi(60),
            exponent => 10f64.powf(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
        };
        Some(number.parse::<f64>().ok()? * scale)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true, "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn suffixes_scale() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(Quantity::Text(text.to_owned()).value(), expected, "{text}");
        };
        check("0.5", Some(0.5));
        check("500m", Some(0.5));
        check("2k", Some(2000.0));
        check("1Ki", Some(1024.0));
        check("1e3", Some(1000.0));
        check("1E2", Some(100.0));
        check("-3", Some(-3.0));
        check("3E", Some(3e18));
        check(".25", Some(0.25));
        check("", None);
        check("five", None);
        check("5x", None);
    }
}
