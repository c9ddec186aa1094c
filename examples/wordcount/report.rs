//! The result, for people and as a file.

use std::{
    cmp::Reverse,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    time::Duration,
};

use crate::{Failure, counts::WordCounts, input::at};

/// How many of the most frequent words are shown.
const MOST_FREQUENT: usize = 10;

/// What a run found out.
#[derive(Debug)]
pub(crate) struct Report {
    /// The counts of one pass, sorted by word.
    pub(crate) words: Words,
    pub(crate) passes: u64,
    pub(crate) checkpoints: u64,
    pub(crate) durations: Vec<Duration>,
    pub(crate) restarts: u64,
    pub(crate) exact: Exact,
}

/// Whether the counts are those of an uninterrupted count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exact {
    NotChecked,
    /// In spite of kills: how many of them hit while a checkpoint was being written, and how many files the killed
    /// processes left behind.
    Proven {
        while_writing: u32,
        leftovers: u64,
    },
}

/// Words and how often each occurs.
pub(crate) type Words = Vec<(Box<[u8]>, u64)>;

/// The counts of one pass, sorted by word, out of those of several.
pub(crate) fn per_pass(totals: WordCounts, passes: u64) -> Result<Words, Failure> {
    let mut words: Vec<_> = totals.into_iter().collect();
    words.sort_unstable();
    for (word, count) in &mut words {
        if !count.is_multiple_of(passes) {
            let word = String::from_utf8_lossy(word);
            return Err(format!("{passes} passes cannot have found {word:?} {count} times").into());
        }
        *count /= passes;
    }
    Ok(words)
}

impl Report {
    /// Writes the dump if it is wanted, and shows the rest.
    pub(crate) fn publish(mut self, dump: Option<&Path>) -> Result<(), Failure> {
        if let Some(path) = dump {
            self.dump(path).map_err(|error| at(path, error))?;
        }
        Ok(self.print(&mut io::stdout().lock())?)
    }

    fn dump(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for (word, count) in &self.words {
            file.write_all(word)?;
            writeln!(file, "\t{count}")?;
        }
        file.flush()
    }

    fn print(&mut self, out: &mut impl Write) -> io::Result<()> {
        let total: u64 = self.words.iter().map(|(_, count)| count).sum();
        writeln!(out, "total words: {total}")?;
        writeln!(out, "distinct words: {}", self.words.len())?;
        writeln!(out, "most frequent:")?;
        self.words.sort_by_key(|(_, count)| Reverse(*count));
        for (word, count) in self.words.iter().take(MOST_FREQUENT) {
            writeln!(out, "{count:>12} {}", String::from_utf8_lossy(word))?;
        }
        match self.passes {
            1 => writeln!(out, "passes: 1")?,
            passes => writeln!(out, "passes: {passes}; the counts are those of one")?,
        }
        writeln!(out, "checkpoints: {}", self.checkpoints)?;
        match median(&mut self.durations) {
            Some(median) => writeln!(out, "median checkpoint time: {:.1} ms", median.as_secs_f64() * 1000.0)?,
            None => writeln!(out, "median checkpoint time: none taken in this run")?,
        }
        writeln!(out, "restarts: {}", self.restarts)?;
        match self.exact {
            Exact::NotChecked => writeln!(out, "exact: not checked (run with --kill)"),
            Exact::Proven { while_writing, leftovers } => {
                writeln!(out, "killed while a checkpoint was being written: {while_writing}")?;
                writeln!(out, "files that the killed left behind, removed: {leftovers}")?;
                writeln!(out, "exact: yes")
            }
        }
    }
}

fn median(durations: &mut [Duration]) -> Option<Duration> {
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied()
}
