//! Real files, and lives of a process one after the other.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::snapshot::{Backend, Route, Snapshot};
use tokio::sync::watch;

use super::*;
use crate::publish::{Memory, Settings, build};
use crate::run::{Listen, Options, Plane, Source};
use crate::source::directory::Directory;
use crate::world::{ObjectName, World};

fn route(name: &str, weight: u32) -> String {
    format!(
        "---\napiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\n\
         spec: {{modelName: {name}, rules: [{{targetModels: [{{modelServerName: s, weight: {weight}}}]}}]}}\n"
    )
}

fn server(port: u32) -> String {
    format!(
        "---\napiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: s}}\n\
         spec: {{inferenceEngine: vLLM, workloadSelector: {{matchLabels: {{app: s}}}}, workloadPort: {{port: {port}}}}}\n"
    )
}

fn pod(ip: &str) -> String {
    format!("---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p, labels: {{app: s}}}}, status: {{podIP: {ip}}}}}\n")
}

/// A directory of manifests and the folder beside it.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn of(files: &[(&str, &str)]) -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.manifests()).unwrap();
        files.iter().for_each(|(name, text)| bench.write(name, text));
        bench
    }

    fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.manifests().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).unwrap();
    }

    /// The process starts.
    fn start(&self) -> Life {
        let (folder, forms) = Folder::open(&self.state(), &self.manifests()).unwrap();
        let (directory, reading) = Directory::open_with(&self.manifests(), forms).unwrap();
        let mut life = Life { folder, directory, reading, memory: Memory::default(), now: Instant::now() };
        life.build();
        life
    }

    /// It is only looked at what another life of it would publish.
    fn after_a_restart(&self) -> String {
        self.start().published()
    }

    /// What is on disk.
    fn entries(&self) -> Vec<PathBuf> {
        fs::read_dir(self.state()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// One life of the process.
struct Life {
    folder: Folder,
    directory: Directory,
    reading: Reading,
    memory: Memory,
    now: Instant,
}

impl Life {
    /// What is written is read once it has rested.
    fn look(&mut self) {
        for _ in 0..2 {
            self.now += Duration::from_secs(1);
            if let Some(reading) = self.directory.look(self.now) {
                self.reading = reading;
            }
        }
        self.build();
    }

    fn round(&mut self) -> Round {
        let world: World = self.reading.world.clone();
        let built = build(&world, &Settings::default(), &mut self.memory);
        Round { world, verdicts: built.verdicts, snapshot: Arc::new(built.snapshot) }
    }

    fn build(&mut self) {
        let round = self.round();
        self.folder.bring(&wanted(&self.reading, &round)).unwrap();
    }

    /// Routes with their weights, servers with their endpoints.
    fn published(&mut self) -> String {
        let snapshot = self.round().snapshot;
        let Snapshot { routes, backends, .. } = &*snapshot;
        let route = |route: &Route| format!("{}:{}", route.name, route.rules[0].targets[0].weight);
        let endpoints = |backend: &Backend| {
            backend.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>().join(",")
        };
        let backend = |backend: &Backend| format!("{}@{}", backend.name, endpoints(backend));
        routes.iter().map(route).chain(backends.iter().map(backend)).collect::<Vec<_>>().join(" ")
    }

    fn accepted(&mut self, name: &str) -> (bool, String) {
        let verdict = self.round().verdicts.routes[&ObjectName::new("default", name)].clone();
        (verdict.accepted.holds, verdict.accepted.message)
    }
}

#[test]
fn what_was_good_is_in_force_after_a_restart_until_it_is_mended() {
    let bench = Bench::of(&[("a.yaml", &(route("a", 1) + &route("b", 1))), ("s.yaml", &server(8000))]);
    let mut first = bench.start();
    assert_eq!((first.published(), bench.entries().len()), ("default/a:1 default/b:1 default/s@".into(), 0));
    bench.write("a.yaml", &(route("a", 0) + &route("b", 2)));
    first.look();
    assert_eq!((first.published(), bench.entries().len()), ("default/a:1 default/b:2 default/s@".into(), 1));

    let mut second = bench.start();
    assert_eq!(second.published(), "default/a:1 default/b:2 default/s@");
    let (holds, message) = second.accepted("a");
    assert!(!holds && message.contains("its last valid form stays in force"), "{message}");
    assert_eq!(bench.after_a_restart(), "default/a:1 default/b:2 default/s@", "however often");

    bench.write("a.yaml", &(route("a", 7) + &route("b", 2)));
    second.look();
    assert_eq!((second.published(), bench.entries().len()), ("default/a:7 default/b:2 default/s@".into(), 0));
    // What was kept once does not come back over what was good later.
    bench.write("a.yaml", &(route("a", 0) + &route("b", 2)));
    second.look();
    assert_eq!(second.published(), "default/a:7 default/b:2 default/s@");
    assert_eq!(bench.after_a_restart(), "default/a:7 default/b:2 default/s@");
}

#[test]
fn what_can_be_read_and_is_refused_when_it_is_built_is_kept_too() {
    let bench = Bench::of(&[("a.yaml", &route("a", 1))]);
    let mut first = bench.start();
    // No rule of the kind minds the name; data planes do.
    let bad = route("a", 1).replace("modelServerName: s", "modelServerName: s/t");
    bench.write("a.yaml", &bad);
    first.look();
    assert!(first.reading.faults.is_empty() && !first.accepted("a").0, "{:?}", first.reading.faults);
    assert_eq!((first.published().as_str(), bench.entries().len()), ("default/a:1", 1));
    assert_eq!(bench.after_a_restart(), "default/a:1");
    let mut second = bench.start();
    bench.write("a.yaml", &route("a", 2));
    second.look();
    assert_eq!((second.published().as_str(), bench.entries().len()), ("default/a:2", 0));
    // What came from the disk does not count over what was good since.
    bench.write("a.yaml", &bad);
    second.look();
    assert_eq!((second.published().as_str(), bench.after_a_restart().as_str()), ("default/a:2", "default/a:2"));
}

#[test]
fn what_was_kept_is_never_later_than_what_is_remembered_whatever_generation_it_names() {
    let exported = |weight| route("a", weight).replace("{name: a}", "{name: a, generation: 5}");
    let bench = Bench::of(&[("a.yaml", &exported(1))]);
    let mut first = bench.start();
    bench.write("a.yaml", &exported(0));
    first.look();
    let mut second = bench.start();
    assert_eq!(second.published(), "default/a:1");
    // Written by hand from here on.
    bench.write("a.yaml", &route("a", 2));
    second.look();
    bench.write("a.yaml", &route("a", 2).replace("modelServerName: s", "modelServerName: s/t"));
    second.look();
    assert_eq!((second.published().as_str(), bench.after_a_restart().as_str()), ("default/a:2", "default/a:2"));
}

#[test]
fn the_schedulers_configuration_is_kept_as_any_object() {
    let config = |data: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: kthena-router-config}}, data: {{{data}}}}}\n"
        )
    };
    let says = |text: &str| config(&format!("routerConfiguration: '{text}'"));
    let good = says("scheduler: {plugins: {Score: {enabled: [{name: least-request, weight: 1}]}}}");
    for bad in [says("scheduler: 7"), config("other: text")] {
        let bench = Bench::of(&[("c.yaml", &good)]);
        let mut first = bench.start();
        let profiles = |life: &mut Life| life.round().snapshot.profiles.clone();
        let before = profiles(&mut first);
        assert_eq!((before.len(), bench.entries().len()), (1, 0));
        bench.write("c.yaml", &bad);
        first.look();
        assert_eq!((profiles(&mut first), bench.entries().len()), (before.clone(), 1), "{bad}");
        let mut second = bench.start();
        assert_eq!(profiles(&mut second), before, "{bad}");
        assert!(!second.round().verdicts.scheduler.unwrap().accepted.holds);
        bench.write("c.yaml", &says("scheduler: {}"));
        second.look();
        assert_eq!(bench.entries().len(), 0);
        assert_ne!(profiles(&mut second), before);
    }
}

