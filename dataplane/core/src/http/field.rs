//! Fields of a head as ranges of the buffer it was read into.

use super::error::{Bad, Fault};
use super::{grammar, hop};
use smallvec::SmallVec;

/// The most fields that [`HeadLimits::fields`] can ask for.
pub const MAX_FIELDS: usize = 250;
/// The longest field name.
const NAME_BYTES: usize = 256;
/// Names listed in `Connection`; each is looked for among all fields, so the list is bounded.
const CONNECTION_NAMES: usize = 32;

/// What a head may hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, its empty line included.
    pub head_bytes: u32,
    /// Field lines; values above [`MAX_FIELDS`] mean [`MAX_FIELDS`].
    pub fields: u16,
    /// Bytes of the request target.
    pub uri_bytes: u32,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes: 32 << 10, fields: 100, uri_bytes: 16 << 10 }
    }
}

/// A range of the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last one.
    pub end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes it names. `buf` is the buffer that the head was parsed from.
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }

    /// How many bytes it names.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it names no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Field names that the proxy reads, sets or strips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    /// Any other name.
    Other,
    /// `host`
    Host,
    /// `content-length`
    ContentLength,
    /// `transfer-encoding`
    TransferEncoding,
    /// `connection`
    Connection,
    /// `expect`
    Expect,
    /// `content-type`
    ContentType,
    /// `content-encoding`
    ContentEncoding,
    /// `accept-encoding`
    AcceptEncoding,
    /// `authorization`
    Authorization,
    /// `x-api-key`, `api-key` and `cookie`: credentials beside `authorization`
    Credential,
    /// `x-request-id`
    RequestId,
    /// `traceparent`
    Traceparent,
    /// `x-forwarded-for`
    ForwardedFor,
    /// `x-forwarded-proto`
    ForwardedProto,
    /// `x-data-parallel-rank`
    DataParallelRank,
    /// `keep-alive`, `proxy-*`, `te`, `trailer`, `upgrade`, `http2-settings`: never forwarded
    HopByHop,
}

impl Known {
    pub(super) const COUNT: usize = Self::HopByHop as usize + 1;
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    start: u32,
    value: Span,
    name_len: u16,
    /// Which name it is, if we know it.
    pub known: Known,
    /// [`NAMED`] and [`UNDERSCORE`], in one byte: a field takes 16 bytes, and a head is moved as a value.
    marks: u8,
}

/// `Connection` names the field, and it may be named there: it stops here.
const NAMED: u8 = 1;
/// The name holds `_`.
const UNDERSCORE: u8 = 2;

impl Field {
    /// The name as it was sent.
    pub fn name<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        &buf[self.start as usize..self.start as usize + self.name_len as usize]
    }

    /// The value without the blanks around it.
    pub fn value<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        self.value.of(buf)
    }

    /// Where the value lies.
    pub fn value_span(&self) -> Span {
        self.value
    }

    /// Whether Connection lists it, so that it stops here.
    pub(super) fn is_named(&self) -> bool {
        self.marks & NAMED != 0
    }

    /// Whether the name holds `_`.
    pub(super) fn has_underscore(&self) -> bool {
        self.marks & UNDERSCORE != 0
    }

    /// Where the line starts.
    pub(super) fn start(&self) -> usize {
        self.start as usize
    }
}

/// All fields of a head, in order.
#[derive(Clone, Debug)]
pub struct Fields {
    list: SmallVec<[Field; 32]>,
    /// Place + 1 of the first field of each known name; 0 for none.
    first: [u8; Known::COUNT],
    /// Where the empty line after them starts.
    end: u32,
    /// `Connection` lists `close`.
    pub(super) close: bool,
    /// `Connection` lists `keep-alive`.
    pub(super) keep_alive: bool,
}

impl Fields {
    /// The fields in the order in which they came.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first field of a known name ([`Known::Credential`] and [`Known::HopByHop`] are kinds, not names).
    pub fn first(&self, known: Known) -> Option<&Field> {
        let place = self.first[known as usize] as usize;
        if known == Known::Other || place == 0 { None } else { self.list.get(place - 1) }
    }

