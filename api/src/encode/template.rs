//! Chat templates.

use crate::proto;
use crate::proto::content_change::Strip as WireStrip;
use crate::template::{Change, ChatTemplate, ContentForm, ContentKey, GapKey, Next, Piece, Segments, Speaker, Strip};

pub(crate) fn chat_template(template: &ChatTemplate) -> proto::ChatTemplate {
    let ChatTemplate { source, tokens, bos, content, segments } = template;
    let content = match content {
        ContentForm::Text => proto::chat_template::Content::Text,
        ContentForm::Parts => proto::chat_template::Content::Parts,
    };
    proto::ChatTemplate {
        source: source.to_string(),
        tokens: tokens.clone(),
        bos: bos.to_string(),
        content: content.into(),
        segments: segments.as_ref().map(segments_of),
    }
}

fn segments_of(segments: &Segments) -> proto::Segments {
    proto::Segments {
        texts: segments.texts().iter().map(|text| gap_text(text)).collect(),
        gaps: segments.gaps().map(|(key, text)| gap(key, text)).collect(),
        contents: segments.contents().map(|(key, change)| content(key, change)).collect(),
        apart: segments.apart().bits().into(),
    }
}

fn gap_text(pieces: &[Piece]) -> proto::GapText {
    use proto::gap_piece::Piece as Wire;
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => Wire::Text(text.to_string()),
        Piece::Date(format) => Wire::Date(format.to_string()),
    };
    proto::GapText { pieces: pieces.iter().map(|p| proto::GapPiece { piece: Some(piece(p)) }).collect() }
}

fn gap(key: GapKey, text: u32) -> proto::Gap {
    let GapKey { before, next, index, left, users } = key;
    let (next, generate) = match next {
        Next::End { generate } => (proto::Speaker::Nobody, generate),
        Next::Message(next) => (speaker(next), false),
    };
    proto::Gap {
        before: before.map_or(proto::Speaker::Nobody, speaker).into(),
        next: next.into(),
        generate,
        index: index as u32,
        left: left as u32,
        users: users as u32,
        text,
    }
}

fn content(key: ContentKey, change: Change) -> proto::ContentChange {
    let ContentKey { speaker: whose, first, last, answered } = key;
    let (strip_, thought) = (strip(change.strip).into(), change.thought.map(|thought| strip(thought).into()));
    proto::ContentChange { speaker: speaker(whose).into(), first, last, answered, strip: strip_, thought }
}

fn speaker(speaker: Speaker) -> proto::Speaker {
    match speaker {
        Speaker::User => proto::Speaker::User,
        Speaker::Assistant => proto::Speaker::Assistant,
        Speaker::System => proto::Speaker::SystemMessage,
        Speaker::Tool => proto::Speaker::Tool,
        Speaker::Developer => proto::Speaker::Developer,
    }
}

fn strip(strip: Strip) -> WireStrip {
    match strip {
        Strip::Nothing => WireStrip::Nothing,
        Strip::Both => WireStrip::Both,
        Strip::Start => WireStrip::Start,
        Strip::End => WireStrip::End,
        Strip::FeedsBefore => WireStrip::FeedsBefore,
        Strip::Feeds => WireStrip::Feeds,
    }
}