#[test]
fn what_is_too_large_is_in_force_and_not_kept_which_is_said() {
    // As many rules, with as long a path, as a route may have.
    let large = |bytes: usize| {
        let path = "x".repeat(bytes);
        let rule =
            format!("{{modelMatch: {{uri: {{prefix: {path}}}}}, targetModels: [{{modelServerName: s, weight: 1}}]}}");
        let rules = vec![rule; 16].join(", ");
        format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: a}}\n\
             spec: {{modelName: a, rules: [{rules}]}}\n"
        )
    };
    let bench = Bench::of(&[("a.yaml", &large(4096)), ("b.yaml", &route("b", 1))]);
    let mut first = bench.start();
    bench.write("b.yaml", &route("b", 0));
    bench.write("a.yaml", &large(4097));
    first.look();
    let (holds, message) = first.accepted("a");
    assert!(!holds && first.published().contains("default/a:1"), "{message}");
    assert!(message.contains("until the control plane ends"), "{message}");
    assert_eq!((bench.entries().len(), bench.after_a_restart().as_str()), (1, "default/b:1"));
}

#[test]
fn a_file_that_says_nothing_usable_keeps_all_its_objects() {
    let all = route("a", 1) + &server(8000) + &pod("10.0.0.1");
    let bench = Bench::of(&[("a.yaml", &all)]);
    let mut first = bench.start();
    let whole = "default/a:1 default/s@10.0.0.1:8000";
    for bad in ["kind: {", "", "metadata: ["] {
        bench.write("a.yaml", bad);
        first.look();
        assert_eq!((first.published().as_str(), bench.after_a_restart().as_str()), (whole, whole), "{bad:?}");
    }
    // Edited while nobody looked, it counts as it is now.
    bench.write("a.yaml", &(route("a", 2) + &server(8000)));
    assert_eq!((bench.after_a_restart().as_str(), bench.entries().len()), ("default/a:2 default/s@", 0));
}

