//! Numbers for people.

use indicatif::{DecimalBytes, HumanCount};
use jiff::Timestamp;
use piton::CheckpointId;

/// Bytes in decimal units.
pub(crate) fn bytes(bytes: u64) -> String {
    DecimalBytes(bytes).to_string()
}

/// A duration with three digits or so.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn micros(micros: u64) -> String {
    match micros {
        ..1000 => format!("{micros} us"),
        1000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// A count with separators.
pub(crate) fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// Milliseconds since 1970 as UTC; a dash for 0, which stands for no time.
pub(crate) fn time(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds)
        .ok()
        .filter(|time| *time > 0)
        .and_then(|time| Timestamp::from_millisecond(time).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime("%F %T").to_string())
}

/// Ids in ascending order, neighbours as a range.
pub(crate) fn ids(ids: &[CheckpointId]) -> String {
    let runs = ids.chunk_by(|one, other| one.get() + 1 == other.get());
    let say = |run: &[CheckpointId]| match run {
        [first, _, .., last] => format!("{first} to {last}"),
        few => few.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    runs.map(say).collect::<Vec<_>>().join(", ")
}

/// A count and its noun.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}
