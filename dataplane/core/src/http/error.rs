//! What can be wrong with a message: a stable label for metrics, a status for the client, a sentence for the reader.

use std::fmt;

macro_rules! faults {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $status:literal $label:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $(#[doc = $text] $variant,)+ }

        impl $name {
            /// Every fault, for registering one metric cell each.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// A stable label for metrics.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// What is wrong, in words.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The status for a client that sent this.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }
        }
    };
}

faults! {
    /// What is wrong with a head. `status` is meant for requests; a response with any of them is 502.
    Fault {
        BareLf 400 "bare_lf" "a line ends in LF without CR",
        EmptyLines 400 "empty_lines" "more than one empty line comes before the request line",
        BadMethod 400 "bad_method" "the method is not a token of at most 24 characters",
        MethodRefused 405 "method_refused" "CONNECT and TRACE are not served",
        BadRequestLine 400 "bad_request_line" "the request line is not `method SP target SP version`",
        BadVersion 505 "bad_version" "only HTTP/1.1 and HTTP/1.0 are spoken here",
        BadTarget 400 "bad_target" "the target is not a path or an http(s) URL",
        BadPath 400 "bad_path" "the path holds a character or escape that servers read differently",
        DotSegment 400 "dot_segment" "the path holds a `.` or `..` segment",
        EmptySegment 400 "empty_segment" "the path holds `//`",
        UriTooLong 414 "uri_too_long" "the target is longer than the limit",
        HeadTooLarge 431 "head_too_large" "the head is larger than the limit",
        TooManyFields 431 "too_many_fields" "the head has more fields than the limit",
        NameTooLong 431 "name_too_long" "a field name is longer than 256 bytes",
        FoldedLine 400 "folded_line" "a field is continued on a second line",
        BadName 400 "bad_name" "a field name is not a token followed by a colon",
        ConfusingName 400 "confusing_name" "a field name with `_` can be taken for one that is trusted",
        BadValue 400 "bad_value" "a field value holds a control character",
        DuplicateField 400 "duplicate_field" "a field that may come once comes twice",
        MissingHost 400 "missing_host" "HTTP/1.1 needs a Host field",
        BadHost 400 "bad_host" "Host is not a host name or address with an optional port",
        BadContentLength 400 "bad_content_length" "Content-Length is not a number below 2^63",
        BadTransferEncoding 400 "bad_transfer_encoding" "Transfer-Encoding is not exactly `chunked`",
        UnknownCoding 501 "unknown_coding" "Transfer-Encoding names a coding other than `chunked`",
        OldTransferEncoding 400 "old_transfer_encoding" "HTTP/1.0 has no Transfer-Encoding",
        LengthAndCoding 400 "length_and_coding" "Content-Length and Transfer-Encoding exclude each other",
        BadConnection 400 "bad_connection" "Connection is not a list of at most 32 names",
        BadExpect 417 "bad_expect" "only `Expect: 100-continue` can be met",
        BadStatusLine 400 "bad_status_line" "the status line is not `version SP status SP reason`",
        BadStatus 400 "bad_status" "the status is not between 100 and 599",
        UnaskedSwitch 400 "unasked_switch" "101 answers no request of ours",
    }
}

faults! {
    /// What is wrong with a chunked body.
    ChunkFault {
        BadSize 400 "bad_size" "a chunk size is not 1 to 16 hexadecimal digits below 2^63",
        BadLineEnd 400 "bad_line_end" "a chunk line does not end in CRLF",
        BadExtension 400 "bad_extension" "a chunk extension breaks the grammar",
        ExtensionsTooLarge 400 "extensions_too_large" "the chunk extensions of one body are over 4 KiB",
        DataOverrun 400 "data_overrun" "chunk data is not followed by CRLF",
        BadTrailer 400 "bad_trailer" "a trailer field breaks the grammar",
        TrailersTooLarge 431 "trailers_too_large" "the trailers are larger than the head limit",
    }
}

/// A request head that is refused: answer `status`, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The status to answer with.
    pub status: u16,
    /// What is wrong.
    pub reason: Fault,
    /// The byte of the buffer at which it was seen.
    pub at: u32,
}

/// A response head that is refused: 502, and that connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadResponse {
    /// What is wrong.
    pub reason: Fault,
    /// The byte of the buffer at which it was seen.
    pub at: u32,
}

/// A chunked body that is refused. The connection it came from must close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk {
    /// What is wrong.
    pub reason: ChunkFault,
    /// The byte of the scanned piece at which it was seen.
    pub at: usize,
}

impl From<Bad> for BadRequest {
    fn from(bad: Bad) -> Self {
        Self { status: bad.reason.status(), reason: bad.reason, at: bad.at }
    }
}

impl From<Bad> for BadResponse {
    fn from(bad: Bad) -> Self {
        Self { reason: bad.reason, at: bad.at }
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {} of the request head)", self.reason.text(), self.at)
    }
}

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {} of the response head)", self.reason.text(), self.at)
    }
}

impl fmt::Display for BadChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.text())
    }
}

impl std::error::Error for BadRequest {}
impl std::error::Error for BadResponse {}
impl std::error::Error for BadChunk {}

/// A fault and its place, before it is known whether a request or a response has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) reason: Fault,
    pub(super) at: u32,
}

impl Bad {
    /// Offsets fit in u32 because heads are bounded far below 4 GiB.
    pub(super) fn new(reason: Fault, at: usize) -> Self {
        Self { reason, at: at as u32 }
    }
}
