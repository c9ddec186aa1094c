//! Going over the records that follow a base, in order. Pure.

use super::{
    chain::{Chain, Logs, Part},
    history::History,
    image::{Found, Image},
    redone::Redone,
};
use crate::{
    error::Malformed,
    format::{
        log::{BLOCK, LogId, Position},
        record::{self, Record},
    },
};

/// What the records said, beside the history that they led to.
#[derive(Debug)]
pub(super) struct Replayed<'a> {
    /// Behind the last record.
    pub(super) end: Position,
    /// The last record, if the last log has any. It may be in the page cache alone.
    pub(super) last: Option<Last<'a>>,
    /// Records that could not be read or that contradict others, in order.
    pub(super) lost: Vec<Lost>,
    /// Records that are whole in one half alone, the last one excepted: the writer may just not have finished it.
    pub(super) healed: Vec<(LogId, u64)>,
    /// The checkpoints that have states whose segments were not synced, in order.
    pub(super) redone: Vec<Redone<'a>>,
}

/// The last record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last<'a> {
    pub(super) image: &'a Image,
    pub(super) offset: u64,
    pub(super) found: Found<'a>,
}

/// One or more records that are not there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) log: LogId,
    pub(super) offset: u64,
    pub(super) why: Malformed,
}

impl Image {
    fn start(&self) -> Position {
        let header = self.header();
        let number = self.at(0).map_or(0, |found| found.head.number);
        Position { log: header.id, salt: header.salt, offset: 0, number }
    }
}

/// Applies every record behind a base to its history; with no base, all of them. `None` if there is none, and no base.
pub(super) fn replay<'a>(
    history: &mut History,
    logs: &'a Logs,
    chain: &Chain,
    base: Option<Position>,
) -> Option<Replayed<'a>> {
    let follows = |part: &&Part| base.is_none_or(|base| part.log >= base.log);
    let mut replayed: Option<Replayed<'_>> = base.map(Replayed::at);
    for part in chain.parts.iter().filter(follows) {
        let Some(image) = logs.get(&part.log).and_then(Option::as_ref) else { continue };
        let start = base.filter(|base| base.log == part.log).unwrap_or(image.start());
        let replayed = replayed.get_or_insert_with(|| Replayed::at(start));
        replayed.read_log(history, image, part, start);
    }
    replayed
}

impl<'a> Replayed<'a> {
    fn at(end: Position) -> Self {
        Self { end, last: None, lost: Vec::new(), healed: Vec::new(), redone: Vec::new() }
    }

    fn read_log(&mut self, history: &mut History, image: &'a Image, part: &Part, start: Position) {
        let expected = self.end.number;
        if start.offset == 0 && start.number != expected {
            self.lose(start, format!("records {expected} to {} are missing", start.number.saturating_sub(1)));
        }
        self.end = start;
        self.last = None;
        let end = part.end.unwrap_or(u64::MAX);
        while self.end.offset < end {
            let found = image.at(self.end.offset).filter(|found| found.head.number == self.end.number);
            let Some(found) = found.filter(|found| found.head.end <= end) else {
                if !self.go_on_behind_damage(image, part) {
                    return;
                }
                continue;
            };
            self.read_record(history, image, part, found);
        }
    }

    fn read_record(&mut self, history: &mut History, image: &'a Image, part: &Part, found: Found<'a>) {
        let (at, head) = (self.end, found.head);
        if let Some(link) = head.link {
            history.raise_floor(link.id_floor);
        }
        if let Err(why) = self.apply(history, head.record) {
            self.lost.push(Lost { log: at.log, offset: at.offset, why });
        }
        self.end = Position { offset: head.end, number: head.number.saturating_add(1), ..at };
        self.last = Some(Last { image, offset: at.offset, found });
        let is_last = part.end.is_none() && image.at(head.end).is_none();
        if !found.twice && !is_last {
            self.healed.push((at.log, head.number));
        }
    }

    fn apply(&mut self, history: &mut History, record: &'a [u8]) -> Result<(), Malformed> {
        let mut record = record::decode(record)?;
        if let Record::Checkpoint(published) = &mut record
            && !published.redo.is_empty()
        {
            self.redone.push(Redone {
                log: self.end.log,
                checkpoint: published.id,
                states: std::mem::take(&mut published.redo),
            });
        }
        history.apply_decoded(record)
    }

    /// There is no whole record where one is expected. Returns false at the end of the log: that of the last log is where no
    /// whole record follows.
    fn go_on_behind_damage(&mut self, image: &Image, part: &Part) -> bool {
        let (at, end) = (self.end, part.end.unwrap_or(u64::MAX));
        let behind = image.next_from(at.offset.saturating_add(BLOCK));
        let behind = behind.filter(|(offset, found)| *offset < end && found.head.number > at.number);
        if let Some((offset, found)) = behind {
            let number = found.head.number;
            self.lose(at, format!("records {} to {} are damaged in both halves", at.number, number - 1));
            self.end = Position { offset, number, ..at };
        } else if part.end.is_some() || image.is_unreadable(at.offset) {
            self.lose(at, format!("record {} and what follows it in this log are damaged", at.number));
            self.last = None;
        }
        behind.is_some()
    }