#[test]
fn a_pod_that_cannot_be_read_stays_an_endpoint() {
    let bench = Bench::of(&[("s.yaml", &server(8000)), ("p.yaml", &pod("10.0.0.1"))]);
    let mut first = bench.start();
    bench.write("p.yaml", &pod("10.0.0.300"));
    first.look();
    assert_eq!(bench.after_a_restart(), "default/s@10.0.0.1:8000");
}

#[test]
fn what_was_deleted_does_not_come_back() {
    let bench = Bench::of(&[("a.yaml", &(route("a", 1) + &route("b", 1))), ("c.yaml", &route("c", 1))]);
    let mut first = bench.start();
    bench.write("a.yaml", &(route("a", 0) + &route("b", 0)));
    bench.write("c.yaml", "kind: {");
    first.look();
    assert_eq!((first.published().as_str(), bench.entries().len()), ("default/a:1 default/b:1 default/c:1", 2));
    // While nobody looks a file goes, and an object of another.
    bench.remove("c.yaml");
    bench.write("a.yaml", &route("b", 0));
    assert_eq!((bench.after_a_restart().as_str(), bench.entries().len()), ("default/b:1", 1));
    // Made again, they have no past.
    bench.write("c.yaml", "kind: {");
    bench.write("a.yaml", &(route("a", 0) + &route("b", 0)));
    assert_eq!(bench.after_a_restart(), "default/b:1");
    let mut last = bench.start();
    bench.remove("a.yaml");
    last.look();
    assert_eq!((last.published().as_str(), bench.entries().len()), ("", 0));
}

#[test]
fn a_damaged_entry_counts_for_nothing_and_takes_no_other_with_it() {
    let damage: [fn(Vec<u8>) -> Vec<u8>; 6] = [
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        |_| Vec::new(),
        |mut bytes| {
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        },
        |bytes| [b"kthena-last-good 2".as_slice(), &bytes[18..]].concat(),
        |_| vec![0xff; 4096],
        // Whole, by its looks.
        |bytes| String::from_utf8(bytes).unwrap().replace("\"weight\":1", "\"weight\":9").into_bytes(),
    ];
    for damage in damage {
        let bench = Bench::of(&[("a.yaml", &route("a", 1)), ("b.yaml", &route("b", 1))]);
        let mut first = bench.start();
        bench.write("a.yaml", &route("a", 0));
        first.look();
        let hurt = bench.entries().remove(0);
        bench.write("b.yaml", &route("b", 0));
        first.look();
        fs::write(&hurt, damage(fs::read(&hurt).unwrap())).unwrap();
        assert_eq!((bench.after_a_restart().as_str(), bench.entries().len()), ("default/b:1", 1));
    }
}

#[test]
fn a_form_that_is_good_no_more_counts_for_nothing() {
    let bench = Bench::of(&[("a.yaml", &route("a", 1))]);
    let mut first = bench.start();
    bench.write("a.yaml", &route("a", 0));
    first.look();
    // As if a later release had stricter rules.
    let entry = bench.entries().remove(0);
    let mut kept = format::decode(&fs::read(&entry).unwrap()).unwrap();
    kept.objects[0].object["spec"]["rules"][0]["targetModels"][0]["weight"] = 0.into();
    let objects = kept.objects.into_iter().map(|it| (it.position, it.object)).collect();
    fs::write(&entry, format::encode(&kept.root, &kept.file, &objects).unwrap()).unwrap();
    assert_eq!((bench.after_a_restart().as_str(), bench.entries().len()), ("", 0));
}

