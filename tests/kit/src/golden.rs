//! Golden files: what is compared is a text, and a difference is reviewed as one.

use std::path::PathBuf;

/// Compares `text` with `tests/golden/<name>`. With `SOLOSTACK_GOLDEN=1` the file is written instead.
///
/// # Panics
/// With the lines that differ.
#[track_caller]
pub fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../golden").join(name);
    if std::env::var_os("SOLOSTACK_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).expect("a golden file can be written");
        return;
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    if known == text {
        return;
    }
    let gone = known.lines().filter(|line| !text.lines().any(|new| new == *line)).map(|line| format!("- {line}"));
    let new = text.lines().filter(|line| !known.lines().any(|old| old == *line)).map(|line| format!("+ {line}"));
    let diff: Vec<String> = gone.chain(new).collect();
    panic!(
        "tests/golden/{name} says otherwise; if this is meant, run `just golden` and look at the diff:\n{}",
        diff.join("\n")
    );
}
