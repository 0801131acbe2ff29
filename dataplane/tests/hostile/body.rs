//! What a body says: JSON that is read in two ways, JSON that costs, compression, and bytes that must not change.

use crate::case::{BODY, Case, Expect, ensure, post, post_to};
use crate::client::Client;

/// Bodies that are refused with 400 (or 404 where no model is named); the connection goes on.
const REFUSED: [(&str, u16, &str); 62] = [
    ("model twice", 400, r#"{"model":"mdl0","model":"mdl0"}"#),
    ("model twice, unequal", 400, r#"{"model":"evil","prompt":"x","model":"mdl0"}"#),
    ("model twice, one escaped", 400, r#"{"model":"mdl0","\u006dodel":"evil"}"#),
    ("model twice, both escaped", 400, r#"{"mode\u006c":"evil","\u006dodel":"mdl0"}"#),
    ("model twice, null first", 400, r#"{"model":null,"model":"mdl0"}"#),
    ("stream twice", 400, r#"{"model":"mdl0","stream":true,"stream":false}"#),
    ("stream twice, one escaped", 400, r#"{"model":"mdl0","stream":true,"strea\u006d":false}"#),
    ("prompt twice", 400, r#"{"model":"mdl0","prompt":"x","prompt":"y"}"#),
    ("messages twice", 400, r#"{"model":"mdl0","messages":[],"messages":[]}"#),
    ("stream_options twice", 400, r#"{"model":"mdl0","stream_options":{},"stream_options":{}}"#),
    ("Model alone", 404, r#"{"Model":"mdl0"}"#),
    ("MODEL alone", 404, r#"{"MODEL":"mdl0"}"#),
    ("model with a blank", 404, r#"{"model ":"mdl0"}"#),
    ("model with a NUL", 404, r#"{"model\u0000":"mdl0"}"#),
    ("model with a Kelvin sign", 404, "{\"\u{212a}model\":\"mdl0\"}"),
    ("model nested", 404, r#"{"x":{"model":"mdl0"}}"#),
    ("model empty", 404, r#"{"model":""}"#),
    ("model blank", 404, r#"{"model":" \t "}"#),
    ("model null", 404, r#"{"model":null}"#),
    ("model a number", 400, r#"{"model":7}"#),
    ("model a list", 400, r#"{"model":["mdl0"]}"#),
    ("model an object", 400, r#"{"model":{"id":"mdl0"}}"#),
    ("model true", 400, r#"{"model":true}"#),
    ("model in another case", 404, r#"{"model":"MDL0"}"#),
    ("model with a blank behind", 404, r#"{"model":"mdl0 "}"#),
    ("model with a NUL behind", 404, r#"{"model":"mdl0\u0000"}"#),
    ("model with a slash", 404, r#"{"model":"../mdl0"}"#),
    ("stream a string", 400, r#"{"model":"mdl0","stream":"true"}"#),
    ("stream a number", 400, r#"{"model":"mdl0","stream":1}"#),
    ("two objects", 400, r#"{"model":"mdl0"}{"model":"evil"}"#),
    ("two objects, a line between", 400, "{\"model\":\"mdl0\"}\n{\"model\":\"evil\"}"),
    ("a byte behind", 400, r#"{"model":"mdl0"}x"#),
    ("a NUL behind", 400, "{\"model\":\"mdl0\"}\0"),
    ("a comma behind", 400, r#"{"model":"mdl0"},"#),
    ("a list", 400, r#"[{"model":"mdl0"}]"#),
    ("a string", 400, r#""mdl0""#),
    ("null", 400, "null"),
    ("blanks", 400, " \r\n\t "),
    ("a byte order mark", 400, "\u{feff}{\"model\":\"mdl0\"}"),
    ("a comment", 400, r#"{/*x*/"model":"mdl0"}"#),
    ("a line comment", 400, "{\"model\":\"mdl0\"//x\n}"),
    ("a trailing comma", 400, r#"{"model":"mdl0",}"#),
    ("a comma first", 400, r#"{,"model":"mdl0"}"#),
    ("single quotes", 400, "{'model':'mdl0'}"),
    ("a bare key", 400, r#"{model:"mdl0"}"#),
    ("no colon", 400, r#"{"model" "mdl0"}"#),
    ("NaN", 400, r#"{"model":"mdl0","x":NaN}"#),
    ("Infinity", 400, r#"{"model":"mdl0","x":-Infinity}"#),
    ("a hexadecimal number", 400, r#"{"model":"mdl0","x":0x1}"#),
    ("a leading zero", 400, r#"{"model":"mdl0","x":01}"#),
    ("a leading plus", 400, r#"{"model":"mdl0","x":+1}"#),
    ("a bare point", 400, r#"{"model":"mdl0","x":1.}"#),
    ("True", 400, r#"{"model":"mdl0","x":True}"#),
    ("undefined", 400, r#"{"model":"mdl0","x":undefined}"#),
    ("a raw line end in a string", 400, "{\"model\":\"mdl0\",\"x\":\"a\nb\"}"),
    ("a raw NUL in a string", 400, "{\"model\":\"mdl0\",\"x\":\"a\0b\"}"),
    ("a vertical tab as blank", 400, "{\x0b\"model\":\"mdl0\"}"),
    ("a no-break space as blank", 400, "{\u{a0}\"model\":\"mdl0\"}"),
    ("an unknown escape", 400, r#"{"model":"mdl0","x":"\x41"}"#),
    ("a short escape", 400, r#"{"model":"mdl0","x":"\u12"}"#),
    ("half a surrogate pair", 400, r#"{"model":"mdl0","x":"\ud800"}"#),
    ("unfinished", 400, r#"{"model":"mdl0""#),
];

/// Bodies that go on byte for byte.
const FAITHFUL: [(&str, &str); 20] = [
    ("unknown fields", r#"{"model":"mdl0","guided_json":{"a":[1,{"b":null}]},"zz":[[]]}"#),
    ("2^53+1", r#"{"model":"mdl0","seed":9007199254740993}"#),
    ("0.30000000000000004", r#"{"model":"mdl0","temperature":0.30000000000000004}"#),
    ("thirty digits", r#"{"model":"mdl0","x":123456789012345678901234567890}"#),
    ("exponents", r#"{"model":"mdl0","x":[1E400,-1e-400,0.10,-0,1e+2]}"#),
    ("blanks", " {\r\n\t\"model\" : \"mdl0\" ,\n\"x\" : [ 1 , 2 ]\r\n} \n"),
    ("key order", r#"{"z":1,"a":2,"model":"mdl0","m":3}"#),
    ("unknown keys twice", r#"{"x":1,"model":"mdl0","x":2}"#),
    ("Model beside model", r#"{"Model":"evil","model":"mdl0","MODEL":"evil"}"#),
    ("nested duplicates", r#"{"model":"mdl0","x":{"model":"evil","model":"evil2"}}"#),
    ("escapes", r#"{"model":"mdl0","x":"\u0041\/\b\f\n\r\t\"\\\ud83d\ude00"}"#),
    ("an escaped key", r#"{"\u006dodel":"mdl0"}"#),
    ("an escaped model", "{\"model\":\"mdl\\u003X\"}"),
    ("raw UTF-8", "{\"model\":\"mdl0\",\"x\":\"é漢😀\u{7f}\u{2028}\u{ffff}\"}"),
    ("an empty key", r#"{"":1,"model":"mdl0"}"#),
    ("a key __proto__", r#"{"__proto__":{"model":"evil"},"model":"mdl0"}"#),
    ("a long stop list", r#"{"model":"mdl0","stop":["\n\n","data: [DONE]","\r\n0\r\n\r\n"]}"#),
    ("logit bias", r#"{"model":"mdl0","logit_bias":{"50256":-100,"1":0.5}}"#),
    ("prompt tokens", r#"{"model":"mdl0","prompt":[1,2,3,4294967295]}"#),
    (
        "messages",
        r#"{"model":"mdl0","messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"data:,"}}]}]}"#,
    ),
];

const ENCODINGS: [&str; 8] = ["gzip", "deflate", "br", "zstd", "x-gzip", "gzip, gzip", "identity, gzip", "GZIP"];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, status, body) in REFUSED {
        cases.push(Case::request("json", name, post("", body), Expect::RefusedKept(status)));
    }
    for (name, body) in [
        ("UTF-16 LE", utf16(BODY, u16::to_le_bytes)),
        ("UTF-16 BE", utf16(BODY, u16::to_be_bytes)),
        ("a broken byte in a string", b"{\"model\":\"mdl0\",\"x\":\"\xff\"}".to_vec()),
        ("overlong UTF-8", b"{\"model\":\"mdl0\",\"x\":\"\xc0\xaf\"}".to_vec()),
        ("a surrogate in UTF-8", b"{\"model\":\"mdl0\",\"x\":\"\xed\xa0\x80\"}".to_vec()),
        ("half a character", b"{\"model\":\"mdl0\",\"x\":\"\xe2\x82\"}".to_vec()),
        ("gzip without saying so", b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec()),
    ] {
        cases.push(Case::request("json", name, post("", body), Expect::RefusedKept(400)));
    }
    cases.push(Case::request("json", "no body", post("", ""), Expect::RefusedKept(400)));
    for (name, body) in FAITHFUL {
        // The lane's digit, escaped.
        let run_body = body.to_owned();
        cases.push(Case::run("fidelity", name, move |lane, world| {
            let own = String::from_utf8(lane.own(run_body.as_bytes())).unwrap();
            let own = own.replace("003X", &format!("003{}", &String::from_utf8(lane.own(b"mdl0")).unwrap()[3..]));
            byte_for_byte(lane, world, own.as_bytes())
        }));
    }
    resources(&mut cases);
    for coding in ENCODINGS {
        let bytes = post(&format!("content-encoding: {coding}\r\n"), vec![0x1f; 64]);
        cases.push(Case::refused("compression", coding, &[415], bytes));
    }
    let served = || Expect::ServedAll(vec![BODY.into()]);
    cases.push(Case::request("compression", "identity", post("content-encoding: identity\r\n", BODY), served()));
    splices(&mut cases);
    cases
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

fn byte_for_byte(lane: &crate::lane::Lane, world: &crate::lane::World, body: &[u8]) -> Result<(), String> {
    let mut client = Client::new(world.proxy);
    let begin = std::time::Instant::now();
    client.send(&post("x-token: t\r\n", body));
    let replies = client.replies(1)?;
    ensure(replies.len() == 1 && replies[0].status == 200, || {
        format!("not served after {:?}: {replies:?}", begin.elapsed())
    })?;
    let got = lane.engine.requests();
    ensure(got.len() == 1 && got[0].body() == body, || "the engine got another body".into())?;
    ensure(begin.elapsed() < crate::client::PATIENCE, || format!("took {:?}", begin.elapsed()))
}

/// Bodies that cost a careless reader its stack, its memory or its time.
fn resources(cases: &mut Vec<Case>) {
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{{\"model\":\"mdl0\",\"x\":{}1{}}}", open.repeat(depth), close.repeat(depth))
    };
    cases.push(Case::request(
        "json size",
        "depth 127 of lists",
        post("", nested("[", "]", 127)),
        Expect::ServedAll(vec![nested("[", "]", 127).into()]),
    ));
    for depth in [128, 10_000, 100_000, 1_000_000] {
        cases.push(Case::request(
            "json size",
            format!("depth {depth} of lists"),
            post("", nested("[", "]", depth)),
            Expect::RefusedKept(400),
        ));
        cases.push(Case::request(
            "json size",
            format!("depth {depth} of objects"),
            post("", nested("{\"a\":", "}", depth)),
            Expect::RefusedKept(400),
        ));
    }
    cases.push(Case::request(
        "json size",
        "a million open lists",
        post("", "[".repeat(1_000_000)),
        Expect::RefusedKept(400),
    ));
    let million = 1 << 20;
    let keys: String = (0..200_000).map(|n| format!("\"k{n}\":{n},")).collect();
    let same: String = (0..100_000).map(|_| "\"k\":1,").collect();
    for (name, body) in [
        ("a number of 1 MB", format!("{{\"model\":\"mdl0\",\"x\":{}}}", "7".repeat(million))),
        ("an exponent of 1 MB", format!("{{\"model\":\"mdl0\",\"x\":1e{}}}", "9".repeat(million))),
        ("max_tokens of 1 MB", format!("{{\"model\":\"mdl0\",\"max_tokens\":{}}}", "9".repeat(million))),
        ("200,000 keys", format!("{{{keys}\"model\":\"mdl0\"}}")),
        ("100,000 equal keys", format!("{{{same}\"model\":\"mdl0\"}}")),
        ("1 MB of escapes", format!("{{\"model\":\"mdl0\",\"prompt\":\"{}\"}}", "\\u0041".repeat(million / 6))),
        (
            "1 MB of escaped backslashes",
            format!("{{\"model\":\"mdl0\",\"prompt\":\"{}\"}}", "\\\\".repeat(million / 2)),
        ),
        ("a key of 1 MB of escapes", format!("{{\"{}\":1,\"model\":\"mdl0\"}}", "\\u006d".repeat(million / 6))),
        ("1 MB of blanks", format!("{{{}\"model\":\"mdl0\"}}", " ".repeat(million))),
        ("1 MB of commas in a list", format!("{{\"x\":[{}0],\"model\":\"mdl0\"}}", "0,".repeat(million / 2))),
        (
            "100,000 messages",
            format!(
                "{{\"model\":\"mdl0\",\"messages\":[{}{{}}]}}",
                "{\"role\":\"user\",\"content\":\"x\"},".repeat(100_000)
            ),
        ),
        ("8 MB of prompt", format!("{{\"model\":\"mdl0\",\"prompt\":\"{}\"}}", "x".repeat(8 * million))),
    ] {
        cases.push(Case::run("json size", name, move |lane, world| {
            byte_for_byte(lane, world, &lane.own(body.as_bytes()))
        }));
    }
    let name = format!("{{\"model\":\"{}\"}}", "m".repeat(million));
    cases.push(Case::request("json size", "a model of 1 MB", post("", name), Expect::RefusedKept(404)));
}

/// The two edits, byte for byte around them.
fn splices(cases: &mut Vec<Case>) {
    let pairs = [
        (
            "a rename",
            "{\"x\":1.0, \"model\" : \"ren0\",\"y\":[2e0]}",
            "{\"x\":1.0, \"model\" : \"renamed\",\"y\":[2e0]}",
        ),
        (
            "a rename beside a nested model",
            r#"{"x":{"model":"ren0"},"model":"ren0"}"#,
            r#"{"x":{"model":"ren0"},"model":"renamed"}"#,
        ),
        ("a rename beside Model", r#"{"Model":"ren0","model":"ren0"}"#, r#"{"Model":"ren0","model":"renamed"}"#),
        ("no injection without stream", r#"{"model":"usg0","x":1}"#, r#"{"model":"usg0","x":1}"#),
        (
            "no injection where asked",
            r#"{"model":"usg0","stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"model":"usg0","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ];
    for (name, sent, got) in pairs {
        cases.push(Case::request("splices", name, post("", sent), Expect::ServedAll(vec![got.into()])));
    }
    let triton = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT64","data":[9007199254740993]}]}"#;
    cases.push(Case::request(
        "splices",
        "a model in the path",
        post_to("/v2/models/tri0/infer", "", triton),
        Expect::ServedAll(vec![triton.into()]),
    ));
    for path in
        ["/v2/models/%00/infer", "/v2/models/..%2ftri0/infer", "/v2/models/%2e%2e/infer", "/v2/models/a%2f..%2fb/infer"]
    {
        cases.push(Case::run("splices", path, move |lane, world| {
            let mut client = Client::new(world.proxy);
            client.send(&post_to(path, "", triton));
            let replies = client.replies(1)?;
            ensure(replies.len() == 1 && (400..500).contains(&replies[0].status), || format!("{replies:?}"))?;
            ensure(lane.engine.received() == 0, || "it reached the engine".into())
        }));
    }
}
