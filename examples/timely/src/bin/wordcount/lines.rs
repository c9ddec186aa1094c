//! The input of one worker: it reads its splits evenly, and turns lines into counts of words.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
};

use piton::{ConnectorOffset, Manifest};
use serde::{Deserialize, Serialize};
use timely_piton::{Failure, groups, source::Input};

use crate::splits::{Split, WINDOW_LINES};

/// How many lines are counted before their words are sent.
const CHUNK: u64 = 50;

/// A word was found so many times more in a window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) group: u32,
    pub(crate) window: u32,
    pub(crate) word: String,
    pub(crate) times: u32,
}

/// How far a split was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    pub(crate) offset: u64,
    pub(crate) line: u64,
}

impl Position {
    /// The position that a checkpoint has; the start if it has none.
    pub(crate) fn of(manifest: Option<&Manifest>, number: usize, split: &Split) -> Result<Self, Failure> {
        let saved = manifest.and_then(|manifest| manifest.source_offsets().get(&*Split::source(number)));
        let Some(saved) = saved else { return Ok(Self { offset: split.start, line: 0 }) };
        let number =
            |key: &str| saved.offsets.get(key).ok_or("an offset lacks a number")?.parse::<u64>().map_err(Failure::from);
        Ok(Self { offset: number("offset")?, line: number("line")? })
    }
}

struct Reader {
    split: Split,
    position: Position,
    file: Option<BufReader<File>>,
}

/// The splits of a worker.
pub(crate) struct Lines {
    readers: Vec<(usize, Reader)>,
    /// Those that are not at their end, the one with the earliest next line first.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    moved: BTreeSet<usize>,
    line: Vec<u8>,
    counts: HashMap<String, u32>,
}

impl Lines {
    /// Goes on where the checkpoint was.
    pub(crate) fn restore(
        splits: &[Split],
        manifest: Option<&Manifest>,
        worker: usize,
        workers: usize,
    ) -> Result<Self, Failure> {
        let mut readers = Vec::new();
        for (number, split) in splits.iter().enumerate().filter(|(number, _)| number % workers == worker) {
            let position = Position::of(manifest, number, split)?;
            readers.push((number, Reader { split: split.clone(), position, file: None }));
        }
        let open = readers.iter().enumerate().filter(|(_, (_, reader))| reader.position.line < reader.split.lines);
        let queue = open.map(|(at, (_, reader))| Reverse((reader.position.line, at))).collect();
        Ok(Self { readers, queue, moved: BTreeSet::new(), line: Vec::new(), counts: HashMap::new() })
    }

    /// Counts the words of some lines of one window of one split. Returns how many lines there were.
    fn read_chunk(&mut self, at: usize, most: u64, found: &mut Vec<Found>) -> Result<u64, Failure> {
        let (number, reader) = &mut self.readers[at];
        let Position { line, .. } = reader.position;
        let to_window_end = WINDOW_LINES - line % WINDOW_LINES;
        let lines = most.min(CHUNK).min(to_window_end).min(reader.split.lines - line);
        for _ in 0..lines {
            reader.read_line(&mut self.line)?;
            count_words(&mut self.line, &mut self.counts);
        }
        self.moved.insert(*number);
        if reader.position.line < reader.split.lines {
            self.queue.push(Reverse((reader.position.line, at)));
        } else {
            reader.file = None;
        }
        let window = u32::try_from(line / WINDOW_LINES)?;
        found.extend(self.counts.drain().map(|(word, times)| Found {
            group: groups::group_of(word.as_bytes()),
            window,
            word,
            times,
        }));
        Ok(lines)
    }
}

impl Reader {
    fn read_line(&mut self, line: &mut Vec<u8>) -> Result<(), Failure> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = File::open(&self.split.path)?;
                file.seek(SeekFrom::Start(self.position.offset))?;
                none.insert(BufReader::with_capacity(1 << 16, file))
            }
        };
        line.clear();
        let len = file.read_until(b'\n', line)?;
        if len == 0 {
            return Err(format!("{} is shorter than it was", self.split.path.display()).into());
        }
        self.position.offset += len as u64;
        self.position.line += 1;
        Ok(())
    }
}

/// A word is a run of ASCII letters, in lower case.
fn count_words(line: &mut [u8], counts: &mut HashMap<String, u32>) {
    line.make_ascii_lowercase();
    for word in line.split(|byte| !byte.is_ascii_lowercase()).filter(|word| !word.is_empty()) {
        let word = str::from_utf8(word).unwrap_or_default();
        match counts.get_mut(word) {
            Some(times) => *times += 1,
            None => drop(counts.insert(word.to_owned(), 1)),
        }
    }
}

impl Input for Lines {
    type Update = Found;

    fn read(&mut self, most: u64, updates: &mut Vec<Found>) -> u64 {
        let mut read = 0;
        while read < most {
            let Some(Reverse((_, at))) = self.queue.pop() else { break };
            match self.read_chunk(at, most - read, updates) {
                Ok(lines) => read += lines,
                // The hook of the process ends it, and the coordinator begins another life.
                Err(error) => panic!("read the input: {error}"),
            }
        }
        read
    }

    fn watermark(&self) -> u64 {
        self.queue.peek().map_or(u64::MAX, |Reverse((line, _))| *line)
    }

    fn take_offsets(&mut self, epoch: u64) -> Vec<(String, ConnectorOffset)> {
        let moved = std::mem::take(&mut self.moved);
        let readers = self.readers.iter().filter(|(number, _)| moved.contains(number));
        readers
            .map(|(number, reader)| {
                let Position { offset, line } = reader.position;
                let offsets = [("offset".to_owned(), offset.to_string()), ("line".to_owned(), line.to_string())].into();
                (Split::source(*number), ConnectorOffset { offsets, epoch, ..ConnectorOffset::default() })
            })
            .collect()
    }

    fn is_at_end(&self) -> bool {
        self.queue.is_empty()
    }
}
