//! The last event of a stream that broke: a client must see an error, never a clean end.

use super::tap::Place;
use crate::inspect::ApiKind;

/// What is said of a stream that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutError<'a> {
    /// For people.
    pub message: &'a str,
    /// OpenAI's `type`, such as `upstream_error`.
    pub kind: &'a str,
    /// OpenAI's `code`, such as `stream_cut`.
    pub code: &'a str,
}

/// Appends the error event in the form of the API. Where the stream was cut within an event, that event is ended first:
/// the client then finds it malformed, which is the truth.
pub fn write_cut_event(api: ApiKind, place: Place, error: &CutError<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(match place {
        Place::Boundary => b"",
        Place::Line => b"\n",
        Place::Inside => b"\n\n",
    });
    let parts: &[Piece<'_>] = &match api {
        ApiKind::Messages => [
            Piece::Raw("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"),
            Piece::Text("api_error"),
            Piece::Raw(",\"message\":"),
            Piece::Text(error.message),
            Piece::Raw("}}\n\n"),
            Piece::Raw(""),
            Piece::Raw(""),
        ],
        ApiKind::Responses => [
            Piece::Raw("event: error\ndata: {\"type\":\"error\",\"code\":"),
            Piece::Text(error.code),
            Piece::Raw(",\"message\":"),
            Piece::Text(error.message),
            Piece::Raw(",\"param\":null}\n\n"),
            Piece::Raw(""),
            Piece::Raw(""),
        ],
        ApiKind::GenerateStream => [
            Piece::Raw("data: {\"error\":"),
            Piece::Text(error.message),
            Piece::Raw("}\n\n"),
            Piece::Raw(""),
            Piece::Raw(""),
            Piece::Raw(""),
            Piece::Raw(""),
        ],
        _ => [
            Piece::Raw("data: {\"error\":{\"message\":"),
            Piece::Text(error.message),
            Piece::Raw(",\"type\":"),
            Piece::Text(error.kind),
            Piece::Raw(",\"param\":null,\"code\":"),
            Piece::Text(error.code),
            Piece::Raw("}}\n\n"),
        ],
    };
    for piece in parts {
        match piece {
            Piece::Raw(raw) => out.extend_from_slice(raw.as_bytes()),
            Piece::Text(text) => quote(text, out),
        }
    }
}

enum Piece<'a> {
    Raw(&'a str),
    Text(&'a str),
}

/// Appends a JSON string.
fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    crate::inspect::escape_json(text, out);
    out.push(b'"');
}
