//! The records of the logs that count, as bytes: for tools that show them.

use super::{
    chain::Part,
    image::{Found, Image},
    survey::Survey,
};
use crate::format::log::{BLOCK, LogId};

/// A place in a log: a record, or where one or more are damaged in both halves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InLogFile<'a> {
    pub(crate) log: LogId,
    pub(crate) offset: u64,
    pub(crate) record: Option<RawRecord<'a>>,
}

/// A record that is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRecord<'a> {
    pub(crate) number: u64,
    pub(crate) bytes: &'a [u8],
    /// Whether it is whole in both halves.
    pub(crate) twice: bool,
}

impl Survey {
    /// Every record of the logs that count, in order, also those that a base has taken the place of.
    pub(crate) fn raw_records(&self) -> impl Iterator<Item = InLogFile<'_>> {
        let parts = self.parts().filter_map(|part| Some((part, self.image(part.log)?)));
        parts.flat_map(|(part, image)| of_log(*part, image))
    }
}

/// Those of one log, up to the end that the log after it names.
fn of_log(part: Part, image: &Image) -> impl Iterator<Item = InLogFile<'_>> {
    let end = part.end.unwrap_or(u64::MAX);
    let mut at = Some(0);
    std::iter::from_fn(move || {
        let offset = at.take_if(|offset| *offset < end)?;
        let found = image.at(offset).filter(|found| found.head.end <= end);
        at = match &found {
            Some(found) => Some(found.head.end),
            // The last log ends where no whole record follows.
            None => image.next_from(offset + BLOCK).map(|(behind, _)| behind),
        };
        let is_lost = found.is_none() && (at.is_some() || part.end.is_some());
        let record = found.map(|Found { head, twice }| RawRecord { number: head.number, bytes: head.record, twice });
        (record.is_some() || is_lost).then_some(InLogFile { log: part.log, offset, record })
    })
}
