//! Where a request ends: Content-Length against Transfer-Encoding, and the spellings of both.

use crate::case::{BODY, Case, Expect, post};

/// Transfer-Encoding lines of which every one is refused, whatever comes with it.
const CODINGS: [&str; 52] = [
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: deflate",
    "Transfer-Encoding: compress, chunked",
    "Transfer-Encoding: cow",
    "Transfer-Encoding:",
    "Transfer-Encoding: ",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked; x",
    "Transfer-Encoding: chun ked",
    "Transfer-Encoding: chunked chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: \x0cchunked",
    "Transfer-Encoding: chunked\x0b",
    "Transfer-Encoding: chunked\x00",
    "Transfer-Encoding: \x00chunked",
    "Transfer-Encoding: chunked\x7f",
    "Transfer-Encoding:\rchunked",
    "Transfer-Encoding: chunked\rx",
    "Transfer-Encoding:\n chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding:\r\n\tchunked",
    "Transfer-Encoding: chunked\r\n x",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding\x00: chunked",
    "Transfer-Encoding\x0b: chunked",
    "Transfer-Encoding: chunk\u{e9}d",
    "Transfer-Encoding: \u{feff}chunked",
    "Transfer-Encoding: chunked\u{a0}",
    "Transfer-Encoding\u{a0}: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    "transfer-encoding: chunked\r\nTRANSFER-ENCODING: chunked",
    "x: y\nTransfer-Encoding: chunked",
];

/// Spellings of the one coding that is served.
const CHUNKED: [&str; 7] = [
    "Transfer-Encoding: chunked",
    "transfer-encoding: chunked",
    "TRANSFER-ENCODING: CHUNKED",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding: \t chunked \t ",
    "Transfer-Encoding:   cHuNkEd",
];

/// Content-Length values that are refused.
const LENGTHS: [&str; 40] = [
    "+5",
    "-0",
    "-5",
    "0x5",
    "0X1d",
    "5.0",
    "5e0",
    "1_0",
    "5,5",
    "5, 5",
    "5,",
    ",5",
    "5 5",
    "5;",
    "",
    " ",
    "five",
    "\"5\"",
    "'5'",
    "5\x00",
    "\x005",
    "5\x0b",
    "5\x7f",
    "\u{ff15}",
    "\u{664}",
    "5\u{a0}",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551645",
    "99999999999999999999",
    "00000000000000000005",
    "0b101",
    "0o5",
    "5L",
    "5h",
    "1 ",
    "5\r",
    "5\r\n 5",
    "5%",
];

const SMUGGLED: &str = "POST /v1/completions HTTP/1.1\r\nhost: a\r\nx-token: smuggled\r\ncontent-length: 29\r\n\r\n{\"model\":\"mdl0\",\"prompt\":\"y\"}";

/// The framing fields, then what would be the body in the way that each reading has it.
fn head(fields: &str, rest: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("POST /v1/completions HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n");
    [head.as_bytes(), rest.as_ref()].concat()
}

pub(crate) fn in_chunks(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    both(&mut cases);
    codings(&mut cases);
    lengths(&mut cases);
    ends(&mut cases);
    cases
}

