//! The tables of `tests/reference`: a row a line, tabs between columns, `#` before a remark, the columns' names first.

use std::path::Path;

pub fn rows<const N: usize>(file: &str, columns: [&str; N]) -> Vec<[String; N]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let row = |line: &str| -> [String; N] {
        let cells: Vec<_> = line.split('\t').map(str::to_owned).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("{file}: not {N} columns: {cells:?}"))
    };
    let mut rows = text.lines().filter(|line| !line.starts_with('#')).map(row);
    assert_eq!(rows.next(), Some(columns.map(str::to_owned)), "{file}");
    rows.collect()
}
