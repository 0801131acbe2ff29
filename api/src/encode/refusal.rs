//! What a data plane answers where it refuses.

use std::collections::HashSet;

use prost::Message as _;

use crate::decode::{Object, Problem};
use crate::limits::{MAX_HELD_BYTES, MAX_REFUSAL_BYTES};
use crate::snapshot::Snapshot;
use crate::{encode, proto};

/// The wire form of a refusal: what is wrong, and of each object that is at fault the form that is held, as far as there is room.
pub fn refusals<'a>(problems: &'a [Problem], held: &Snapshot) -> Vec<proto::Refusal> {
    let plain: Vec<proto::Refusal> = problems.iter().map(refusal).collect();
    // Each is told with its tag and length.
    let bytes: usize = plain.iter().map(|refusal| refusal.encoded_len() + 8).sum();
    let (mut told, mut room) = (HashSet::new(), MAX_HELD_BYTES.min(MAX_REFUSAL_BYTES.saturating_sub(bytes)));
    let with_form = |(problem, refusal): (&'a Problem, proto::Refusal)| {
        let object = problem.object.as_ref().filter(|object| told.insert(*object));
        let form = object.and_then(|object| form(object, held)).filter(|form| form.encoded_len() <= room);
        room -= form.as_ref().map_or(0, prost::Message::encoded_len);
        proto::Refusal { held: form, ..refusal }
    };
    problems.iter().zip(plain).map(with_form).collect()
}

fn refusal(problem: &Problem) -> proto::Refusal {
    use proto::refusal::Kind;
    let (kind, name) = match &problem.object {
        None => (Kind::Snapshot, ""),
        Some(Object::Route(name)) => (Kind::Route, name.as_str()),
        Some(Object::Backend(name)) => (Kind::Backend, name.as_str()),
        Some(Object::Profile(name)) => (Kind::Profile, name.as_str()),
    };
    let (path, mut reason) = (problem.path.clone(), problem.reason.to_string());
    // A reason may quote the whole of what is wrong, and all refusals go in one message.
    reason.truncate(reason.floor_char_boundary(512));
    proto::Refusal { kind: kind.into(), name: name.to_owned(), path, reason, held: None }
}

/// An object as it is held, alone.
fn form(object: &Object, held: &Snapshot) -> Option<proto::Snapshot> {
    let mut alone = proto::Snapshot::default();
    match object {
        Object::Route(name) => alone.routes.push(encode::route(held.routes.iter().find(|r| r.name == *name)?)),
        Object::Backend(name) => alone.backends.push(encode::backend(held.backends.iter().find(|b| b.name == *name)?)),
        Object::Profile(name) => alone.profiles.push(encode::profile(held.profiles.iter().find(|p| p.name == *name)?)),
    }
    Some(alone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Reason;
    use crate::json::snapshot_from_json;

    fn problem(object: Object) -> Problem {
        Problem { object: Some(object), path: String::new(), reason: Reason::NoWeight }
    }

    fn backend(name: &str, endpoints: usize) -> serde_json::Value {
        let endpoint = |n| serde_json::json!({"name": format!("{name}/{n}"), "address": format!("10.0.0.1:{}", n + 1)});
        serde_json::json!({"name": name, "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>()})
    }

    #[test]
    fn the_form_that_is_held_is_told_once_for_each_object_while_there_is_room() {
        let backends = [backend("d/small", 1), backend("d/large", 20_000), backend("d/other", 1)];
        let held = snapshot_from_json(serde_json::json!({"backends": backends}).to_string().as_bytes()).unwrap();
        let named = |name: &str| problem(Object::Backend(name.into()));
        let problems = [
            named("d/small"),
            named("d/small"),
            named("d/large"),
            named("d/new"),
            problem(Object::Route("d/small".into())),
        ];
        let told = |refusal: &proto::Refusal| {
            refusal.held.as_ref().map(|held| (held.backends.len(), held.backends[0].name.clone()))
        };
        let found: Vec<_> = refusals(&problems, &held).iter().map(told).collect();
        assert_eq!(found, [Some((1, "d/small".into())), None, None, None, None]);
    }

    #[test]
    fn however_much_is_wrong_all_of_it_and_what_is_told_of_it_fit_one_message() {
        let backends: Vec<_> = (0..1_000).map(|n| backend(&format!("d/{n}"), 20)).collect();
        let held = snapshot_from_json(serde_json::json!({"backends": backends}).to_string().as_bytes()).unwrap();
        for path in ["x".repeat(850), "x".repeat(300)] {
            let wrong = |n| Problem { path: path.clone(), ..problem(Object::Backend(format!("d/{n}").into())) };
            let problems: Vec<_> = (0..1_000).map(wrong).collect();
            let refused = proto::Refused { refusals: refusals(&problems, &held) };
            assert!(refused.encoded_len() < 1 << 20, "{}", refused.encoded_len());
            let told = refused.refusals.iter().filter(|refusal| refusal.held.is_some()).count();
            assert!(told < 1_000 && (told > 100 || path.len() > 300), "{told} forms");
        }
    }
}
