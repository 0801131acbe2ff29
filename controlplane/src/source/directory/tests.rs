//! Real files; the time of a look is an argument, so nothing here waits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::{BRIEF, Directory, LONGEST, QUIET, TICK, reading_of, watch};
use crate::source::Reading;
use crate::world::{Held, ObjectName};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: NAME, labels: {app: x}}, status: {podIP: ADDRESS}}";

fn pod(name: &str, ip: &str) -> String {
    format!("---\n{}\n", POD.replace("NAME", name).replace("ADDRESS", ip))
}

fn route(name: &str, model: &str) -> String {
    format!(
        "---\napiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\n\
         spec: {{modelName: {model}, rules: [{{targetModels: [{{modelServerName: s}}]}}]}}\n"
    )
}

/// A directory, and the time, which goes when it is told to.
struct Bench {
    dir: tempfile::TempDir,
    directory: Directory,
    now: Instant,
}

impl Bench {
    fn of(files: &[(&str, &str)]) -> (Self, Reading) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write(&dir.path().join(name), text);
        }
        let (directory, reading) = Directory::open(dir.path()).unwrap();
        (Self { dir, directory, now: Instant::now() }, reading)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    fn replace(&self, name: &str, text: &str) {
        self.write(".new", text);
        fs::rename(self.path(".new"), self.path(name)).unwrap();
    }

    fn look_after(&mut self, pause: Duration) -> Option<Reading> {
        self.now += pause;
        self.directory.look(self.now)
    }

    /// Sees what has changed, and reads it once it has rested.
    fn settle(&mut self) -> Reading {
        assert!(self.look_after(Duration::ZERO).is_none(), "read before it has rested");
        self.look_after(QUIET).expect("a change, at rest")
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn pods(reading: &Reading) -> Vec<String> {
    reading.world.pods.iter().map(|(name, pod)| format!("{} {}", name.name, pod.ips[0])).collect()
}

fn faults(reading: &Reading) -> Vec<String> {
    reading.faults.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn only_fault(reading: &Reading, begins: &str) {
    let faults = faults(reading);
    assert!(faults.len() == 1 && faults[0].starts_with(begins), "{faults:?}");
}

#[test]
fn every_manifest_below_the_directory_counts_and_nothing_else() {
    let list = r#"{"apiVersion": "v1", "kind": "PodList", "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c"}, "status": {"podIP": "10.0.0.3"}}]}"#;
    let (bench, _) = Bench::of(&[
        (
            "a.yaml",
            &(pod("a", "10.0.0.1") + "---\n# nothing\n---\n{apiVersion: v1, kind: Service, metadata: {name: s}}\n"),
        ),
        ("deep/er/b.yml", &pod("b", "10.0.0.2")),
        ("c.JSON", list),
        ("README.md", "not: [yaml"),
        (".hidden.yaml", "not: [yaml"),
        ("..data/a.yaml", &pod("a", "10.0.0.1")),
    ]);
    let pipe = bench.path("pipe.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (_, reading) = Directory::open(bench.dir.path()).unwrap();
    assert_eq!(pods(&reading), ["a 10.0.0.1", "b 10.0.0.2", "c 10.0.0.3"]);
    assert_eq!((faults(&reading), reading.others), (vec![], 1));
}

#[test]
fn a_single_file_is_a_directory_of_one() {
    let (bench, _) = Bench::of(&[("a.json", r#"{"apiVersion": "v1", "kind": "Pod"}"#)]);
    let (_, reading) = Directory::open(&bench.path("a.json")).unwrap();
    assert_eq!(faults(&reading), ["a.json: object 1: metadata.name: is missing"]);
    assert!(Directory::open(&bench.path("none")).unwrap_err().contains("none"));
}

#[test]
fn what_is_written_in_place_counts_once_it_has_rested() {
    let (one, two) = (pod("a", "10.0.0.1"), pod("b", "10.0.0.2"));
    let (mut bench, _) = Bench::of(&[("a.yaml", &one), ("b.yaml", &two)]);
    bench.write("a.yaml", &(pod("a", "10.0.0.1") + &pod("c", "10.0.0.3")));
    assert!(bench.look_after(Duration::ZERO).is_none());
    bench.write("b.yaml", &(pod("b", "10.0.0.2") + &pod("d", "10.0.0.4")));
    assert!(bench.look_after(QUIET / 2).is_none());
    assert!(bench.look_after(QUIET / 2).is_none(), "it rests since its last change, not its first");
    assert_eq!(pods(&bench.look_after(QUIET / 2).unwrap()).len(), 4);
    assert!(bench.look_after(QUIET).is_none(), "nothing is said twice");
}

#[test]
fn what_takes_anothers_place_is_whole_and_rests_briefly() {
    let (mut bench, _) = Bench::of(&[("a.yaml", &pod("a", "10.0.0.1")), ("b.yaml", &pod("b", "10.0.0.1"))]);
    bench.replace("a.yaml", &pod("a", "10.0.0.9"));
    assert!(bench.look_after(Duration::ZERO).is_none());
    bench.replace("b.yaml", &pod("b", "10.0.0.2"));
    assert!(bench.look_after(BRIEF / 2).is_none());
    assert!(bench.look_after(BRIEF / 2).is_none(), "several files arrive together");
    assert_eq!(pods(&bench.look_after(BRIEF / 2 + Duration::from_millis(1)).unwrap()), ["a 10.0.0.9", "b 10.0.0.2"]);
    // Where somebody writes into one that was replaced, it is waited for as any other.
    bench.replace("a.yaml", &pod("a", "10.0.0.3"));
    assert!(bench.look_after(TICK * 2).is_none());
    bench.write("a.yaml", &(pod("a", "10.0.0.4") + "# more\n"));
    assert!(bench.look_after(BRIEF / 2).is_none());
    assert!(bench.look_after(BRIEF).is_none());
    assert_eq!(pods(&bench.look_after(QUIET).unwrap())[0], "a 10.0.0.4");
}

#[test]
fn a_file_that_is_new_may_be_half_there() {
    let (mut bench, _) = Bench::of(&[("a.yaml", &pod("a", "10.0.0.1"))]);
    bench.write("b.yaml", &pod("b", "10.0.0.2"));
    assert!(bench.look_after(Duration::ZERO).is_none());
    assert!(bench.look_after(BRIEF * 2).is_none(), "the second half may be on its way");
    bench.write("b.yaml", &(pod("b", "10.0.0.2") + &pod("c", "10.0.0.3")));
    assert!(bench.look_after(BRIEF).is_none());
    assert_eq!(pods(&bench.look_after(QUIET).unwrap()).len(), 3);
}

#[test]
fn who_never_stops_editing_is_read_all_the_same() {
    let (mut bench, _) = Bench::of(&[]);
    let mut waited = Duration::ZERO;
    for i in 0.. {
        bench.write("a.yaml", &"# \n".repeat(i + 1));
        bench.write("b.yaml", &pod("b", "10.0.0.2"));
        let read = bench.look_after(QUIET / 5);
        if i > 0 {
            waited += QUIET / 5;
        }
        if read.is_some() {
            break;
        }
        assert!(waited < LONGEST, "still unread");
    }
    assert_eq!(waited, LONGEST);
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_last_good_state() {
    let (mut bench, _) = Bench::of(&[("a.yaml", &pod("a", "10.0.0.1")), ("b.yaml", &pod("b", "10.0.0.2"))]);
    for bad in ["metadata: [", "kind: {", "a: 1\na: 2\n", ""] {
        bench.write("a.yaml", bad);
        assert!(bench.look_after(Duration::ZERO).is_none());
        bench.look_after(QUIET);
        let reading = bench.directory.reading();
        assert_eq!(pods(&reading).len(), 2, "{bad:?}");
        only_fault(&reading, "a.yaml: ");
    }
    bench.write("a.yaml", &pod("a", "10.0.0.9"));
    let reading = bench.settle();
    assert_eq!((pods(&reading), faults(&reading)), (vec!["a 10.0.0.9".into(), "b 10.0.0.2".into()], vec![]));
}

#[test]
fn an_object_that_cannot_be_read_keeps_its_own_last_good_state() {
    let (mut bench, _) = Bench::of(&[("a.yaml", &(pod("a", "10.0.0.1") + &pod("b", "10.0.0.2")))]);
    bench.write("a.yaml", &(pod("a", "10.0.0.300") + &pod("b", "10.0.0.9")));
    let reading = bench.settle();
    assert_eq!(pods(&reading), ["a 10.0.0.1", "b 10.0.0.9"]);
    only_fault(&reading, "a.yaml: object 1 (Pod default/a): status.podIP: \"10.0.0.300\"");
}

#[test]
fn what_is_deleted_goes() {
    let (mut bench, _) =
        Bench::of(&[("a.yaml", &(pod("a", "10.0.0.1") + &pod("b", "10.0.0.2"))), ("c.yaml", &pod("c", "10.0.0.3"))]);
    fs::remove_file(bench.path("c.yaml")).unwrap();
    bench.write("a.yaml", &pod("b", "10.0.0.2"));
    assert_eq!(pods(&bench.settle()), ["b 10.0.0.2"]);
}

#[test]
fn the_first_of_two_objects_of_one_name_counts() {
    let (mut bench, reading) =
        Bench::of(&[("a.yaml", &pod("p", "10.0.0.1")), ("b.yaml", &(pod("q", "10.0.0.3") + &pod("p", "10.0.0.2")))]);
    assert_eq!(pods(&reading), ["p 10.0.0.1", "q 10.0.0.3"]);
    only_fault(&reading, "b.yaml: object 2 (Pod default/p): is there already, as object 1 of a.yaml");
    fs::remove_file(bench.path("a.yaml")).unwrap();
    let reading = bench.settle();
    assert_eq!((pods(&reading), faults(&reading)), (vec!["p 10.0.0.2".into(), "q 10.0.0.3".into()], vec![]));
}

#[test]
fn one_uid_is_one_pods() {
    let twin = |name: &str| {
        format!("---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, uid: u}}, status: {{podIP: 10.0.0.1}}}}\n")
    };
    let reading = reading_of(&[("a.yaml", &(twin("a") + &twin("b")))]);
    assert_eq!(pods(&reading), ["a 10.0.0.1"]);
    only_fault(&reading, "a.yaml: object 2 (Pod default/b): metadata.uid: u is that of Pod default/a");
}

#[test]
fn a_config_map_is_swapped_as_a_whole() {
    let (mut bench, _) = Bench::of(&[("..1/a.yaml", &pod("a", "10.0.0.1")), ("..2/a.yaml", &pod("a", "10.0.0.2"))]);
    symlink("..1", bench.path("..data")).unwrap();
    symlink("..data/a.yaml", bench.path("a.yaml")).unwrap();
    assert_eq!(pods(&bench.settle()), ["a 10.0.0.1"]);
    symlink("..2", bench.path("..new")).unwrap();
    fs::rename(bench.path("..new"), bench.path("..data")).unwrap();
    assert_eq!(pods(&bench.settle()), ["a 10.0.0.2"]);
}

#[test]
fn a_directory_that_cannot_be_looked_through_deletes_nothing() {
    let (mut bench, _) = Bench::of(&[("in/a.yaml", &pod("a", "10.0.0.1"))]);
    let (directory, _) = Directory::open(&bench.path("in")).unwrap();
    bench.directory = directory;
    fs::rename(bench.path("in"), bench.path("out")).unwrap();
    let reading = bench.look_after(Duration::ZERO).expect("news");
    assert_eq!(pods(&reading), ["a 10.0.0.1"]);
    assert!(faults(&reading)[0].contains("in: No such file"), "{:?}", reading.faults);
    assert!(bench.look_after(QUIET).is_none(), "said once");
    fs::rename(bench.path("out"), bench.path("in")).unwrap();
    assert_eq!(faults(&bench.look_after(QUIET).expect("news")), Vec::<String>::new());
}

#[test]
fn a_part_that_cannot_be_looked_at_keeps_its_files_and_the_rest_is_followed() {
    let (a, b) = (pod("a", "10.0.0.1"), pod("b", "10.0.0.2"));
    let (mut bench, _) = Bench::of(&[("in/er/a.yaml", &a), ("b.yaml", &b), ("into.yaml", &pod("c", "10.0.0.3"))]);
    bench.write("b.yaml", &pod("b", "10.0.0.9"));
    fs::remove_file(bench.path("into.yaml")).unwrap();
    // Permissions do not hold for root, who may run this, so the refusal is played.
    let locked = bench.path("in");
    let scan = || {
        super::scan::scan_by(bench.dir.path(), |path| match path == locked {
            true => Err(std::io::ErrorKind::PermissionDenied.into()),
            false => fs::read_dir(path),
        })
    };
    only_fault(&bench.directory.take(scan(), bench.now).expect("news"), "in: permission denied");
    let later = bench.now + LONGEST;
    let reading = bench.directory.take(scan(), later).expect("the edit, at rest");
    assert_eq!(pods(&reading), ["a 10.0.0.1", "b 10.0.0.9"]);
    assert!(bench.directory.take(scan(), later + TICK).is_none(), "said once");
    bench.now = later + TICK;
    assert_eq!(faults(&bench.look_after(TICK).expect("news")), Vec::<String>::new());
    fs::remove_file(bench.path("in/er/a.yaml")).unwrap();
    assert_eq!(pods(&bench.settle()), ["b 10.0.0.9"]);
}

#[test]
fn a_link_that_leads_to_itself_is_one_files_fault() {
    let (mut bench, _) = Bench::of(&[("a.yaml", &pod("a", "10.0.0.1")), ("b.yaml", &pod("b", "10.0.0.2"))]);
    fs::remove_file(bench.path("a.yaml")).unwrap();
    symlink("a.yaml", bench.path("a.yaml")).unwrap();
    let reading = bench.look_after(Duration::ZERO).expect("news");
    assert_eq!(pods(&reading).len(), 2);
    only_fault(&reading, "a.yaml: ");
    let (_, fresh) = Directory::open(bench.dir.path()).unwrap();
    assert_eq!(pods(&fresh), ["b 10.0.0.2"]);
}

#[test]
fn an_edit_that_the_time_stamp_does_not_show_is_seen_by_reading_again() {
    let (mut bench, _) = Bench::of(&[("a.yaml", &pod("a", "10.0.0.1"))]);
    bench.write("a.yaml", &pod("a", "10.0.0.2"));
    bench.settle();
    // As if this had been written in the tick in which the file was read: the stamp is the one that was seen.
    bench.write("a.yaml", &pod("a", "10.0.0.3"));
    let seen = super::scan::scan(bench.dir.path()).unwrap().files;
    let path: Arc<Path> = Path::new("a.yaml").into();
    bench.directory.files.get_mut(&path).unwrap().pretend(seen[&path]);
    bench.directory.seen = seen;
    assert!(bench.look_after(TICK / 2).is_none());
    assert_eq!(pods(&bench.look_after(TICK / 2).expect("read again")), ["a 10.0.0.3"]);
    assert!(bench.look_after(TICK).is_none(), "once");
}

#[test]
fn an_object_that_stays_as_it_is_stays_the_same_value() {
    let (mut bench, before) = Bench::of(&[("a.yaml", &(route("r", "m") + &route("s", "n")))]);
    bench.write("a.yaml", &(route("r", "m") + &route("s", "other")));
    let after = bench.settle();
    let spec = |reading: &Reading, name: &str| {
        let Held { spec, .. } = &reading.world.routes[&ObjectName::new("default", name)];
        Arc::clone(spec.as_ref().unwrap())
    };
    assert!(Arc::ptr_eq(&spec(&before, "r"), &spec(&after, "r")));
    assert_eq!(spec(&after, "s").model_name.as_deref(), Some("other"));
}

#[test]
fn unknown_fields_are_refused_and_foreign_status_is_not_read() {
    let exported = route("r", "m") + "status: {conditions: [{whatever: 1}], old: true}\n";
    assert_eq!(faults(&reading_of(&[("a.yaml", &exported)])), Vec::<String>::new());
    let misspelt = route("r", "m")
        .replace("targetModels: [{modelServerName", "targetModels: [{modelServerNmae: x, modelServerName");
    only_fault(
        &reading_of(&[("a.yaml", &misspelt)]),
        "a.yaml: object 1 (ModelRoute default/r): spec.rules[0].targetModels[0].modelServerNmae: no such field",
    );
}

#[test]
fn directories_that_are_too_deep_are_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let deep: std::path::PathBuf = (0..32).map(|_| "d").collect();
    fs::create_dir_all(dir.path().join(&deep).join("e")).unwrap();
    write(&dir.path().join(&deep).join("a.yaml"), &pod("a", "10.0.0.1"));
    write(&dir.path().join(&deep).join("e/b.yaml"), &pod("b", "10.0.0.2"));
    let (_, reading) = Directory::open(dir.path()).unwrap();
    assert_eq!(pods(&reading), ["a 10.0.0.1"]);
    only_fault(&reading, &format!("{}: is more than 32 directories deep", deep.join("e").display()));
}

#[test]
fn the_watch_hands_over_what_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, first) = Directory::open(dir.path()).unwrap();
    assert!(first.world.pods.is_empty());
    let ((stop, stopped), (send, readings)) = (tokio::sync::watch::channel(()), mpsc::channel());
    let thread = watch(directory, stopped, move |reading| drop(send.send(reading))).unwrap();
    write(&dir.path().join("a.yaml"), &pod("a", "10.0.0.1"));
    let reading = readings.recv_timeout(Duration::from_secs(10)).expect("a reading within the deadline");
    assert_eq!(pods(&reading), ["a 10.0.0.1"]);
    drop(stop);
    thread.join().unwrap();
}