#[test]
fn two_directories_of_manifests_may_share_a_folder() {
    let (one, two) = (Bench::of(&[("a.yaml", &route("a", 1))]), Bench::of(&[("a.yaml", "kind: {")]));
    let mut first = one.start();
    one.write("a.yaml", &route("a", 0));
    first.look();
    let (mut folder, forms) = Folder::open(&one.state(), &two.manifests()).unwrap();
    assert!(forms.is_empty(), "{forms:?}");
    folder.bring(&wanted::Wanted::new()).unwrap();
    assert_eq!(one.after_a_restart(), "default/a:1");
}

#[test]
fn a_root_that_is_a_link_may_turn_to_another_revision() {
    let bench = Bench::of(&[("a.yaml", &route("a", 1))]);
    let revision = |name: &str| bench.dir.path().join(name);
    fs::rename(bench.manifests(), revision("1")).unwrap();
    symlink("1", bench.manifests()).unwrap();
    let mut first = bench.start();
    bench.write("a.yaml", &route("a", 0));
    first.look();
    fs::create_dir(revision("2")).unwrap();
    fs::copy(revision("1").join("a.yaml"), revision("2").join("a.yaml")).unwrap();
    fs::remove_file(bench.manifests()).unwrap();
    symlink("2", bench.manifests()).unwrap();
    assert_eq!(bench.after_a_restart(), "default/a:1");
}

#[test]
fn what_is_half_written_is_removed_and_the_whole_one_before_it_counts() {
    let bench = Bench::of(&[("a.yaml", &route("a", 1))]);
    let mut first = bench.start();
    bench.write("a.yaml", &route("a", 0));
    first.look();
    let entry = bench.entries().remove(0);
    fs::write(entry.with_extension("last-good.new"), "kthena-last").unwrap();
    assert_eq!((bench.after_a_restart().as_str(), bench.entries()), ("default/a:1", vec![entry]));
}

#[tokio::test]
async fn the_thread_writes_what_it_was_sent_last_before_it_ends() {
    let bench = Bench::of(&[("a.yaml", &route("a", 1))]);
    let mut first = bench.start();
    bench.write("a.yaml", &route("a", 0));
    first.look();
    let round = Arc::new(first.round());
    fs::remove_dir_all(bench.state()).unwrap();
    let (folder, _) = Folder::open(&bench.state(), &bench.manifests()).unwrap();
    let (latest, newest) = watch::channel(None);
    let keeping = keep(folder, newest).unwrap();
    latest.send_replace(Some(Arc::new(Latest { reading: Arc::new(first.reading), round })));
    drop(latest);
    assert!(keeping.end().await);
    assert_eq!(bench.after_a_restart(), "default/a:1");
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_does_not_end_is_not_waited_for_for_ever() {
    let (_ending, ended) = oneshot::channel();
    assert!(!Keeping { thread: std::thread::spawn(|| ()), ended }.end().await);
}

#[test]
fn a_file_that_is_too_large_costs_no_other_its_entry() {
    let bench = Bench::of(&[
        ("a.yaml", &(0..50).map(|n| route(&format!("a{n}"), 1)).collect::<String>()),
        ("b.yaml", &route("b", 1)),
    ]);
    let mut first = bench.start();
    first.folder.room = 1_000;
    bench.write("a.yaml", "kind: {");
    bench.write("b.yaml", &route("b", 0));
    first.now += Duration::from_secs(1);
    first.directory.look(first.now);
    first.now += Duration::from_secs(1);
    first.reading = first.directory.look(first.now).unwrap();
    let round = first.round();
    let error = first.folder.bring(&wanted(&first.reading, &round)).unwrap_err().to_string();
    assert!(error.contains("a.yaml"), "{error}");
    assert_eq!(bench.after_a_restart(), "default/b:1");
}

#[tokio::test]
async fn the_first_thing_that_is_published_after_a_restart_has_it() {
    let bench = Bench::of(&[("a.yaml", &route("a", 1))]);
    let mut first = bench.start();
    bench.write("a.yaml", &route("a", 0));
    first.look();
    let source = Source::KeptDirectory { manifests: bench.manifests(), state: bench.state() };
    let listen = Listen::Plain(([127, 0, 0, 1], 0).into());
    let plane = Plane::start(Options { source, listen, fleet_seed: 1 }).await.unwrap();
    let snapshot = plane.snapshots().borrow().clone().expect("manifests have been read when it has started");
    assert_eq!(snapshot.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["default/a"]);
}

#[test]
fn a_folder_that_cannot_be_is_said() {
    let bench = Bench::of(&[]);
    fs::write(bench.state(), "a file").unwrap();
    let said = Folder::open(&bench.state(), Path::new("nowhere")).unwrap_err();
    assert!(said.starts_with(&bench.state().display().to_string()), "{said}");
}
