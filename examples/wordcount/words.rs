//! Words in a stream of chunks.

/// Finds the words in chunks of bytes that follow each other, also those that a chunk boundary splits.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// The letters at the end of the last chunk: a word that may go on.
    partial: Vec<u8>,
}

impl Splitter {
    /// Hands out every word that ends in this chunk, which is turned to lower case in place.
    pub(crate) fn feed(&mut self, chunk: &mut [u8], mut found: impl FnMut(&[u8])) {
        chunk.make_ascii_lowercase();
        let mut pieces = chunk.split(|byte| !byte.is_ascii_lowercase());
        // Every piece but the last is followed by a byte that is no letter.
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            if self.partial.is_empty() {
                if !piece.is_empty() {
                    found(piece);
                }
            } else {
                self.partial.extend_from_slice(piece);
                found(&self.partial);
                self.partial.clear();
            }
        }
        self.partial.extend_from_slice(last);
    }

    /// The file ends here, and so does a word.
    pub(crate) fn finish(&mut self, found: impl FnOnce(&[u8])) {
        if !self.partial.is_empty() {
            found(&self.partial);
            self.partial.clear();
        }
    }

    /// How many of the bytes fed so far belong to a word that was not handed out. So many bytes before the end of the
    /// last chunk is a consistent point: everything before it was counted, nothing after it was, and it is at the
    /// beginning of a word. That is why a checkpoint need not contain the partial word.
    pub(crate) fn pending(&self) -> u64 {
        self.partial.len() as u64
    }
}

/// FNV-1a, 64 bits: simple, and the same in every process, unlike the standard hasher.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_more(0xcbf2_9ce4_8422_2325, bytes)
}

/// The hash of what was hashed before, followed by these bytes.
pub(crate) fn fnv1a_more(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut words = Vec::new();
        let mut splitter = Splitter::default();
        let mut found = |word: &[u8]| words.push(String::from_utf8(word.to_vec()).unwrap());
        for chunk in chunks {
            splitter.feed(&mut chunk.to_vec(), &mut found);
        }
        splitter.finish(&mut found);
        assert_eq!(splitter.pending(), 0);
        words
    }

    #[test]
    fn words_are_runs_of_letters_in_lower_case() {
        let text = b"\x00The cat's 2nd na\xc3\xafve-ish\nHAT_\xff9lives";
        let words = ["the", "cat", "s", "nd", "na", "ve", "ish", "hat", "lives"];
        assert_eq!(split([&text[..]]), words);
        assert!(split([&b""[..]]).is_empty());
        assert!(split([&b"123 \n"[..]]).is_empty());
    }

    #[test]
    fn chunk_boundaries_change_nothing() {
        let text = b" One,two  THREE;four!five six.";
        let whole = split([&text[..]]);
        assert_eq!(whole, ["one", "two", "three", "four", "five", "six"]);
        for size in 1..=text.len() {
            assert_eq!(split(text.chunks(size)), whole, "chunks of {size}");
        }
        for cut in 0..=text.len() {
            assert_eq!(split([&text[..cut], &b""[..], &text[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn counting_again_from_any_consistent_point_finds_the_rest() {
        let text = b"alpha beta  gamma";
        let whole = split([&text[..]]);
        for cut in 0..=text.len() {
            let (mut words, mut splitter) = (Vec::new(), Splitter::default());
            let mut found = |word: &[u8]| words.push(String::from_utf8(word.to_vec()).unwrap());
            splitter.feed(&mut text[..cut].to_vec(), &mut found);
            let point = cut - usize::try_from(splitter.pending()).unwrap();
            words.extend(split([&text[point..]]));
            assert_eq!(words, whole, "cut at {cut}");
        }
    }

    #[test]
    fn hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(fnv1a_more(fnv1a(b"foo"), b"bar"), fnv1a(b"foobar"));
    }
}
