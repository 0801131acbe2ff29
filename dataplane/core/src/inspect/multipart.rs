//! Forms (audio transcriptions): the `model` and `stream` fields of a multipart/form-data body. Strict on delimiters, so
//! that no engine finds other parts than we do.

use memchr::memmem;

use super::error::{ErrorKind, InspectError};
use super::text::{Span, Text};
use super::{BodyFormat, Inspected, MAX_BODY_BYTES};

/// Parts of one form.
const MAX_PARTS: usize = 256;
/// Bytes of the header of one part.
const MAX_HEADER_BYTES: usize = 8 << 10;
/// Bytes of a field that we read.
const MAX_FIELD_BYTES: usize = 1 << 10;

type Result<T> = std::result::Result<T, InspectError>;

/// The boundary that a Content-Type names: one parameter, 1 to 70 bytes that RFC 2046 allows, quoted or not.
pub fn boundary_of(content_type: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    for parameter in content_type.split(|byte| *byte == b';').skip(1) {
        let split = parameter.iter().position(|byte| *byte == b'=')?;
        if !parameter[..split].trim_ascii().eq_ignore_ascii_case(b"boundary") {
            continue;
        }
        let value = parameter[split + 1..].trim_ascii();
        let value = value.strip_prefix(b"\"").map_or(Some(value), |rest| rest.strip_suffix(b"\""))?;
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
        if found.is_some() || value.is_empty() || value.len() > 70 || !value.iter().all(allowed) {
            return None;
        }
        found = Some(value);
    }
    found.filter(|value| value.last() != Some(&b' '))
}

/// Reads a form. On an error `out` holds nothing of use.
///
/// # Errors
/// When the Content-Type has no usable boundary, when a delimiter or a part's header is malformed, when something
/// stands before the first or behind the last delimiter, or when a field that we read occurs twice.
pub fn inspect_multipart(body: &[u8], content_type: &[u8], out: &mut Inspected) -> Result<()> {
    out.clear();
    out.format = BodyFormat::Multipart;
    if body.len() > MAX_BODY_BYTES {
        return Err(InspectError::new(ErrorKind::TooLarge, MAX_BODY_BYTES));
    }
    let boundary = boundary_of(content_type).ok_or(InspectError::new(ErrorKind::Boundary, 0))?;
    let delimiter = [b"\r\n--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    // The first delimiter has no line end before it.
    if !body.starts_with(&delimiter[2..]) {
        return Err(InspectError::new(ErrorKind::Form, 0));
    }
    let mut at = delimiter.len() - 2;
    for _ in 0..MAX_PARTS {
        match body.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(b"--") if matches!(&body[at + 2..], b"" | b"\r\n") => return Ok(()),
            _ => return Err(InspectError::new(ErrorKind::Form, at)),
        }
        let content = part_header(body, at)?;
        let start = content.start;
        // A delimiter right behind the empty line: an empty part for some readers (RFC 2046), content for others.
        if body[start..].starts_with(&delimiter[2..]) {
            return Err(InspectError::new(ErrorKind::Form, start));
        }
        let length = finder.find(&body[start..]).ok_or(InspectError::new(ErrorKind::Truncated, body.len()))?;
        read_field(body, content.name, start..start + length, out)?;
        at = start + length + delimiter.len();
    }
    Err(InspectError::new(ErrorKind::Form, at))
}

/// A part's name and where its content starts.
struct Content<'a> {
    name: Option<&'a [u8]>,
    start: usize,
}

fn part_header(body: &[u8], start: usize) -> Result<Content<'_>> {
    let bad = InspectError::new(ErrorKind::Form, start);
    let window = &body[start..body.len().min(start + MAX_HEADER_BYTES)];
    let length = memmem::find(window, b"\r\n\r\n").ok_or(bad)?;
    let (mut name, mut disposed) = (None, false);
    for line in lines(&window[..length]) {
        let colon = memchr::memchr(b':', line).ok_or(bad)?;
        let field = &line[..colon];
        if field.is_empty() || !field.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
            return Err(bad);
        }
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(bad);
        }
        if field.eq_ignore_ascii_case(b"content-disposition") {
            if disposed {
                return Err(bad);
            }
            disposed = true;
            name = field_name(&line[colon + 1..]).ok_or(bad)?;
        }
    }
    Ok(Content { name, start: start + length + 4 })
}

fn lines(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(header);
    std::iter::from_fn(move || {
        let all = rest?;
        let end = memmem::find(all, b"\r\n");
        rest = end.map(|end| &all[end + 2..]);
        Some(&all[..end.unwrap_or(all.len())])
    })
}

/// The `name` of a Content-Disposition; the outer none means that it is malformed.
fn field_name(value: &[u8]) -> Option<Option<&[u8]>> {
    let value = value.trim_ascii();
    let kind = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    if !value[..kind].trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return None;
    }
    let (mut rest, mut name) = (&value[kind..], None);
    while let Some(parameter) = rest.strip_prefix(b";") {
        let equals = memchr::memchr(b'=', parameter)?;
        let key = parameter[..equals].trim_ascii();
        let (text, after) = parameter_value(parameter[equals + 1..].trim_ascii_start())?;
        if key.eq_ignore_ascii_case(b"name") {
            if name.is_some() {
                return None;
            }
            name = Some(text);
        } else if key.eq_ignore_ascii_case(b"name*") {
            return None;
        }
        rest = after.trim_ascii_start();
    }
    rest.is_empty().then_some(name)
}

/// A quoted string or a token, and what follows it. Escapes stay: a name that we look for has none.
fn parameter_value(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        let end = value.iter().position(|byte| *byte == b';' || byte.is_ascii_whitespace()).unwrap_or(value.len());
        return Some((&value[..end], &value[end..]));
    };
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &quoted[at..])?;
        if quoted[at] == b'"' {
            return Some((&quoted[..at], &quoted[at + 1..]));
        }
        at += 2;
        if at > quoted.len() {
            return None;
        }
    }
}

fn read_field(body: &[u8], name: Option<&[u8]>, at: std::ops::Range<usize>, out: &mut Inspected) -> Result<()> {
    let (start, value) = (at.start, &body[at.clone()]);
    let fail = |kind, key| Err(InspectError { kind, position: start, key });
    match name {
        Some(b"model") if out.model.is_some() => fail(ErrorKind::Duplicate, "model"),
        Some(b"stream") if out.stream.is_some() => fail(ErrorKind::Duplicate, "stream"),
        Some(b"model") => {
            let Ok(text) = simdutf8::basic::from_utf8(value) else { return fail(ErrorKind::Utf8, "model") };
            if value.len() > MAX_FIELD_BYTES || text.contains(char::is_control) {
                return fail(ErrorKind::WrongType, "model");
            }
            let chars = text.chars().count() as u32;
            out.model = Some(Text { span: Span::new(at.start, at.end), escaped: false, chars });
            Ok(())
        }
        Some(b"stream") => {
            out.stream_span = Span::new(at.start, at.end);
            out.stream = Some(match value {
                b"true" | b"True" | b"1" => true,
                b"false" | b"False" | b"0" | b"" => false,
                _ => return fail(ErrorKind::WrongType, "stream"),
            });
            Ok(())
        }
        _ => Ok(()),
    }
}
