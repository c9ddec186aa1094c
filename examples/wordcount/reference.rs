//! The uninterrupted count that `--kill` compares with: one thread, one map, one byte after the other. It shares no
//! code with the count that it is to prove: neither chunks, nor groups, nor piton.

use std::{
    fs::File,
    io::{BufReader, Read},
};

use crate::{
    Failure,
    counts::WordCounts,
    input::{InputFile, at},
};

/// Counts the words of all files; `seen` learns how many bytes were read.
pub(crate) fn count(files: &[InputFile], seen: impl Fn(u64)) -> Result<WordCounts, Failure> {
    let (mut counts, mut bytes) = (WordCounts::new(), 0);
    for file in files {
        let reader = File::open(&file.path).map_err(|error| at(&file.path, error))?.take(file.len);
        let mut word = Vec::new();
        for byte in BufReader::new(reader).bytes() {
            let byte = byte.map_err(|error| at(&file.path, error))?;
            if byte.is_ascii_alphabetic() {
                word.push(byte.to_ascii_lowercase());
            } else {
                end_word(&mut counts, &mut word);
            }
        }
        end_word(&mut counts, &mut word);
        bytes += file.len;
        seen(bytes);
    }
    Ok(counts)
}

fn end_word(counts: &mut WordCounts, word: &mut Vec<u8>) {
    if !word.is_empty() {
        match counts.get_mut(word.as_slice()) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.as_slice().into(), 1)),
        }
        word.clear();
    }
}

/// Compares every count of every word with the reference, which was counted once and must be found `passes` times.
pub(crate) fn compare(reference: &WordCounts, counts: &WordCounts, passes: u64) -> Result<(), String> {
    let found = |word: &[u8]| counts.get(word).copied().unwrap_or_default();
    let expected = |word: &[u8]| reference.get(word).copied().unwrap_or_default() * passes;
    let words = reference.keys().chain(counts.keys());
    match words.map(|word| &**word).find(|word| found(word) != expected(word)) {
        None => Ok(()),
        Some(word) => {
            let (text, found, expected) = (String::from_utf8_lossy(word), found(word), expected(word));
            Err(format!("{text:?} was counted {found} times, it is there {expected} times"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(words: &[(&str, u64)]) -> WordCounts {
        words.iter().map(|(word, count)| (word.as_bytes().into(), *count)).collect()
    }

    #[test]
    fn every_difference_is_found() {
        let reference = counts(&[("a", 1), ("b", 2)]);
        assert_eq!(compare(&reference, &counts(&[("a", 3), ("b", 6)]), 3), Ok(()));
        for other in [&[("a", 3)][..], &[("a", 3), ("b", 5)], &[("a", 3), ("b", 6), ("c", 1)]] {
            assert!(compare(&reference, &counts(other), 3).is_err(), "{other:?}");
        }
    }

    #[test]
    fn words_end_with_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["The the", "THE end"].map(|text| {
            let path = dir.path().join(text);
            std::fs::write(&path, text).unwrap();
            InputFile { path, len: 7 }
        });
        assert_eq!(count(&files, |_| ()).unwrap(), counts(&[("the", 3), ("end", 1)]));
    }
}
