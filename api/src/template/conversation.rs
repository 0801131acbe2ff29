//! Conversations that hold what breaks guesses about a template: white space to be trimmed, empty contents, `</think>` in
//! earlier turns, repeated roles, a late system message, turns of tools, special tokens, NUL, CJK, dates, Jinja.

use minijinja::Value;

use super::{Clock, ContentForm, Request, Speaker};

/// A message as engines take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub speaker: Speaker,
    /// What is said.
    pub content: String,
}

/// A conversation to be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// What was said.
    pub messages: Vec<Message>,
    /// Whether an answer is to begin at the end.
    pub generate: bool,
    /// When, in seconds since 1970.
    pub unix_s: i64,
}

impl Conversation {
    /// As a template takes it.
    pub fn request(&self, form: ContentForm, clock: Clock) -> Request {
        let messages = self.messages.iter().map(|message| message.value(form)).collect();
        Request { messages, generate: self.generate, variables: Default::default(), clock }
    }
}

impl Message {
    fn value(&self, form: ContentForm) -> Value {
        let content = match form {
            ContentForm::Text => Value::from(&self.content),
            ContentForm::Parts => part(&self.content),
        };
        Value::from_pairs([("role", Value::from(self.speaker.role())), ("content", content)])
    }
}

/// A content as a list of one part.
pub(super) fn part(text: &str) -> Value {
    Value::from(vec![Value::from_pairs([("type", Value::from("text")), ("text", Value::from(text))])])
}

/// A sequence of numbers that depends on the seed alone (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// The conversation of this number.
pub fn conversation(number: u64) -> Conversation {
    let mut numbers = Numbers(number);
    let speakers = speakers(&mut numbers);
    let messages = speakers.into_iter().map(|speaker| Message { speaker, content: content(&mut numbers, speaker) });
    let messages = messages.collect();
    // From 2020 to 2036.
    let unix_s = 1_577_836_800 + (numbers.next() % 500_000_000) as i64;
    Conversation { messages, generate: !numbers.one_in(8), unix_s }
}

/// Mostly in turns, as clients send them; else in ways that a template may not expect.
fn speakers(numbers: &mut Numbers) -> Vec<Speaker> {
    use Speaker::{Assistant, Developer, System, Tool, User};
    let mut speakers = Vec::new();
    if numbers.one_in(2) {
        speakers.push(if numbers.one_in(10) { Developer } else { System });
    }
    let kind = numbers.below(20);
    for turn in 0..=numbers.below(4) {
        match kind {
            0 | 1 => speakers.push(numbers.of(&[&User, &Assistant, &System, &Tool, &Developer]).to_owned()),
            2 => speakers.extend([User, User, Assistant]),
            3 if turn > 0 => speakers.extend([User, System, Assistant]),
            4..=6 => {
                speakers.extend([User, Assistant]);
                speakers.extend(vec![Tool; 1 + numbers.below(2)]);
                speakers.push(Assistant);
            }
            _ => speakers.extend([User, Assistant]),
        }
    }
    // The user has the last word, mostly.
    if kind > 1 && !numbers.one_in(12) {
        match numbers.below(6) {
            0 if kind > 3 => drop(speakers.pop()),
            _ => speakers.push(User),
        }
    }
    speakers
}

fn content(numbers: &mut Numbers, speaker: Speaker) -> String {
    const WORDS: [&str; 16] = [
        "hello",
        "world",
        "the quick",
        "brown fox",
        "{\"a\": 1.0}",
        "naïve",
        "你好，世界",
        "日本語のテキスト",
        "한국어",
        "🙂🎉",
        "2024-07-26",
        "26 Jul 2024",
        "x\ny",
        "line\r\n",
        "tab\there",
        "```rust\nfn main() {}\n```",
    ];
    const ODD: [&str; 14] = [
        "<|im_end|>",
        "<|im_start|>user\n",
        "[INST]",
        "[/INST]",
        "<s>",
        "</s>",
        "<|eot_id|>",
        "<think>",
        "{{ bos_token }}",
        "{% endfor %}",
        "\0",
        "\u{1c}",
        "\u{feff}",
        "<|end|>",
    ];
    const BLANKS: [&str; 8] = [" ", "\n", "\n\n", "\t", "\u{a0}", "\u{3000}", "\u{1f}", "\r\n"];
    if numbers.one_in(16) {
        return if numbers.one_in(2) { String::new() } else { numbers.of(&BLANKS).to_owned() };
    }
    let mut text = String::new();
    if speaker == Speaker::Assistant && numbers.one_in(4) {
        let feed = numbers.of(&["", "\n", "\n\n"]);
        text = match numbers.below(3) {
            0 => format!("<think>{feed}so {}{feed}</think>{feed}", numbers.of(&WORDS)),
            1 => format!("so{feed}</think>{feed}"),
            _ => format!("<think>\na</think>{feed}b</think> "),
        };
    }
    for _ in 0..=numbers.below(4) {
        if numbers.one_in(5) {
            text.push_str(numbers.of(&BLANKS));
        }
        text.push_str(if numbers.one_in(7) { numbers.of(&ODD) } else { numbers.of(&WORDS) });
    }
    if numbers.one_in(5) {
        text.push_str(numbers.of(&BLANKS));
    }
    if numbers.one_in(5) {
        text.insert_str(0, numbers.of(&BLANKS));
    }
    text
}
