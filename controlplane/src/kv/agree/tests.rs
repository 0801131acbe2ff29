//! Engines that write chats alike, otherwise, or do not say.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
                      {{ '<|im_start|>assistant\\n' }}";
const NOON_S: i64 = 43_200;

/// The simulated engine's tokens: four bytes each, the last one filled up.
fn tokens(text: &str) -> String {
    let token = |piece: &[u8]| piece.iter().rev().fold(0, |token, byte| token << 8 | u32::from(*byte));
    json!({"tokens": text.as_bytes().chunks(4).map(token).collect::<Vec<_>>()}).to_string()
}

fn question(template: &str) -> Question {
    Question::new(Some(&ChatTemplate::new(template)), "m", NOON_S).unwrap()
}

/// What an engine with this template answers to a question, at this time.
fn answer(template: &str, question: &Question, unix_s: i64) -> String {
    let template = ChatTemplate::new(template);
    let renderer = Renderer::new(&template).unwrap();
    tokens(&renderer.render_body(&template, question.body.as_bytes(), unix_s).unwrap())
}

/// What comes of one template here and one there.
fn held(ours: &str, theirs: &str) -> Agreement {
    let question = question(ours);
    question.judge(&answer(theirs, &question, NOON_S), &Vocabulary::quads())
}

fn asked(question: &Question) -> Vec<String> {
    let body: Value = serde_json::from_str(&question.body).unwrap();
    body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_engine_that_writes_the_same_text_agrees_and_one_that_does_not_is_shown_where() {
    assert_eq!(held(CHATML, CHATML), Agreement::Same);
    let differs = held(CHATML, &CHATML.replace("<|im_end|>\\n", "<|im_end|>"));
    assert_eq!(differs.word(), "differs");
    let reason = differs.reason().unwrap();
    assert!(reason.contains("around byte") && reason.contains("<|im_end|>\\n<|im_start|>user"), "{reason}");
    assert_eq!(held(CHATML, &format!("{CHATML} ")).word(), "differs", "text is left over");
    assert_eq!(held(&format!("{CHATML} "), CHATML).word(), "differs", "text is missing");
}

#[test]
fn where_no_template_is_known_the_messages_stand_in_its_place() {
    let question = Question::new(None, "m", NOON_S).unwrap();
    let vocabulary = Vocabulary::quads();
    assert_eq!(question.judge(&answer(CHATML, &question, NOON_S), &vocabulary), Agreement::Same);
    let llama = "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m.content }}{% endfor %}";
    let differs = question.judge(&answer(llama, &question, NOON_S), &vocabulary);
    assert!(differs.reason().unwrap().starts_with("no chatTemplate is known"), "{differs:?}");
}

#[test]
fn tokens_that_the_vocabulary_lacks_are_of_another_model() {
    let vocabulary = Vocabulary::of_pieces(&[b"a", b"b"]);
    let judged = question("{{ 'ab' }}").judge(r#"{"count": 3, "tokens": [0, 1, 7]}"#, &vocabulary);
    assert!(judged.reason().unwrap().contains("token 7"), "{judged:?}");
    assert_eq!(question("{{ 'ab' }}").judge(r#"{"tokens": [0, 1]}"#, &vocabulary), Agreement::Same);
    let zeros = Vocabulary::of_pieces(&[b"a", b"b", b"\0"]);
    let judged = question("{{ 'ab' }}").judge(r#"{"tokens": [0, 1, 2]}"#, &zeros);
    assert_eq!(judged.word(), "differs", "what a real engine says is all of its text: {judged:?}");
}

#[test]
fn an_answer_without_tokens_says_nothing() {
    for answer in ["", "{}", r#"{"tokens": "1 2"}"#, r#"{"tokens": [-1]}"#] {
        assert_eq!(question(CHATML).judge(answer, &Vocabulary::quads()).word(), "unchecked", "{answer}");
    }
}

#[test]
fn the_fullest_chat_that_the_template_takes_is_asked_for() {
    assert_eq!(asked(&question(CHATML)), ["system", "user", "assistant", "user"]);
    let refuses = |what: &str| format!("{{% if {what} %}}{{{{ raise_exception('no') }}}}{{% endif %}}{CHATML}");
    assert_eq!(asked(&question(&refuses("messages[0].role == 'system'"))), ["user", "assistant", "user"]);
    assert_eq!(asked(&question(&refuses("messages | length > 1"))), ["user"]);
    let never = Question::new(Some(&ChatTemplate::new(&refuses("true"))), "m", NOON_S);
    assert!(never.unwrap_err().contains("no"));
}

#[test]
fn an_engine_in_another_time_zone_may_write_another_day() {
    let dated = format!("{{{{ strftime_now('%Y-%m-%d') }}}}{CHATML}");
    let question = question(&dated);
    let of = |days: i64| question.judge(&answer(&dated, &question, NOON_S + days * 86_400), &Vocabulary::quads());
    assert_eq!([-2, -1, 0, 1, 2].map(|days| of(days) == Agreement::Same), [false, true, true, true, false]);
}

/// An engine that answers so, one after the other; and how often it was asked once all is said.
async fn engine(answers: &'static [(&'static str, &'static str)]) -> (SocketAddr, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut asked = 0;
        for (status, text) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = Vec::new();
            while !question.ends_with(b"}") {
                assert!(stream.read_buf(&mut question).await.unwrap() > 0);
            }
            asked += 1;
            let reply = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
        asked
    });
    (address, serving)
}

const AT_ONCE: [Duration; 2] = [Duration::ZERO; 2];

#[test]
fn of_several_templates_one_that_was_not_answered_for_has_it_asked_again() {
    let why = String::new;
    let from_best = [
        Agreement::Unasked,
        Agreement::Same,
        Agreement::Unchecked(why()),
        Agreement::Unanswered(why()),
        Agreement::Differs(why()),
    ];
    assert!(from_best.is_sorted(), "{from_best:?}");
}

#[tokio::test]
async fn an_engine_that_has_no_such_page_is_not_asked_again() {
    let (address, serving) = engine(&[("404 Not Found", "")]).await;
    let found = agree(address, &question(CHATML), &Vocabulary::quads(), &AT_ONCE).await;
    assert_eq!(found, Agreement::Unchecked("the engine's /tokenize answers 404 Not Found".to_owned()));
    assert_eq!(serving.await.unwrap(), 1);
}

#[tokio::test]
async fn an_engine_that_fails_is_asked_three_times() {
    let (address, serving) = engine(&[("503 Busy", ""), ("500 No", ""), ("200 OK", r#"{"tokens": [1]}"#)]).await;
    let vocabulary = Vocabulary::of_pieces(&[b"", b"ab"]);
    assert_eq!(agree(address, &question("{{ 'ab' }}"), &vocabulary, &AT_ONCE).await, Agreement::Same);
    assert_eq!(serving.await.unwrap(), 3);
    let (address, serving) = engine(&[("500 No", ""); 3]).await;
    assert_eq!(agree(address, &question("{{ 'ab' }}"), &vocabulary, &AT_ONCE).await.word(), "unanswered");
    assert_eq!(serving.await.unwrap(), 3);
}