    fn lose(&mut self, at: Position, what: String) {
        self.lost.push(Lost { log: at.log, offset: at.offset, why: Malformed::new(at.offset, what) });
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{chain::chain, image::tests::Written},
        *,
    };
    use crate::{
        format::record::Unknown,
        id::{CheckpointId, StoreId},
    };

    fn lost(n: u64) -> Vec<u8> {
        record::lost(Unknown { id: CheckpointId::new(n).unwrap(), generation: 1, pinned: false })
    }

    /// What a log said, in short: the ids in it, the number of the next record, how many were lost and healed.
    fn said(written: impl IntoIterator<Item = Written>, base: Option<Position>) -> (Vec<u64>, u64, usize, usize) {
        let logs: Logs = written.into_iter().map(|log| (log.position().log, Some(log.image()))).collect();
        let mut history = History::new(StoreId([1; 16]));
        let replayed = replay(&mut history, &logs, &chain(&logs), base).unwrap();
        let ids = history.kept().map(|kept| kept.id.get()).collect();
        (ids, replayed.end.number, replayed.lost.len(), replayed.healed.len())
    }

    /// Records 0 to 3 in one log, 4 and 5 in the next.
    fn two() -> [Written; 2] {
        let one = Written::begun(1, 1, None).append(&lost(1)).append(&lost(2)).append(&lost(3));
        let two = Written::begun(1, 2, Some(one.position())).append(&lost(5));
        [one, two]
    }

    #[test]
    fn records_are_read_in_order_from_log_to_log_and_behind_a_base() {
        let [one, other] = two();
        assert_eq!(said(two(), None), (vec![1, 2, 3, 5], 6, 0, 0));
        let middle = Position { offset: 2 * BLOCK, number: 2, ..one.position() };
        assert_eq!(said(two(), Some(middle)), (vec![2, 3, 5], 6, 0, 0));
        assert_eq!(said(two(), Some(one.position())), (vec![5], 6, 0, 0));
        assert_eq!(said(two(), Some(other.position())), (vec![], 6, 0, 0));
        assert_eq!(said([other.clone()], Some(one.position())), (vec![5], 6, 0, 0));
    }

    #[test]
    fn record_that_is_damaged_in_one_half_is_read_from_the_other() {
        for half in [0, 1] {
            let [one, other] = two();
            assert_eq!(said([one.damaged(2 * BLOCK, &[half]), other], None), (vec![1, 2, 3, 5], 6, 0, 1));
        }
    }

    #[test]
    fn record_that_is_damaged_in_both_halves_is_lost_and_what_follows_is_read() {
        for at in 1..3 {
            let [one, other] = two();
            let (ids, next, lost, _) = said([one.damaged(at * BLOCK, &[0, 1]), other], None);
            assert_eq!((ids.len(), next, lost), (3, 6, 1), "record {at}");
        }
        let [one, other] = two();
        let (ids, next, lost, _) = said([one.damaged(3 * BLOCK, &[0, 1]), other], None);
        assert_eq!(
            (ids, next, lost),
            (vec![1, 2, 5], 6, 2),
            "the last of its log: known by where the next log goes on"
        );
    }

    #[test]
    fn end_of_the_last_log_is_no_damage_and_a_record_behind_it_is_one() {
        let [one, other] = two();
        let end = other.end;
        let torn = other.clone().append(&lost(6)).damaged(end, &[0, 1]);
        assert_eq!(said([one.clone(), torn.clone()], None), (vec![1, 2, 3, 5], 6, 0, 0));
        assert_eq!(said([one.clone(), torn.append(&lost(7))], None), (vec![1, 2, 3, 5, 7], 8, 1, 0));
        let half = other.append(&lost(6)).damaged(end, &[1]);
        assert_eq!(said([one, half], None), (vec![1, 2, 3, 5, 6], 7, 0, 0), "one half is enough, and no damage");
    }

    #[test]
    fn records_that_a_writer_appended_that_had_lost_the_store_do_not_count() {
        let one = Written::begun(1, 1, None).append(&lost(1));
        let taken_over = Written::begun(2, 1, Some(one.position())).append(&lost(2));
        let stale = one.append(&lost(9)).append(&lost(10));
        assert_eq!(said([stale, taken_over], None), (vec![1, 2], 4, 0, 0));
    }

    #[test]
    fn record_that_reaches_beyond_the_end_that_the_next_log_names_does_not_count() {
        let mut one = Written::begun(1, 1, None).append(&lost(1));
        let within = Position { offset: one.end + BLOCK, number: one.next, ..one.position() };
        one = one.append(&[7; 9000]);
        let (ids, _, lost, _) = said([one, Written::begun(2, 1, Some(within)).append(&lost(2))], None);
        assert_eq!((ids, lost), (vec![1, 2], 1));
    }

    #[test]
    fn log_that_is_missing_in_the_middle_is_noticed_by_the_numbers() {
        let [one, other] = two();
        let third = Written::begun(1, 3, Some(other.position())).append(&lost(8));
        let base = Position { offset: BLOCK, number: 1, ..one.position() };
        let (ids, next, lost, _) = said([third.clone()], Some(base));
        assert_eq!((ids, next, lost), (vec![8], 8, 1));
        assert_eq!(said([third], None), (vec![8], 8, 0, 0), "without a base the chain itself says what is missing");
    }
}
