//! The input: files, cut into splits of some lines each. A split has its own clock: the time of a line is its number in the split.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use timely_piton::Failure;

/// How many lines a split has at most.
pub(crate) const SPLIT_LINES: u64 = 20_000;
/// How many lines of a split are in one window.
pub(crate) const WINDOW_LINES: u64 = 500;

/// Some lines of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Split {
    pub(crate) path: PathBuf,
    /// Where the first line begins.
    pub(crate) start: u64,
    pub(crate) lines: u64,
}

impl Split {
    /// The name of the source in the manifest.
    pub(crate) fn source(number: usize) -> String {
        format!("split/{number}")
    }
}

/// The files of a directory, sorted by name.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path().canonicalize()?);
        }
    }
    files.sort();
    if files.is_empty() { Err(format!("{} has no files", dir.display()).into()) } else { Ok(files) }
}

/// Cuts files into splits.
pub(crate) fn cut(files: &[PathBuf]) -> Result<Vec<Split>, Failure> {
    let mut splits = Vec::new();
    for path in files {
        let (mut reader, mut offset, mut line) = (BufReader::new(File::open(path)?), 0, Vec::new());
        let mut split = Split { path: path.clone(), start: 0, lines: 0 };
        while reader.read_until(b'\n', &mut line)? > 0 {
            offset += line.len() as u64;
            line.clear();
            split.lines += 1;
            if split.lines == SPLIT_LINES {
                splits.push(std::mem::replace(&mut split, Split { path: path.clone(), start: offset, lines: 0 }));
            }
        }
        if split.lines > 0 {
            splits.push(split);
        }
    }
    Ok(splits)
}

/// Writes text into some files: words of a vocabulary of which a few are frequent and many are rare.
pub(crate) fn generate(dir: &Path, lines: u64, vocabulary: u64, seed: u64) -> Result<(), Failure> {
    const FILES: u64 = 12;
    fs::create_dir_all(dir)?;
    let mut random = Random(seed);
    for file in 0..FILES {
        let mut out = BufWriter::new(File::create(dir.join(format!("text-{file:02}")))?);
        for _ in 0..lines / FILES {
            for n in 0..8 {
                let (one, other) = (random.below(vocabulary), random.below(vocabulary));
                let word = one * other / vocabulary;
                let end = if n == 7 { "\n" } else { " " };
                write!(out, "{}{end}", spelled(word))?;
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// A number in letters, so that each number is another word.
fn spelled(mut number: u64) -> String {
    let mut word = String::from("w");
    loop {
        word.push(char::from(b'a' + u8::try_from(number % 26).unwrap_or_default()));
        number /= 26;
        if number == 0 {
            return word;
        }
    }
}

/// A small generator of random numbers (splitmix64), so that a seed makes the same run.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_cover_each_line_once() {
        let dir = tempfile::tempdir().unwrap();
        let text = "a line\n".repeat(45_000) + "and one without an end";
        fs::write(dir.path().join("text"), &text).unwrap();
        let splits = cut(&files(dir.path()).unwrap()).unwrap();
        let found: Vec<_> = splits.iter().map(|split| (split.start, split.lines)).collect();
        assert_eq!(found, [(0, 20_000), (140_000, 20_000), (280_000, 5_001)]);
    }
}
