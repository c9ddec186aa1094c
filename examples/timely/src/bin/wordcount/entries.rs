//! Counts as bytes: in pieces of key groups, and in results.

use bincode::config::standard;
use timely_piton::Failure;

/// Adds a count to bytes.
pub(crate) fn encode(window: u32, word: &str, times: u64, bytes: &mut Vec<u8>) {
    // A vector takes all bytes, and these types have no values that cannot be encoded.
    let _ = bincode::encode_into_std_write((window, word, times), bytes, standard());
}

/// Reads the counts that [`encode`] wrote, one after another.
pub(crate) fn decode(mut bytes: &[u8], mut each: impl FnMut(u32, &str, u64)) -> Result<(), Failure> {
    while !bytes.is_empty() {
        let ((window, word, times), len) = bincode::borrow_decode_from_slice::<(u32, &str, u64), _>(bytes, standard())?;
        each(window, word, times);
        bytes = &bytes[len..];
    }
    Ok(())
}
