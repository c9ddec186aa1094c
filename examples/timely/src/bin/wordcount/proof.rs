//! The counts of the last checkpoint, and those of awk and sort. They share no code.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use piton::Options;
use timely_piton::Failure;

use crate::{
    entries, job,
    spec::STORE,
    splits::{SPLIT_LINES, WINDOW_LINES},
};

const AWK: &str = r#"{
    window = int(((FNR - 1) % SPLIT) / WINDOW)
    text = tolower($0)
    gsub(/[^a-z]+/, " ", text)
    n = split(text, words, " ")
    for (i = 1; i <= n; i++) count[window " " words[i]]++
}
END { for (key in count) print key, count[key] }"#;

/// Writes what the last checkpoint of a run has: a line for each window and word, sorted. Returns how many words there are.
pub(crate) fn write_counts(dir: &Path, to: &Path) -> Result<u64, Failure> {
    let store = Options::new().open_read_only(dir.join(STORE))?;
    let checkpoint = store.latest()?.ok_or("there is no checkpoint")?;
    let (mut lines, mut words, mut twice) = (BTreeMap::new(), 0, None);
    for (name, _) in checkpoint.manifest().states_with_prefix(job::RESULTS) {
        entries::decode(&checkpoint.get(name)?, |window, word, times| {
            words += times;
            if lines.insert(format!("{window} {word}"), times).is_some() {
                twice.get_or_insert_with(|| format!("{word:?} of window {window} is a result twice"));
            }
        })?;
    }
    if let Some(twice) = twice {
        return Err(twice.into());
    }
    let mut lines: Vec<_> = lines.into_iter().map(|(key, times)| format!("{key} {times}\n")).collect();
    lines.sort_unstable();
    fs::write(to, lines.concat())?;
    Ok(words)
}

/// Counts the same files with awk, and sorts the counts.
pub(crate) fn write_reference(files: &[PathBuf], to: &Path) -> Result<(), Failure> {
    let mut awk = Command::new("awk");
    awk.env("LC_ALL", "C")
        .arg("-v")
        .arg(format!("SPLIT={SPLIT_LINES}"))
        .arg("-v")
        .arg(format!("WINDOW={WINDOW_LINES}"));
    let mut awk = awk.arg(AWK).args(files).stdout(Stdio::piped()).spawn()?;
    let counted = awk.stdout.take().ok_or("awk has no stdout")?;
    let sorted = Command::new("sort").env("LC_ALL", "C").stdin(counted).stdout(File::create(to)?).status()?;
    if awk.wait()?.success() && sorted.success() { Ok(()) } else { Err("awk or sort failed".into()) }
}

/// Compares the two files; an error shows the first difference.
pub(crate) fn compare(found: &Path, expected: &Path) -> Result<(), Failure> {
    let (found, expected) = (fs::read_to_string(found)?, fs::read_to_string(expected)?);
    if found == expected {
        return Ok(());
    }
    let mut expected = expected.lines();
    for line in found.lines() {
        let other = expected.next();
        if other != Some(line) {
            return Err(format!("not exact: {line:?} was counted, {other:?} is there").into());
        }
    }
    Err(format!("not exact: {:?} was not counted", expected.next()).into())
}
