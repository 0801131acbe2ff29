//! What chat templates take for granted because Python runs them: string methods, `tojson` as transformers writes it,
//! `strftime_now`, `raise_exception`.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::is_space;
use super::render::MAX_OUTPUT;

/// What `raise_exception` says is marked with this, so that a template's refusal is told from a fault.
pub(super) const RAISED: &str = "raised by the template: ";
/// Around a date's format, where the clock is only marked.
pub(super) const MARKS: [char; 2] = ['\u{f8fe}', '\u{f8ff}'];

/// Levels of lists and objects that `tojson` goes down.
const MAX_JSON_DEPTH: usize = 64;

pub(super) fn install(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("trim", |text: &Value, chars: Option<&str>| strip(text, chars, [true, true]));
    environment.add_filter("tojson", to_json);
    // Python's None cannot be walked through; its texts and dicts have a length and items.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Bytes)
    });
    environment.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
}

/// A moment in a `strftime` format, UTC as in a container.
///
/// # Errors
/// When the format is none, or the time is beyond what a date can be.
pub fn format_date(format: &str, unix_s: i64) -> Result<String, jiff::Error> {
    let at = Timestamp::from_second(unix_s)?;
    strtime::format(format, &at.to_zoned(TimeZone::UTC))
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        let ends = match name {
            "strip" => Some([true, true]),
            "lstrip" => Some([true, false]),
            "rstrip" => Some([false, true]),
            _ => None,
        };
        if let Some(ends) = ends {
            let (chars,): (Option<&str>,) = from_args(args)?;
            return strip(value, chars, ends);
        }
        if name == "split" && args.is_empty() {
            let words = value.as_str().unwrap_or_default().split(is_space).filter(|word| !word.is_empty());
            return Ok(words.map(Value::from).collect());
        }
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

/// Characters that `strip` is told to take: each is looked for at each place.
const MAX_STRIPPED: usize = 256;

/// `str.strip` and its like: `ends` says which ends.
fn strip(value: &Value, chars: Option<&str>, ends: [bool; 2]) -> Result<Value, Error> {
    if chars.is_some_and(|chars| chars.len() > MAX_STRIPPED) {
        return Err(Error::new(ErrorKind::InvalidOperation, "strip: too many characters"));
    }
    let owned;
    let text = match value.as_str() {
        Some(text) => text,
        None => {
            owned = value.to_string();
            &owned
        }
    };
    let taken = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if ends[0] { text.trim_start_matches(taken) } else { text };
    Ok(Value::from(if ends[1] { text.trim_end_matches(taken) } else { text }))
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`, as transformers has it; keys stay in their order.
fn to_json(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = kwargs.get::<Option<usize>>("indent")?;
    let ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = kwargs.get::<Option<Vec<String>>>("separators")?;
    kwargs.assert_all_used()?;
    let between = if indent.is_some() { "," } else { ", " };
    let (between, colon) = match separators.as_deref() {
        Some([between, colon]) => (between.clone(), colon.clone()),
        _ => (between.to_owned(), ": ".to_owned()),
    };
    let mut json = Json { text: String::new(), indent, ascii, sorted, between, colon };
    json.value(value, 0)?;
    Ok(Value::from(json.text))
}

struct Json {
    text: String,
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
    between: String,
    colon: String,
}

impl Json {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_JSON_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deeply"));
        }
        // A value that shares its parts can be far larger as a text than it is; this is work that no fuel is counted for.
        if self.text.len() > MAX_OUTPUT {
            return Err(Error::new(ErrorKind::OutOfFuel, "tojson: too long"));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.text.push_str(&value.to_string()),
            ValueKind::Number => self.text.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => return self.list(value, depth),
            ValueKind::Map => return self.object(value, depth),
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: not a value of JSON")),
        }
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let items: Vec<Value> = value.try_iter()?.collect();
        self.text.push('[');
        for (at, item) in items.iter().enumerate() {
            self.separate(at, depth);
            self.value(item, depth + 1)?;
        }
        self.close(!items.is_empty(), depth, ']');
        Ok(())
    }

    fn object(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sorted {
            keys.sort();
        }
        self.text.push('{');
        for (at, key) in keys.iter().enumerate() {
            self.separate(at, depth);
            self.string(&key.to_string());
            self.text.push_str(&self.colon);
            self.value(&value.get_item(key)?, depth + 1)?;
        }
        self.close(!keys.is_empty(), depth, '}');
        Ok(())
    }

    fn separate(&mut self, at: usize, depth: usize) {
        if at > 0 {
            self.text.push_str(&self.between);
        }
        self.line(depth + 1);
    }

    fn close(&mut self, filled: bool, depth: usize, bracket: char) {
        if filled {
            self.line(depth);
        }
        self.text.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent.min(16) * depth));
        }
    }

    fn string(&mut self, value: &str) {
        self.text.push('"');
        for c in value.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\0'..='\u{1f}' => self.text.push_str(&format!("\\u{:04x}", u32::from(c))),
                c if self.ascii && !c.is_ascii() => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().for_each(|unit| self.text.push_str(&format!("\\u{unit:04x}")));
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// As Python's `repr` writes a float: the shortest digits, an exponent below 1e-4 and from 1e16.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = value.to_string();
    if text.contains('.') { text } else { text + ".0" }
}
