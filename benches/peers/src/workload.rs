//! The workloads.

use crate::Result;

#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub letter: char,
    /// How many states there are.
    pub states: usize,
    /// How many bytes each has.
    pub len: usize,
    /// How many of them are new in each checkpoint.
    pub new: usize,
    /// How many threads write them, where a peer can make use of that.
    pub threads: usize,
    /// How many checkpoints are measured.
    pub rounds: usize,
}

const ALL: [Workload; 7] = [
    Workload { letter: 'a', states: 1000, len: 4096, new: 1000, threads: 1, rounds: 60 },
    Workload { letter: 'b', states: 1000, len: 4096, new: 10, threads: 1, rounds: 300 },
    Workload { letter: 'c', states: 10, len: 100, new: 10, threads: 1, rounds: 500 },
    Workload { letter: 'd', states: 64, len: 4 << 20, new: 64, threads: 1, rounds: 8 },
    Workload { letter: 'e', states: 20_000, len: 4096, new: 200, threads: 1, rounds: 100 },
    Workload { letter: 'f', states: 1_000_000, len: 64, new: 100, threads: 1, rounds: 200 },
    Workload { letter: 'g', states: 1000, len: 4096, new: 1000, threads: 8, rounds: 60 },
];

/// The new states of one checkpoint: numbers of states, and the bytes of each, one after the other.
#[derive(Debug, Default)]
pub struct Changes {
    numbers: Vec<usize>,
    names: Vec<String>,
    bytes: Vec<u8>,
    len: usize,
}

impl Workload {
    pub fn of(letter: char) -> Result<Self> {
        let found = ALL.into_iter().find(|workload| workload.letter == letter);
        found.ok_or_else(|| format!("there is no workload {letter}: they are a to g").into())
    }

    pub fn describe(&self) -> String {
        let len = match self.len {
            len if len % (1 << 20) == 0 => format!("{} MiB", len >> 20),
            len if len % 1024 == 0 => format!("{} KiB", len >> 10),
            len => format!("{len} bytes"),
        };
        let new = if self.new == self.states { "all".to_owned() } else { thousands(self.new) };
        let threads = if self.threads > 1 { format!(", written by {} threads", self.threads) } else { String::new() };
        format!("({}) {} states of {len}, {new} new{threads}", self.letter, thousands(self.states))
    }

    /// How many bytes all states have.
    pub fn size(&self) -> u64 {
        (self.states * self.len) as u64
    }

    /// Fills in the new states of a checkpoint. The first checkpoint, number 0, has all states.
    pub fn changes(&self, round: usize, changes: &mut Changes) {
        let new = if round == 0 { self.states } else { self.new };
        // Numbers far apart, each once.
        let number = |n: usize| (round * 7919 + n * 104_729) % self.states;
        changes.numbers = if new == self.states { (0..new).collect() } else { (0..new).map(number).collect() };
        changes.names = changes.numbers.iter().map(|number| format!("state-{number:08}")).collect();
        changes.len = self.len;
        fill(&mut changes.bytes, new * self.len, round);
    }
}

/// With a comma before each three digits.
fn thousands(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", thousands(number / 1000), number % 1000) }
}

/// Bytes that compress badly, and of which none is where it was in another round: SQLite writes no page that stays the same.
fn fill(bytes: &mut Vec<u8>, len: usize, round: usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * round as u64 + 1);
    bytes.resize(len, 0);
    for word in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}

impl Changes {
    /// The number, the name and the bytes of each new state.
    pub fn each(&self) -> impl Iterator<Item = (usize, &str, &[u8])> {
        let states = self.numbers.iter().zip(&self.names).zip(self.bytes.chunks(self.len));
        states.map(|((number, name), bytes)| (*number, name.as_str(), bytes))
    }

    /// The bytes of all new states.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
