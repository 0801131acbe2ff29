//! Chat templates.

use super::Reason;
use super::field::{choice, count, narrow, number};
use super::path::{Path, Problems};
use crate::proto::content_change::Strip as WireStrip;
use crate::template::{
    Apart, Change, ChatTemplate, ContentForm, ContentKey, Counted, GapKey, Next, Piece, Segments, Speaker, Strip,
};
use crate::{limits, proto};

const SPEAKERS: &str = "NOBODY, USER, ASSISTANT, SYSTEM_MESSAGE, TOOL, DEVELOPER";

pub(super) fn chat_template(problems: &mut Problems, at: &Path<'_>, wire: proto::ChatTemplate) -> ChatTemplate {
    let proto::ChatTemplate { source, tokens, bos, content, segments } = wire;
    if source.is_empty() {
        problems.add(&at.field("source"), Reason::Missing("give the Jinja program"));
    }
    bounded(problems, &at.field("source"), &source, limits::MAX_TEMPLATE_BYTES);
    bounded(problems, &at.field("bos"), &bos, limits::MAX_TOKEN_BYTES);
    count(problems, &at.field("tokens"), tokens.len(), ("tokens", limits::MAX_TEMPLATE_TOKENS));
    for (name, value) in &tokens {
        bounded(problems, &at.field("tokens"), name, limits::MAX_TOKEN_BYTES);
        bounded(problems, &at.field("tokens"), value, limits::MAX_TOKEN_BYTES);
    }
    let content = match choice(problems, &at.field("content"), content, "TEXT, PARTS") {
        proto::chat_template::Content::Text => ContentForm::Text,
        proto::chat_template::Content::Parts => ContentForm::Parts,
    };
    let segments = segments.and_then(|wire| segments_of(problems, &at.field("segments"), wire));
    ChatTemplate { source: source.into(), tokens, bos: bos.into(), content, segments }
}

/// Unlike a name, it may hold control characters.
fn bounded(problems: &mut Problems, at: &Path<'_>, value: &str, max: usize) {
    if value.len() > max {
        problems.add(at, Reason::TooLong { found: value.len(), max });
    }
}

fn segments_of(problems: &mut Problems, at: &Path<'_>, wire: proto::Segments) -> Option<Segments> {
    let proto::Segments { texts, gaps, contents, apart } = wire;
    count(problems, &at.field("texts"), texts.len(), ("texts", Segments::MAX_TEXTS));
    count(problems, &at.field("gaps"), gaps.len(), ("gaps", GapKey::COUNT));
    count(problems, &at.field("contents"), contents.len(), ("contents", ContentKey::COUNT));
    let bytes: usize = texts.iter().map(prost::Message::encoded_len).sum();
    if bytes > limits::MAX_TEMPLATE_BYTES {
        problems.add(&at.field("texts"), Reason::TooLong { found: bytes, max: limits::MAX_TEMPLATE_BYTES });
    }
    let places = texts.len();
    let texts = texts.into_iter().enumerate().map(|(i, text)| gap_text(problems, &at.item("texts", i), text));
    let texts = texts.collect();
    let gaps: Vec<_> =
        gaps.into_iter().enumerate().filter_map(|(i, wire)| gap(problems, &at.item("gaps", i), wire, places)).collect();
    let contents: Vec<_> = (contents.into_iter().enumerate())
        .filter_map(|(i, wire)| content(problems, &at.item("contents", i), wire))
        .collect();
    let known = u8::try_from(apart).ok().and_then(Apart::from_bits);
    if known.is_none() {
        let known = "1, 2, 4, 8, 16, 32 and their sums";
        problems.add(&at.field("apart"), Reason::UnknownValue { found: apart as i32, known });
    }
    Segments::from_places(texts, &gaps, &contents, known?)
}

fn gap_text(problems: &mut Problems, at: &Path<'_>, wire: proto::GapText) -> Box<[Piece]> {
    use proto::gap_piece::Piece as Wire;
    let mut pieces = Vec::new();
    for (i, piece) in wire.pieces.into_iter().enumerate() {
        match piece.piece {
            Some(Wire::Text(text)) => pieces.push(Piece::Text(text.into())),
            Some(Wire::Date(format)) => pieces.push(Piece::Date(format.into())),
            None => problems.add(&at.item("pieces", i), Reason::Missing("a piece is a text or a date")),
        }
    }
    pieces.into()
}

fn gap(problems: &mut Problems, at: &Path<'_>, wire: proto::Gap, places: usize) -> Option<(GapKey, u32)> {
    let proto::Gap { before, next, generate, index, left, users, text } = wire;
    let before = speaker(problems, &at.field("before"), before);
    let next = speaker(problems, &at.field("next"), next).map_or(Next::End { generate }, Next::Message);
    let index = counted(problems, &at.field("index"), index);
    let left = counted(problems, &at.field("left"), left);
    let users = counted(problems, &at.field("users"), users);
    if text as usize >= places {
        let max = places.saturating_sub(1).to_string();
        problems.add(&at.field("text"), Reason::OutOfRange { found: text.to_string(), min: "0".into(), max });
        return None;
    }
    Some((GapKey { before, next, index, left, users }, text))
}

fn content(problems: &mut Problems, at: &Path<'_>, wire: proto::ContentChange) -> Option<(ContentKey, Change)> {
    let proto::ContentChange { speaker: whose, first, last, answered, strip: strip_, thought } = wire;
    let strip_ = strip(problems, &at.field("strip"), strip_);
    let thought = thought.map(|thought| strip(problems, &at.field("thought"), thought));
    let Some(speaker) = speaker(problems, &at.field("speaker"), whose) else {
        problems.add(&at.field("speaker"), Reason::Missing("say whose content it is"));
        return None;
    };
    Some((ContentKey { speaker, first, last, answered }, Change { thought, strip: strip_ }))
}

fn speaker(problems: &mut Problems, at: &Path<'_>, wire: i32) -> Option<Speaker> {
    match choice(problems, at, wire, SPEAKERS) {
        proto::Speaker::Nobody => None,
        proto::Speaker::User => Some(Speaker::User),
        proto::Speaker::Assistant => Some(Speaker::Assistant),
        proto::Speaker::SystemMessage => Some(Speaker::System),
        proto::Speaker::Tool => Some(Speaker::Tool),
        proto::Speaker::Developer => Some(Speaker::Developer),
    }
}

fn counted(problems: &mut Problems, at: &Path<'_>, wire: u32) -> Counted {
    let place: u8 = narrow(number(problems, at, Some(wire), (0, 0..=2)));
    Counted::ALL.get(usize::from(place)).copied().unwrap_or(Counted::None)
}

fn strip(problems: &mut Problems, at: &Path<'_>, wire: i32) -> Strip {
    match choice(problems, at, wire, "NOTHING, BOTH, START, END, FEEDS_BEFORE, FEEDS") {
        WireStrip::Nothing => Strip::Nothing,
        WireStrip::Both => Strip::Both,
        WireStrip::Start => Strip::Start,
        WireStrip::End => Strip::End,
        WireStrip::FeedsBefore => Strip::FeedsBefore,
        WireStrip::Feeds => Strip::Feeds,
    }
}
