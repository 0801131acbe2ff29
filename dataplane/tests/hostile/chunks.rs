//! The grammar of chunked bodies: sizes, extensions, line ends, trailers.

use crate::case::{BODY, Case, Expect};

const HEAD: &str = "POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
const NEXT: &str =
    "POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 29\r\n\r\n{\"model\":\"mdl0\",\"prompt\":\"y\"}";

/// Bodies that are refused; `{}` stands for the JSON, which has 29 bytes (1d).
const REFUSED: [(&str, &str); 56] = [
    ("size +", "+1d\r\n{}\r\n0\r\n\r\n"),
    ("size -", "-1d\r\n{}\r\n0\r\n\r\n"),
    ("size 0x", "0x1d\r\n{}\r\n0\r\n\r\n"),
    ("size with _", "1_d\r\n{}\r\n0\r\n\r\n"),
    ("size with a blank before", " 1d\r\n{}\r\n0\r\n\r\n"),
    ("size with a tab before", "\t1d\r\n{}\r\n0\r\n\r\n"),
    ("size with a blank after", "1d \r\n{}\r\n0\r\n\r\n"),
    ("size with a tab after", "1d\t\r\n{}\r\n0\r\n\r\n"),
    ("size h", "1dh\r\n{}\r\n0\r\n\r\n"),
    ("size empty", "\r\n{}\r\n0\r\n\r\n"),
    ("size empty at the end", "1d\r\n{}\r\n\r\n\r\n"),
    ("size of 17 digits", "0000000000000001d\r\n{}\r\n0\r\n\r\n"),
    ("size over 2^63", "8000000000000000\r\n{}\r\n0\r\n\r\n"),
    ("size 2^64-1", "ffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    ("size wraps 2^64", "1000000000000001d\r\n{}\r\n0\r\n\r\n"),
    ("size with NUL", "1d\x00\r\n{}\r\n0\r\n\r\n"),
    ("size with a comma", "1d,1d\r\n{}\r\n0\r\n\r\n"),
    ("size with a point", "1d.0\r\n{}\r\n0\r\n\r\n"),
    ("size in quotes", "\"1d\"\r\n{}\r\n0\r\n\r\n"),
    ("LF after the size", "1d\n{}\r\n0\r\n\r\n"),
    ("CR after the size", "1d\r{}\r\n0\r\n\r\n"),
    ("CRCRLF after the size", "1d\r\r\n{}\r\n0\r\n\r\n"),
    ("LFCR after the size", "1d\n\r{}\r\n0\r\n\r\n"),
    ("LF after the data", "1d\r\n{}\n0\r\n\r\n"),
    ("CR after the data", "1d\r\n{}\r0\r\n\r\n"),
    ("nothing after the data", "1d\r\n{}0\r\n\r\n"),
    ("a byte after the data", "1d\r\n{}x\r\n0\r\n\r\n"),
    ("CRCRLF after the data", "1d\r\n{}\r\r\n0\r\n\r\n"),
    ("a size too small", "1c\r\n{}\r\n0\r\n\r\n"),
    ("a size too large", "1e\r\n{}\r\n0\r\n\r\n"),
    ("a size far too small", "3\r\n{}\r\n0\r\n\r\n"),
    ("LF after the last size", "1d\r\n{}\r\n0\n\r\n"),
    ("LF after all", "1d\r\n{}\r\n0\r\n\n"),
    ("CRCRLF after all", "1d\r\n{}\r\n0\r\n\r\r\n"),
    ("LF in an extension", "1d;a\n{}\r\n0\r\n\r\n"),
    ("LF in an extension that hides a chunk", "1d;\n{}\r\n0\r\n\r\n"),
    ("CR in an extension", "1d;a\rb\r\n{}\r\n0\r\n\r\n"),
    ("NUL in an extension", "1d;a\x00b\r\n{}\r\n0\r\n\r\n"),
    ("a control in an extension", "1d;a=\x01\r\n{}\r\n0\r\n\r\n"),
    ("an extension without a name", "1d;\r\n{}\r\n0\r\n\r\n"),
    ("an extension of =", "1d;=x\r\n{}\r\n0\r\n\r\n"),
    ("an extension without a value", "1d;a=\r\n{}\r\n0\r\n\r\n"),
    ("an open quote", "1d;a=\"x\r\n{}\r\n0\r\n\r\n"),
    ("LF in a quote", "1d;a=\"\n\"\r\n{}\r\n0\r\n\r\n"),
    ("CRLF in a quote", "1d;a=\"\r\n\"\r\n{}\r\n0\r\n\r\n"),
    ("two names", "1d;a b\r\n{}\r\n0\r\n\r\n"),
    ("an extension without a semicolon", "1d a=b\r\n{}\r\n0\r\n\r\n"),
    ("a trailer with LF", "1d\r\n{}\r\n0\r\nx: y\n\r\n"),
    ("a trailer without a colon", "1d\r\n{}\r\n0\r\nx\r\n\r\n"),
    ("a trailer without a name", "1d\r\n{}\r\n0\r\n: y\r\n\r\n"),
    ("a trailer with a blank before the colon", "1d\r\n{}\r\n0\r\nx : y\r\n\r\n"),
    ("a folded trailer", "1d\r\n{}\r\n0\r\nx: y\r\n z\r\n\r\n"),
    ("a trailer with NUL", "1d\r\n{}\r\n0\r\nx: \x00\r\n\r\n"),
    ("a trailer with CR", "1d\r\n{}\r\n0\r\nx: a\rb\r\n\r\n"),
    ("a request instead of a trailer", "1d\r\n{}\r\n0\r\nPOST /v1/completions HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a body without chunks", "{}\r\n\r\n"),
];

/// Bodies that arrive as the JSON alone.
const SERVED: [(&str, &str); 16] = [
    ("plain", "1d\r\n{}\r\n0\r\n\r\n"),
    ("upper case", "1D\r\n{}\r\n0\r\n\r\n"),
    ("zeros before", "00001d\r\n{}\r\n0\r\n\r\n"),
    ("16 digits", "000000000000001d\r\n{}\r\n0\r\n\r\n"),
    ("zeros at the end", "1d\r\n{}\r\n0000000000000000\r\n\r\n"),
    ("a name", "1d;a\r\n{}\r\n0\r\n\r\n"),
    ("a name and a value", "1d;a=b;c=\"d e\"\r\n{}\r\n0;x=y\r\n\r\n"),
    ("a quoted semicolon", "1d;a=\"1;\\\"2\"\r\n{}\r\n0\r\n\r\n"),
    ("blanks in an extension", "1d ; a = b\r\n{}\r\n0\r\n\r\n"),
    ("a trailer", "1d\r\n{}\r\n0\r\nx: y\r\n\r\n"),
    ("trailer Content-Length", "1d\r\n{}\r\n0\r\ncontent-length: 3\r\n\r\n"),
    ("trailer Transfer-Encoding", "1d\r\n{}\r\n0\r\ntransfer-encoding: chunked\r\n\r\n"),
    ("trailer Host", "1d\r\n{}\r\n0\r\nhost: evil\r\n\r\n"),
    ("trailer Authorization", "1d\r\n{}\r\n0\r\nauthorization: Bearer evil\r\n\r\n"),
    ("trailer X-Forwarded-For", "1d\r\n{}\r\n0\r\nx-forwarded-for: 6.6.6.6\r\n\r\n"),
    ("trailer without a value", "1d\r\n{}\r\n0\r\nx:\r\n\r\n"),
];

fn message(body: &str) -> Vec<u8> {
    format!("{HEAD}{}{NEXT}", body.replace("{}", BODY)).into_bytes()
}

fn served(name: impl Into<String>, body: &str) -> Case {
    let next = BODY.replace("\"x\"", "\"y\"").into_bytes();
    let expect = Expect::ServedAll(vec![BODY.into(), next]);
    Case::request("chunks", name, message(body), expect)
}

/// One chunk a byte, but for the model's name, which a lane has to find.
fn in_single_bytes(extension: &str) -> String {
    let (before, after) = BODY.split_once("mdl0").expect("it names the model");
    let single = |text: &str| text.chars().map(|c| format!("1{extension}\r\n{c}\r\n")).collect::<String>();
    format!("{}4\r\nmdl0\r\n{}", single(before), single(after))
}

pub(crate) fn cases() -> Vec<Case> {
    assert_eq!(BODY.len(), 0x1d, "the tables count on it");
    let mut cases: Vec<_> =
        REFUSED.iter().map(|(name, body)| Case::refused("chunks", *name, &[400], message(body))).collect();
    cases.extend(SERVED.iter().map(|(name, body)| served(format!("served: {name}"), body)));
    let single = in_single_bytes("");
    cases.push(served("served: one byte each", &format!("{single}0\r\n\r\n")));
    let single = in_single_bytes(";a=b");
    cases.push(served("served: one byte and an extension each", &format!("{single}0\r\n\r\n")));
    // The fields of a trailer never join those of the head.
    let head = Expect::Served { line: "POST /v1/completions HTTP/1.1", fields: vec!["host: a"], body: BODY.into() };
    let bytes = format!("{HEAD}1d\r\n{BODY}\r\n0\r\nhost: evil\r\nauthorization: b\r\nx: y\r\n\r\n");
    cases.push(Case::request("chunks", "trailers are dropped", bytes, head));
    let ext = |n| format!("1d;{}\r\n{{}}\r\n0\r\n\r\n", "a".repeat(n));
    cases.push(served("served: 4,000 bytes of extension", &ext(4_000)));
    for n in [4_096, 1 << 20] {
        cases.push(Case::refused("chunks", format!("{n} bytes of extension"), &[400], message(&ext(n))));
    }
    let tiny: String = (0..2_000).map(|_| "1;aaaa\r\n \r\n").collect();
    cases.push(Case::refused(
        "chunks",
        "2,000 tiny chunks with extensions",
        &[400],
        message(&format!("{tiny}1d\r\n{{}}\r\n0\r\n\r\n")),
    ));
    let trailer = |n| format!("1d\r\n{{}}\r\n0\r\nx: {}\r\n\r\n", "a".repeat(n));
    cases.push(served("served: 30,000 bytes of trailer", &trailer(30_000)));
    for n in [32 << 10, 1 << 20] {
        cases.push(Case::refused("chunks", format!("{n} bytes of trailer"), &[400, 431], message(&trailer(n))));
    }
    let many: String = (0..20_000).map(|_| "x: y\r\n").collect();
    cases.push(Case::refused(
        "chunks",
        "20,000 trailers",
        &[400, 431],
        message(&format!("1d\r\n{{}}\r\n0\r\n{many}\r\n")),
    ));
    let cut = |body: &str| Case::request("chunks", format!("cut: {body:?}"), format!("{HEAD}{body}"), Expect::Nothing);
    cases.extend(
        ["", "1", "1d", "1d\r", "1d\r\n", "1d\r\n{\"mo", "0", "0\r\n", "0\r\n\r", "5\r\n{\"mod\r\n0\r\n"].map(cut),
    );
    cases
}
