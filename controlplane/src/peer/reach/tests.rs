use api::snapshot::Version;

use prost::Message as _;

use super::*;

fn route(name: &str) -> Object {
    Object::Route(RouteName::from(name))
}

/// Each as `name@since`.
fn standings(words: &str) -> Arc<Standings> {
    let one = |word: &str| {
        let (name, since) = word.split_once('@').unwrap();
        (route(name), Standing { uid: "u".into(), generation: 3, since: since.parse().unwrap() })
    };
    Arc::new(words.split_whitespace().map(one).collect())
}

/// Two data planes, with these objects refused as `name=reason`.
fn progress(reached: u64, refused: &str) -> Progress {
    let version = |version| Version { epoch: 0, version };
    let one = |word: &str| {
        let (name, reason) = word.split_once('=').unwrap();
        (route(name), Refused { by: 1, reason: reason.into() })
    };
    Progress {
        source: version(9),
        connected: 2,
        applied: 1,
        reached: Some(version(reached)),
        refused: refused.split_whitespace().map(one).collect(),
        ..Progress::default()
    }
}

/// One that tells, and one that hears it.
#[derive(Default)]
struct Pair {
    told: Told,
    part: Part,
}

impl Pair {
    /// What was told, but for the numbers.
    fn tell(&mut self, standings: &Arc<Standings>, progress: &Progress) -> Vec<PeerReport> {
        let (numbers, reports) = self.told.news(standings, progress);
        for report in reports.clone() {
            self.part.take(report.objects, report.refusals).unwrap();
        }
        if let Some(numbers) = numbers {
            self.part.count(numbers);
        }
        let Part { connected, applied, newest, reached, stuck, standings: heard, refused } = &self.part;
        assert_eq!((*connected, *applied, *newest), (progress.connected, progress.applied, progress.source.version));
        assert_eq!((*reached, stuck.as_ref()), (progress.reached.map(|it| it.version), progress.stuck.first()));
        assert_eq!((heard, &**refused), (standings, &progress.refused));
        reports
    }
}

#[test]
fn what_is_told_is_what_is_heard_and_only_what_is_new_is_told() {
    let mut pair = Pair::default();
    let first = pair.tell(&standings("a@1 b@2 c@2"), &progress(8, "a=no"));
    let lines = |reports: &[PeerReport]| {
        let sum = |of: fn(&PeerReport) -> usize| reports.iter().map(of).sum::<usize>();
        (sum(|it| it.objects.len()), sum(|it| it.refusals.len()))
    };
    assert_eq!(lines(&first), (3, 1));
    assert!(pair.tell(&standings("a@1 b@2 c@2"), &progress(8, "a=no")).is_empty());
    assert_eq!(lines(&pair.tell(&standings("a@1 b@9 d@9"), &progress(8, "a=no"))), (3, 0));
    assert_eq!(lines(&pair.tell(&standings("a@1 b@9 d@9"), &progress(9, ""))), (0, 1));
    let stuck = Progress { stuck: vec!["too big".into(), "as well".into()], reached: None, ..progress(9, "b=other") };
    assert_eq!(lines(&pair.tell(&standings("a@1 b@9 d@9"), &stuck)), (0, 1));
    assert_eq!(lines(&pair.tell(&standings(""), &progress(9, ""))), (3, 1));
}

#[test]
fn numbers_are_told_at_first_and_when_they_change() {
    let (mut told, mut progress) = (Told::default(), Progress::default());
    assert_eq!(told.news(&Arc::default(), &progress), (Some(PeerProgress::default()), Vec::new()));
    assert_eq!(told.news(&Arc::default(), &progress), (None, Vec::new()));
    progress.connected = 1;
    assert_eq!(told.news(&Arc::default(), &progress).0.map(|numbers| numbers.connected), Some(1));
}

#[test]
fn all_there_is_comes_in_messages_of_bounded_size() {
    let many: String = (0..20_000).map(|n| format!("namespace/{}{n}@1 ", "x".repeat(200))).collect();
    let mut pair = Pair::default();
    let reports = pair.tell(&standings(&many), &progress(9, ""));
    assert!(reports.len() >= 4 && reports.iter().all(|report| report.encoded_len() < 2 << 20), "{}", reports.len());
}

#[test]
fn what_is_beyond_the_bound_is_not_taken_and_so_is_not_in_force() {
    let mut part = Part::default();
    let object = |n: usize| PeerObject { kind: Kind::Route.into(), name: format!("d/{n}"), ..PeerObject::default() };
    part.take((0..MOST + 10).map(object).collect(), Vec::new()).unwrap();
    assert_eq!(part.standings.len(), MOST);
    part.take(vec![PeerObject { generation: 5, ..object(0) }], Vec::new()).unwrap();
    assert_eq!(part.standings[&route("d/0")].generation, 5, "what is held is changed");
    let long = "é".repeat(REASON_BYTES);
    part.count(PeerProgress { stuck: long, ..PeerProgress::default() });
    assert!(part.stuck.unwrap().len() <= REASON_BYTES);
}

#[test]
fn what_names_no_object_is_refused() {
    let check = |kind: i32, name: &str, expected| {
        let said = vec![PeerObject { kind, name: name.into(), ..PeerObject::default() }];
        assert_eq!(Part::default().take(said, Vec::new()), Err(expected));
    };
    check(Kind::Snapshot.into(), "d/a", WireError::NoObject);
    check(99, "d/a", WireError::NoObject);
    check(Kind::Route.into(), &"x".repeat(MAX_NAME_BYTES + 1), WireError::LongName);
}