fn both(cases: &mut Vec<Case>) {
    let chunked = in_chunks(BODY);
    let exact = chunked.len();
    for (name, length) in [("0", 0), ("of the chunks", exact), ("of the data", BODY.len()), ("4", 4), ("huge", 1 << 30)]
    {
        let smuggling = format!("{chunked}{SMUGGLED}");
        for (order, fields) in [
            ("CL TE", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked")),
            ("TE CL", format!("Transfer-Encoding: chunked\r\nContent-Length: {length}")),
            ("TE x CL", format!("Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: {length}")),
            ("CL TE CL", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\nContent-Length: {length}")),
            ("TE CL close", format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\nConnection: close")),
        ] {
            cases.push(Case::refused("cl+te", format!("{order}, length {name}"), &[400], head(&fields, &smuggling)));
        }
    }
    let old = |fields: &str| {
        format!("POST /v1/completions HTTP/1.0\r\nhost: a\r\n{fields}\r\n\r\n{chunked}{SMUGGLED}").into_bytes()
    };
    cases.push(Case::refused("cl+te", "HTTP/1.0 with TE", &[400], old("Transfer-Encoding: chunked")));
    cases.push(Case::refused(
        "cl+te",
        "HTTP/1.0 with TE and keep-alive",
        &[400],
        old("Transfer-Encoding: chunked\r\nConnection: keep-alive"),
    ));
    cases.push(Case::refused(
        "cl+te",
        "HTTP/1.0 with TE and CL",
        &[400],
        old("Content-Length: 3\r\nTransfer-Encoding: chunked"),
    ));
}

fn codings(cases: &mut Vec<Case>) {
    for line in CODINGS {
        let named = line.escape_debug();
        let refused = |name, bytes| Case::refused("te spelling", format!("{named} {name}"), &[400, 501], bytes);
        cases.push(refused("as chunked", head(line, format!("{}{SMUGGLED}", in_chunks(BODY)))));
        let with_length = format!("Content-Length: {}\r\n{line}", BODY.len());
        cases.push(refused("by length", head(&with_length, format!("{BODY}{SMUGGLED}"))));
        cases.push(refused("without a body", head(line, SMUGGLED)));
    }
    for line in CHUNKED {
        let served = Expect::Served {
            line: "POST /v1/completions HTTP/1.1",
            fields: vec!["host: a"],
            body: BODY.as_bytes().to_vec(),
        };
        cases.push(Case::request("te spelling", line.escape_debug().to_string(), head(line, in_chunks(BODY)), served));
    }
}

fn lengths(cases: &mut Vec<Case>) {
    for value in LENGTHS {
        let bytes = head(&format!("Content-Length: {value}"), format!("{BODY}{SMUGGLED}"));
        // A blank behind the digits is allowed, and a length without its body is refused when the client ends.
        let case = match value {
            "1 " => {
                Case::request("cl grammar", "1 and a blank", head("Content-Length: 1 ", "{"), Expect::RefusedKept(400))
            }
            _ => Case::refused("cl grammar", value.escape_debug().to_string(), &[400], bytes),
        };
        cases.push(case);
    }
    for (name, fields) in [
        ("two equal", "Content-Length: 29\r\nContent-Length: 29"),
        ("two unequal", "Content-Length: 29\r\nContent-Length: 0"),
        ("two, apart", "Content-Length: 29\r\nx: y\r\ncontent-length: 3"),
        ("blank before the colon", "Content-Length : 29"),
        ("underscore", "Content_Length: 29"),
        ("underscore beside", "Content_Length: 3\r\nContent-Length: 29"),
    ] {
        cases.push(Case::refused("cl grammar", name, &[400], head(fields, format!("{BODY}{SMUGGLED}"))));
    }
    for (name, length) in
        [("over the body limit", "33554433"), ("2^63-1", "9223372036854775807"), ("2^32", "4294967296")]
    {
        cases.push(Case::refused("cl grammar", name, &[413], head(&format!("Content-Length: {length}"), BODY)));
    }
    let served = |body: &str| Expect::ServedAll(vec![body.as_bytes().to_vec()]);
    let digits = format!("{:019}", BODY.len());
    cases.push(Case::request(
        "cl grammar",
        "19 digits",
        head(&format!("Content-Length: {digits}"), BODY),
        served(BODY),
    ));
    cases.push(Case::request(
        "cl grammar",
        "no blank",
        head(&format!("Content-Length:{}", BODY.len()), BODY),
        served(BODY),
    ));
    let padded = format!("Content-Length: \t {} \t", BODY.len());
    cases.push(Case::request("cl grammar", "blanks around", head(&padded, BODY), served(BODY)));
}

/// What follows a body is the next request, and nothing else.
fn ends(cases: &mut Vec<Case>) {
    let other = BODY.replace("\"x\"", "\"y\"");
    let two = [post("x-token: 1\r\n", BODY), post("x-token: 2\r\n", &other)].concat();
    let both = || Expect::ServedAll(vec![BODY.as_bytes().to_vec(), other.as_bytes().to_vec()]);
    cases.push(Case::request("boundaries", "two by length", two.clone(), both()));
    let chunked = head("Transfer-Encoding: chunked", in_chunks(BODY));
    cases.push(Case::request(
        "boundaries",
        "chunked, then by length",
        [&chunked[..], &post("", &other)].concat(),
        both(),
    ));
    cases.push(Case::request(
        "boundaries",
        "CRLF between",
        [&post("", BODY)[..], b"\r\n", &post("", &other)].concat(),
        both(),
    ));
    let ten = (0..10).map(|n| BODY.replace("\"x\"", &format!("\"{n}\"")));
    let bytes: Vec<u8> = ten.clone().flat_map(|b| post("", b)).collect();
    cases.push(Case::request(
        "boundaries",
        "ten at once",
        bytes,
        Expect::ServedAll(ten.map(String::into_bytes).collect()),
    ));
    let inside = format!(r#"{{"model":"mdl0","prompt":{}}}"#, serde_json::Value::from(SMUGGLED));
    let served = Expect::ServedAll(vec![inside.clone().into_bytes()]);
    cases.push(Case::request("boundaries", "a request inside a body", post("", &inside), served));
    cases.push(Case::request(
        "boundaries",
        "a body cut by the client",
        head("Content-Length: 100", BODY),
        Expect::Nothing,
    ));
    cases.push(Case::request(
        "boundaries",
        "a head cut by the client",
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\n".to_vec(),
        Expect::Nothing,
    ));
    for method in ["GET", "DELETE", "PUT", "PATCH"] {
        let first =
            format!("{method} /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
        let bytes = [first.as_bytes(), &post("", &other)].concat();
        cases.push(Case::request("boundaries", format!("{method} with a body"), bytes, both()));
    }
    for method in ["HEAD", "OPTIONS"] {
        let first = format!(
            "{method} /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{SMUGGLED}",
            SMUGGLED.len()
        );
        cases.push(Case::refused("boundaries", format!("{method} with a body"), &[405], first));
    }
}
