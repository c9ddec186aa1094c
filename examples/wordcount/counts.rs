//! Counts of words in key groups, and which groups a checkpoint does not have yet.

use std::collections::HashMap;

use crate::{Failure, words::fnv1a};

/// How many groups the words are cut into. More groups: less is written when little changes; fewer: less overhead.
pub(crate) const GROUPS: usize = 64;

/// How often each word occurred.
pub(crate) type WordCounts = HashMap<Box<[u8]>, u64>;

/// The counts of one worker.
#[derive(Debug)]
pub(crate) struct Counts {
    groups: Vec<WordCounts>,
    /// The last snapshot before each group changed; `None` as long as it is as it was restored.
    changed: [Option<u64>; GROUPS],
    /// The last snapshot, by the id of its checkpoint.
    snapshot: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { groups: vec![WordCounts::new(); GROUPS], changed: [None; GROUPS], snapshot: 0 }
    }
}

impl Counts {
    /// The groups as this checkpoint has them (0 if there is none); those that it does not have are empty.
    pub(crate) fn restore(
        checkpoint: u64,
        groups: impl IntoIterator<Item = Result<(usize, WordCounts), Failure>>,
    ) -> Result<Self, Failure> {
        let mut counts = Self { snapshot: checkpoint, ..Self::default() };
        for group in groups {
            let (group, words) = group?;
            counts.groups[group] = words;
        }
        Ok(counts)
    }

    pub(crate) fn add(&mut self, word: &[u8]) {
        let group = group_of(word);
        self.changed[group] = Some(self.snapshot);
        // Most words are known: only a new one is worth an allocation.
        match self.groups[group].get_mut(word) {
            Some(count) => *count += 1,
            None => drop(self.groups[group].insert(word.into(), 1)),
        }
    }

    /// Copies, as bytes, of all groups that this checkpoint, the newest that was committed, does not have as they are (0 if
    /// there is none): they changed after the snapshot for it. This is another snapshot.
    pub(crate) fn snapshot(&mut self, id: u64, committed: u64) -> piton::Result<Vec<(usize, Vec<u8>)>> {
        self.snapshot = id;
        let is_new = |group: &usize| self.changed[*group].is_some_and(|before| before >= committed);
        (0..GROUPS).filter(is_new).map(|group| Ok((group, encode(&self.groups[group])?))).collect()
    }
}

/// The group of a word: always the same, or a word would be counted in two places.
fn group_of(word: &[u8]) -> usize {
    // Smaller than GROUPS, so nothing is cut off.
    usize::try_from(fnv1a(word) % GROUPS as u64).unwrap_or_default()
}

pub(crate) fn encode(value: &impl bincode::Encode) -> piton::Result<Vec<u8>> {
    let bytes = bincode::encode_to_vec(value, bincode::config::standard());
    bytes.map_err(|error| piton::Error::invalid("encode a state", error.to_string()))
}

pub(crate) fn decode(bytes: &[u8]) -> Result<WordCounts, Failure> {
    let (words, used) = bincode::decode_from_slice(bytes, bincode::config::standard())?;
    if used != bytes.len() {
        return Err(format!("a group of {} bytes has {used} bytes of counts", bytes.len()).into());
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restored(groups: &[(usize, Vec<u8>)]) -> Counts {
        Counts::restore(7, groups.iter().map(|(group, bytes)| Ok((*group, decode(bytes)?)))).unwrap()
    }

    #[test]
    fn groups_that_a_committed_checkpoint_has_are_not_copied_again() {
        let mut counts = Counts::default();
        assert!(counts.snapshot(1, 0).unwrap().is_empty());
        for word in ["one", "two", "two"] {
            counts.add(word.as_bytes());
        }
        let groups = counts.snapshot(2, 1).unwrap();
        assert_eq!(groups.len(), 2);
        // The second one failed, the third is committed: what changed since the first, and since the third.
        assert_eq!(counts.snapshot(3, 1).unwrap().len(), 2);
        counts.add(b"two");
        assert_eq!(counts.snapshot(4, 3).unwrap().len(), 1);

        let mut counts = restored(&groups);
        assert!(counts.snapshot(8, 7).unwrap().is_empty());
        let mut counts = restored(&groups);
        counts.add(b"two");
        let groups = counts.snapshot(9, 7).unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!(decode(&groups[0].1).unwrap()[&b"two"[..]], 3);
    }

    #[test]
    fn damaged_group_is_refused() {
        let mut counts = Counts::default();
        counts.add(b"word");
        let mut bytes = counts.snapshot(1, 0).unwrap().remove(0).1;
        bytes.push(0);
        assert!(decode(&bytes).is_err());
        assert!(decode(&bytes[..2]).is_err());
    }
}
