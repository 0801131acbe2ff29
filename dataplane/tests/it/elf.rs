//! What a program wants of a root file system, by its ELF headers. The tests of all programs that images hold share this file.

use std::fs;
use std::path::Path;

/// The types of a program's segments, and the tags of its dynamic section, by the ELF format's 64-bit little-endian layout.
fn read(bytes: &[u8]) -> (Vec<u64>, Vec<u64>) {
    let number =
        |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let (table, size, count) = (number(0x20, 8) as usize, number(0x36, 2) as usize, number(0x38, 2) as usize);
    let segments: Vec<_> = (0..count).map(|n| table + n * size).collect();
    let dynamic = segments.iter().find(|at| number(**at, 4) == 2);
    let tags = dynamic.map(|at| {
        let (start, len) = (number(at + 8, 8) as usize, number(at + 32, 8) as usize);
        (start..start + len).step_by(16).map(|entry| number(entry, 8)).take_while(|tag| *tag != 0).collect()
    });
    (segments.iter().map(|at| number(*at, 4)).collect(), tags.unwrap_or_default())
}

/// That it needs no loader and no library.
pub(crate) fn check_static(program: &Path) {
    const INTERPRETER: u64 = 3;
    const NEEDED: u64 = 1;
    let (segments, tags) = read(&fs::read(program).unwrap());
    assert!(!segments.is_empty() && !segments.contains(&INTERPRETER), "{}: {segments:?}", program.display());
    assert!(!tags.contains(&NEEDED), "{}: {tags:?}", program.display());
    // A test is linked as usual, so that the two are seen where they are.
    let (segments, tags) = read(&fs::read(std::env::current_exe().unwrap()).unwrap());
    assert!(segments.contains(&INTERPRETER) && tags.contains(&NEEDED));
}
