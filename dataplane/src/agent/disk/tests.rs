use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("kthena-disk-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name).join("deep");
        prepare(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn snapshot(version: u64) -> Snapshot {
    let text = r#"{"routes": [{"name": "d/r", "model": "m", "rules": [{"targets": [{"backend": "d/b"}]}]}],
        "backends": [{"name": "d/b", "endpoints": [{"name": "d/e", "address": "127.0.0.1:1"}]}]}"#;
    let snapshot = api::json::snapshot_from_json(text.as_bytes()).unwrap();
    Snapshot { version: api::snapshot::Version { epoch: 9, version }, ..snapshot }
}

#[test]
fn what_is_kept_is_read_again_by_nobody_else() {
    let folder = Folder::new();
    assert!(read(&folder.0).unwrap().is_none());
    let disk = Disk::start(folder.0.clone()).unwrap();
    for version in 1..=20 {
        disk.keeper().keep(Arc::new(snapshot(version)));
    }
    disk.stop();
    let kept = read(&folder.0).unwrap().unwrap();
    assert_eq!(kept.snapshot, snapshot(20), "the newest one is there once the thread has ended");
    assert!(kept.age < Duration::from_secs(60));
    let mode = fs::metadata(folder.0.join(NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn c14_damage_of_any_byte_is_noticed_and_never_a_panic() {
    let folder = Folder::new();
    write(&folder.0, &snapshot(1)).unwrap();
    let whole = fs::read(folder.0.join(NAME)).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        assert!(parse(&bytes).is_err(), "byte {at}");
        assert!(parse(&whole[..at]).is_err(), "cut at {at}");
    }
    assert!(parse(&[&whole[..], b"x"].concat()).is_err());
}

#[test]
fn fields_of_a_later_version_are_ignored() {
    let mut body = encode::snapshot(&snapshot(1)).encode_to_vec();
    // Field 1000, of bytes.
    body.extend([0xc2, 0x3e, 3, b'n', b'e', b'w']);
    let bytes = [&MAGIC[..], &xxh3_64(&body).to_le_bytes(), &body].concat();
    assert_eq!(parse(&bytes).unwrap(), snapshot(1));
}

#[test]
fn the_file_is_dated_when_the_control_plane_confirms_it() {
    let folder = Folder::new();
    write(&folder.0, &snapshot(1)).unwrap();
    let file = OpenOptions::new().write(true).open(folder.0.join(NAME)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
    assert!(read(&folder.0).unwrap().unwrap().age > Duration::from_secs(3_500));
    date(&folder.0).unwrap();
    assert!(read(&folder.0).unwrap().unwrap().age < Duration::from_secs(60));
}

#[test]
fn what_cannot_be_written_is_written_once_that_is_possible() {
    let folder = Folder::new();
    let later = folder.0.join("later");
    let disk = Disk::start(later.clone()).unwrap();
    disk.keeper().keep(Arc::new(snapshot(3)));
    let begin = std::time::Instant::now();
    let until = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until("it was taken", &|| disk.desk.slot().newest.is_none());
    fs::create_dir(&later).unwrap();
    until("it is there", &|| read(&later).is_ok_and(|kept| kept.is_some()));
    disk.stop();
    assert_eq!(read(&later).unwrap().unwrap().snapshot.version.version, 3);
}
