//! Counts of words in key groups, and which groups changed since the last checkpoint.

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
    changed: [bool; GROUPS],
}

/// A copy of one group as bytes, so that counting can go on while it is written.
#[derive(Debug)]
pub(crate) struct EncodedGroup {
    pub(crate) group: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { groups: vec![WordCounts::new(); GROUPS], changed: [false; GROUPS] }
    }
}

impl Counts {
    /// The groups as a checkpoint has them; those that it does not have are empty.
    pub(crate) fn restore(
        groups: impl IntoIterator<Item = Result<(usize, WordCounts), Failure>>,
    ) -> Result<Self, Failure> {
        let mut counts = Self::default();
        for group in groups {
            let (group, words) = group?;
            counts.groups[group] = words;
        }
        Ok(counts)
    }

    pub(crate) fn add(&mut self, word: &[u8]) {
        let group = group_of(word);
        self.changed[group] = true;
        // Most words are known: only a new one is worth an allocation.
        match self.groups[group].get_mut(word) {
            Some(count) => *count += 1,
            None => drop(self.groups[group].insert(word.into(), 1)),
        }
    }

    /// A copy of each group that changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Result<Vec<EncodedGroup>, Failure> {
        let changed = std::mem::replace(&mut self.changed, [false; GROUPS]);
        let changed = self.groups.iter().enumerate().filter(|(group, _)| changed[*group]);
        changed.map(|(group, words)| Ok(EncodedGroup { group, bytes: encode(words)? })).collect()
    }
}

/// The group of a word: always the same, or a word would be counted in two places.
fn group_of(word: &[u8]) -> usize {
    // Smaller than GROUPS, so nothing is cut off.
    usize::try_from(fnv1a(word) % GROUPS as u64).unwrap_or_default()
}

fn encode(words: &WordCounts) -> Result<Vec<u8>, Failure> {
    Ok(bincode::encode_to_vec(words, bincode::config::standard())?)
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

    fn restored(groups: &[EncodedGroup]) -> Counts {
        Counts::restore(groups.iter().map(|group| Ok((group.group, decode(&group.bytes)?)))).unwrap()
    }

    #[test]
    fn only_changed_groups_are_handed_over_and_come_back() {
        let mut counts = Counts::default();
        assert!(counts.take_changed().unwrap().is_empty());
        for word in ["one", "two", "two"] {
            counts.add(word.as_bytes());
        }
        let groups = counts.take_changed().unwrap();
        assert_eq!(groups.len(), 2);
        let mut counts = restored(&groups);
        assert!(counts.take_changed().unwrap().is_empty());
        counts.add(b"two");
        let groups = counts.take_changed().unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!(decode(&groups[0].bytes).unwrap()[&b"two"[..]], 3);
    }

    #[test]
    fn damaged_group_is_refused() {
        let mut counts = Counts::default();
        counts.add(b"word");
        let mut bytes = counts.take_changed().unwrap().remove(0).bytes;
        bytes.push(0);
        assert!(decode(&bytes).is_err());
        assert!(decode(&bytes[..2]).is_err());
    }
}