    /// Value of the first field of this name, which must be written in lower case.
    pub fn value<'b>(&self, buf: &'b [u8], name: &str) -> Option<&'b [u8]> {
        self.iter().find(|f| f.name(buf).eq_ignore_ascii_case(name.as_bytes())).map(|f| f.value(buf))
    }

    /// Where the line after the last field starts.
    pub(super) fn end(&self) -> usize {
        self.end as usize
    }

    /// Parses the field lines of `head`, a whole head, from `at` to its empty line.
    pub(super) fn parse(head: &[u8], mut at: usize, limits: &HeadLimits) -> Result<Self, Bad> {
        let end = head.len() - 2;
        let most = (limits.fields as usize).min(MAX_FIELDS);
        let mut fields =
            Self { list: SmallVec::new(), first: [0; Known::COUNT], end: end as u32, close: false, keep_alive: false };
        while at < end {
            if fields.list.len() == most {
                return Err(Bad::new(Fault::TooManyFields, at));
            }
            let (field, next) = parse_line(head, at)?;
            fields.push(field)?;
            at = next;
        }
        if fields.first[Known::Connection as usize] != 0 {
            fields.read_connection(head)?;
        }
        Ok(fields)
    }

    fn push(&mut self, field: Field) -> Result<(), Bad> {
        let first = &mut self.first[field.known as usize];
        if *first == 0 {
            *first = self.list.len() as u8 + 1;
        } else if field.known.is_single() {
            return Err(Bad::new(Fault::DuplicateField, field.start()));
        }
        self.list.push(field);
        Ok(())
    }

    /// Takes the options out of all Connection fields and marks the fields that they name.
    fn read_connection(&mut self, head: &[u8]) -> Result<(), Bad> {
        let mut seen = 0;
        for i in 0..self.list.len() {
            let connection = self.list[i];
            if connection.known != Known::Connection {
                continue;
            }
            for name in grammar::list(connection.value(head)) {
                seen += 1;
                if seen > CONNECTION_NAMES || !grammar::all_token(name) {
                    return Err(Bad::new(Fault::BadConnection, connection.start()));
                }
                self.apply_option(head, name);
            }
        }
        Ok(())
    }

    fn apply_option(&mut self, head: &[u8], name: &[u8]) {
        if name.eq_ignore_ascii_case(b"close") {
            self.close = true;
        } else if name.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
        } else {
            for field in self.list.iter_mut().filter(|f| f.name(head).eq_ignore_ascii_case(name)) {
                if hop::may_be_named(field.known, name) {
                    field.marks |= NAMED;
                }
            }
        }
    }
}

/// Parses the field line at `at`; also says where the next line starts.
fn parse_line(head: &[u8], at: usize) -> Result<(Field, usize), Bad> {
    let (name_len, underscore) = grammar::token(&head[at..]);
    let colon = at + name_len;
    if name_len > NAME_BYTES {
        return Err(Bad::new(Fault::NameTooLong, at));
    }
    if name_len == 0 || head.get(colon) != Some(&b':') {
        let folded = name_len == 0 && grammar::is_blank(head[at]);
        return Err(Bad::new(if folded { Fault::FoldedLine } else { Fault::BadName }, colon));
    }
    let end = grammar::find_control(head, colon + 1);
    if head.get(end..end + 2) != Some(b"\r\n") {
        return Err(Bad::new(Fault::BadValue, end));
    }
    let value = trimmed(head, colon + 1, end);
    let known = hop::classify(&head[at..colon]);
    let marks = if underscore { UNDERSCORE } else { 0 };
    Ok((Field { start: at as u32, value, name_len: name_len as u16, known, marks }, end + 2))
}

fn trimmed(head: &[u8], mut start: usize, mut end: usize) -> Span {
    while start < end && grammar::is_blank(head[start]) {
        start += 1;
    }
    while start < end && grammar::is_blank(head[end - 1]) {
        end -= 1;
    }
    Span::new(start, end)
}
