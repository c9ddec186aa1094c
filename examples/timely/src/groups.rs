//! Key groups: who owns which, and how they lie in the states of a piton store.
//!
//! A *piece* is what one state has of one key group: the number of the epoch, then bytes of the application. A key group is
//! restored from its pieces in the order of their epochs, whatever the order of the states in the manifest.

use std::{io::Write as _, ops::Range};

use piton::{Checkpoint, KeyGroupRange, KeyGroupWriter, Result, StateHandle, StateWriter};

/// How many key groups an operator has: the most workers that it can have.
pub const KEY_GROUPS: u32 = 128;

/// The bytes of some key groups, ascending.
pub type Pieces = Vec<(u32, Vec<u8>)>;

/// The key groups of one of the workers.
///
/// # Panics
///
/// If there are more workers than key groups.
#[must_use]
pub fn range_of(worker: usize, workers: usize) -> Range<u32> {
    let bound = |worker: usize| u32::try_from(worker * KEY_GROUPS as usize / workers).unwrap_or(KEY_GROUPS);
    assert!(worker < workers && workers <= KEY_GROUPS as usize, "worker {worker} of {workers}");
    bound(worker)..bound(worker + 1)
}

/// The worker that owns a key group.
#[must_use]
pub fn owner_of(group: u32, workers: usize) -> usize {
    ((group as usize + 1) * workers - 1) / KEY_GROUPS as usize
}

/// The key group of a key, the same on every machine and in every life: FNV-1a, mixed.
#[must_use]
pub fn group_of(key: &[u8]) -> u32 {
    let hash = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    u32::try_from((hash ^ (hash >> 29)) % u64::from(KEY_GROUPS)).unwrap_or_default()
}

/// The range as the manifest has it.
///
/// # Errors
///
/// The range is empty.
pub fn in_manifest(range: &Range<u32>) -> Result<KeyGroupRange> {
    KeyGroupRange::new(range.start, range.end)
}

/// Writes pieces of one epoch as one state.
///
/// # Errors
///
/// Those of the writer.
pub fn write(writer: StateWriter, epoch: u64, pieces: &Pieces) -> Result<StateHandle> {
    let mut writer = KeyGroupWriter::new(writer);
    for (group, bytes) in pieces {
        writer.group(*group)?;
        writer.write_all(&epoch.to_le_bytes()).map_err(piton::Error::from_writer)?;
        writer.write_all(bytes).map_err(piton::Error::from_writer)?;
    }
    writer.finish()
}

/// How many bytes [`write()`] makes of pieces, without the index.
#[must_use]
pub fn len(pieces: &Pieces) -> u64 {
    pieces.iter().map(|(_, bytes)| bytes.len() as u64 + 8).sum()
}

/// Reads the pieces of a range, each key group in the order of the epochs, and returns how many bytes were read.
///
/// # Errors
///
/// Those of [`Checkpoint::key_groups`].
pub fn read(
    checkpoint: &Checkpoint,
    operator: &str,
    range: Range<u32>,
    mut restore: impl FnMut(u32, &[u8]),
) -> Result<u64> {
    let mut groups = checkpoint.key_groups(operator, range)?;
    for group in &mut groups {
        let group = group?;
        let mut pieces: Vec<(u64, &[u8])> = group.pieces.iter().filter_map(|piece| split(piece)).collect();
        pieces.sort_by_key(|(epoch, _)| *epoch);
        pieces.into_iter().for_each(|(_, bytes)| restore(group.number, bytes));
    }
    Ok(groups.bytes())
}

/// The epoch of a piece, and the application's bytes.
fn split(piece: &[u8]) -> Option<(u64, &[u8])> {
    let (epoch, bytes) = piece.split_first_chunk()?;
    Some((u64::from_le_bytes(*epoch), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_is_in_the_range_of_its_owner_and_in_no_other() {
        for workers in [1, 2, 3, 4, 6, 7, 128] {
            let ranges: Vec<_> = (0..workers).map(|worker| range_of(worker, workers)).collect();
            for group in 0..KEY_GROUPS {
                let holders: Vec<_> = (0..workers).filter(|worker| ranges[*worker].contains(&group)).collect();
                assert_eq!(holders, [owner_of(group, workers)], "group {group} of {workers} workers");
            }
        }
    }

    #[test]
    fn words_spread_over_all_groups() {
        let mut seen = [0; KEY_GROUPS as usize];
        (0..10_000).for_each(|n| seen[group_of(format!("word{n}").as_bytes()) as usize] += 1);
        assert!(seen.iter().all(|count| (30..140).contains(count)), "{seen:?}");
    }
}
