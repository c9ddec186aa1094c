//! What a simulated disk has made durable, and what is left of the rest when the power is cut.

use std::{ffi::OsString, io, ops::Range};

use super::tree::{Names, NodeId, write_into};

/// What becomes of unsynced bytes and names when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Everything unsynced is lost.
    Nothing,
    /// Everything unsynced survives.
    Everything,
    /// Each unsynced write is lost, kept or torn, each sector of it for itself; each unsynced name is lost or kept, as this
    /// seed has it.
    Random(u64),
    /// One of the unsynced writes and names is lost, counted from 0 as [`SimDisk::unsynced`](super::sim::SimDisk::unsynced)
    /// does. All others survive.
    AllBut(u64),
    /// One of them survives. All others are lost.
    Only(u64),
}

/// The kinds of calls, for [`SimDisk::count`](super::sim::SimDisk::count).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the call of `Disk` or `DiskFile` of that name")]
pub enum Call {
    CreateDir,
    List,
    Metadata,
    CreateTemp,
    Reserve,
    Open,
    Rename,
    RenameNew,
    Remove,
    RemoveDir,
    Link,
    Reflink,
    CopyRanges,
    PunchHoles,
    SyncDir,
    TryLock,
    LockShared,
    LockExclusive,
    ReadAt,
    WriteAt,
    Fill,
    Len,
    SyncData,
    Map,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error code of the operating system and does nothing. A sync that fails so leaves the bytes or
    /// names marked clean: no later sync makes them durable.
    Error(i32),
    /// It takes effect, and fails with this error code nevertheless.
    ErrorAfter(i32),
    /// A write accepts half of what was offered; any other call is not affected.
    ShortWrite,
    /// The power goes: this call and every later one fails.
    PowerCut,
}

#[derive(Clone, Debug, Default)]
pub(super) struct DurableFile {
    synced: Vec<u8>,
    /// Writes that a failed sync left behind: no later sync reaches them.
    doomed: Vec<(u64, Vec<u8>)>,
    unsynced: Vec<(u64, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct DurableDir {
    synced: Names,
    doomed: Vec<(OsString, Option<NodeId>)>,
    unsynced: Vec<(OsString, Option<NodeId>)>,
}

impl DurableFile {
    pub(super) fn synced(synced: Vec<u8>) -> Self {
        Self { synced, ..Self::default() }
    }

    pub(super) fn note(&mut self, offset: u64, bytes: Vec<u8>) {
        self.unsynced.push((offset, bytes));
    }

    pub(super) fn sync(&mut self, fault: Option<Fault>) -> io::Result<()> {
        let unsynced = std::mem::take(&mut self.unsynced);
        if let Some(Fault::Error(code)) = fault {
            self.doomed.extend(unsynced);
            return Err(io::Error::from_raw_os_error(code));
        }
        for (offset, bytes) in unsynced {
            write_into(&mut self.synced, &bytes, offset)?;
        }
        match fault {
            Some(Fault::ErrorAfter(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    }

    /// How many writes a power cut may lose.
    pub(super) fn unsynced(&self) -> usize {
        self.doomed.len() + self.unsynced.len()
    }

    pub(super) fn survivor(&self, chance: &mut Chance) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for (offset, written) in self.doomed.iter().chain(&self.unsynced) {
            for kept in chance.pieces(*offset, written.len()) {
                let at = *offset + kept.start as u64;
                // In memory a write into a run of bytes that was written before cannot fail.
                let _ = write_into(&mut bytes, written.get(kept).unwrap_or_default(), at);
            }
        }
        bytes
    }
}

impl DurableDir {
    pub(super) fn synced(synced: Names) -> Self {
        Self { synced, ..Self::default() }
    }

    /// A name stands for this from now on, or for nothing.
    pub(super) fn note(&mut self, name: OsString, now: Option<NodeId>) {
        self.unsynced.push((name, now));
    }

    pub(super) fn sync(&mut self, fault: Option<Fault>) -> io::Result<()> {
        let unsynced = std::mem::take(&mut self.unsynced);
        if let Some(Fault::Error(code)) = fault {
            self.doomed.extend(unsynced);
            return Err(io::Error::from_raw_os_error(code));
        }
        for (name, now) in unsynced {
            self.doomed.retain(|(doomed, _)| *doomed != name);
            set(&mut self.synced, name, now);
        }
        match fault {
            Some(Fault::ErrorAfter(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    }

    /// How many names a power cut may lose.
    pub(super) fn unsynced(&self) -> usize {
        self.doomed.len() + self.unsynced.len()
    }

    pub(super) fn survivor(&self, chance: &mut Chance) -> Names {
        let mut names = self.synced.clone();
        for (name, now) in self.doomed.iter().chain(&self.unsynced) {
            if chance.keep() {
                set(&mut names, name.clone(), *now);
            }
        }
        names
    }
}

fn set(names: &mut Names, name: OsString, now: Option<NodeId>) {
    match now {
        Some(id) => names.insert(name, id),
        None => names.remove(&name),
    };
}

/// A medium writes as much at once or not at all.
const SECTOR: u64 = 512;

/// The parts of a write that are in different sectors.
fn sectors(offset: u64, len: usize) -> impl Iterator<Item = Range<usize>> {
    let first = usize::try_from(SECTOR - offset % SECTOR).unwrap_or(len);
    let sector = usize::try_from(SECTOR).unwrap_or(len);
    let ends = (0..).map(move |n: usize| first.saturating_add(n.saturating_mul(sector)));
    ends.scan(0, move |start, end| {
        let piece = *start..end.min(len);
        *start = end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// What is kept and what is lost.
#[derive(Debug)]
pub(super) struct Chance {
    survival: Survival,
    state: u64,
    /// How many writes and names there were so far.
    seen: u64,
}

impl Chance {
    pub(super) fn of(survival: Survival) -> Self {
        let state = if let Survival::Random(seed) = survival { seed } else { 0 };
        Self { survival, state, seen: 0 }
    }

    /// splitmix64: <https://prng.di.unimi.it/splitmix64.c>.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn keep(&mut self) -> bool {
        match self.survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Random(_) => self.next().is_multiple_of(2),
            Survival::AllBut(lost) => self.count() != lost,
            Survival::Only(kept) => self.count() == kept,
        }
    }

    /// The number of this write or name.
    fn count(&mut self) -> u64 {
        self.seen += 1;
        self.seen - 1
    }

    /// Which bytes of a write at an offset survive: none, all, the first few, or any of the sectors that it touches.
    fn pieces(&mut self, offset: u64, len: usize) -> Vec<Range<usize>> {
        let first = |len| std::iter::once(0..len).collect();
        match self.survival {
            Survival::Nothing | Survival::Everything | Survival::AllBut(_) | Survival::Only(_) => {
                if self.keep() {
                    first(len)
                } else {
                    Vec::new()
                }
            }
            Survival::Random(_) => match self.next() % 4 {
                0 => Vec::new(),
                1 => first(len),
                2 => first(usize::try_from(self.next() % (len as u64 + 1)).unwrap_or(len)),
                _ => sectors(offset, len).filter(|_| self.next().is_multiple_of(2)).collect(),
            },
        }
    }
}
