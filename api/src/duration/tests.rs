use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::json::snapshot_from_json;

fn check(text: &str, expected: (i64, i32)) {
    let found: Duration = serde_json::from_value(text.into()).unwrap();
    assert_eq!((found.seconds, found.nanos), expected, "{text}");
}

fn refused(text: &str, wanted: &str) {
    let error = serde_json::from_value::<Duration>(text.into()).unwrap_err().to_string();
    assert_eq!(error, format!("{text:?} is no duration: {wanted}, as in \"1.5s\""));
}

#[test]
fn durations_are_read() {
    check("0s", (0, 0));
    check("1.5s", (1, 500_000_000));
    check("-0.000000001s", (0, -1));
    check("-1.25s", (-1, -250_000_000));
    check("007s", (7, 0));
    check("9223372036854775807.999999999s", (i64::MAX, 999_999_999));
    check("-9223372036854775807.999999999s", (-i64::MAX, -999_999_999));
}

#[test]
fn what_is_no_duration_is_refused() {
    for text in [
        "--9223372036854775808s",
        "--1s",
        "+1s",
        "s",
        "-s",
        ".5s",
        "1.s",
        "1.+5s",
        "1.-5s",
        "1.5.5s",
        "1 s",
        "\u{662}s",
    ] {
        refused(text, "digits stand before the `s`, and on both sides of a point");
    }
    for text in ["", "-", "1", "1m", "1S"] {
        refused(text, "it is in seconds and ends in `s`");
    }
    refused("9223372036854775808s", "the seconds fit in 64 bits");
    refused("-9223372036854775808s", "the seconds fit in 64 bits");
    refused("1.0000000000s", "it has at most nine decimals");
    let number = serde_json::from_str::<Duration>("1").unwrap_err().to_string();
    assert!(number.contains("expected a duration such as \"1.5s\""), "{number}");
}

/// What the wire can hold and JSON cannot is an error, not a panic.
#[test]
fn what_json_cannot_say_is_not_written() {
    for (seconds, nanos) in [(1, -1), (-1, 1), (0, 1_000_000_000), (0, i32::MIN), (i64::MIN, i32::MAX)] {
        assert!(serde_json::to_string(&Duration { seconds, nanos }).is_err(), "{seconds} {nanos}");
    }
    let least = Duration { seconds: i64::MIN, nanos: 0 };
    assert_eq!(serde_json::to_string(&least).unwrap(), "\"-9223372036854775808s\"");
}

#[test]
fn a_hostile_duration_in_a_file_is_a_problem_with_its_place() {
    let json = r#"{"backends": [{"name": "d/b", "timeouts": {"connect": "--9223372036854775808s"}}]}"#;
    let problems = snapshot_from_json(json.as_bytes()).unwrap_err();
    assert_eq!(problems.len(), 1);
    let text = problems[0].to_string();
    assert!(text.starts_with("line 1 column ") && text.contains("is no duration"), "{text}");
}

proptest! {
    #[test]
    fn reading_undoes_writing(value in any::<time::Duration>()) {
        let value = Duration::from(value);
        let text = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(serde_json::from_str::<Duration>(&text).unwrap(), value);
        // The message is the well-known one: the other end may use any implementation of it.
        let other = prost_types::Duration { seconds: value.seconds, nanos: value.nanos };
        prop_assert_eq!(value.encode_to_vec(), other.encode_to_vec());
    }

    #[test]
    fn no_text_panics(text in "-{0,2}\\+?[0-9]{0,21}\\.?[+0-9]{0,11}s?") {
        if let Ok(value) = serde_json::from_value::<Duration>(text.into()) {
            prop_assert!(value.nanos.unsigned_abs() < 1_000_000_000);
        }
    }
}
