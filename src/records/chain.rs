//! Which logs of a store count, where each of them ends, and which base they go on from. Pure.
//!
//! A generation has one writer, and that uses its logs in the order of their names. So the last log that was begun, of the
//! highest generation that has one, tells the truth: it names where the log before it ended, and so on back. What a writer
//! that had lost the store appended behind such an end counts for nothing, nor do logs that the chain does not lead to.
//!
//! Names are made in their order, each durable before the next. A log is begun only once a later name is durable. The first
//! log of a generation is begun at once, and takes its second record only then. So a lost log leaves a gap below a later name.

use std::collections::{BTreeMap, BTreeSet};

use super::image::Image;
use crate::format::log::{Link, LogId, Position};

/// All logs that were found, by name; `None` for one without a header.
pub(super) type Logs = BTreeMap<LogId, Option<Image>>;

/// A log that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) log: LogId,
    /// Where the log after it says that it ends; `None` for the last one.
    pub(super) end: Option<u64>,
}

/// The logs that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Oldest first.
    pub(super) parts: Vec<Part>,
    /// Where the oldest one goes on from, if that log is not there.
    pub(super) from: Option<Link>,
    /// Logs that were begun, or may have been, and are not there or have no beginning. All are later than the chain.
    pub(super) lost: Vec<LogId>,
}

impl Image {
    fn link(&self) -> Option<Link> {
        self.at(0).and_then(|found| found.head.link)
    }
}

impl Link {
    /// The log that this one goes on from, and its salt; `None` for the first log of a store. One that goes on from the base of
    /// an export has the salt of that alone.
    fn log(&self) -> Option<(LogId, u64)> {
        let Self { generation, sequence, salt, .. } = *self;
        (generation > 0 || salt > 0).then_some((LogId { generation, sequence }, salt))
    }
}

/// Finds the chain.
pub(super) fn chain(logs: &Logs) -> Chain {
    let begun = |log: &Option<Image>| log.as_ref().and_then(Image::link);
    let mut next = logs.iter().rev().find_map(|(id, log)| Some((*id, begun(log)?)));
    let lost = lost_above(logs, next.map(|(id, _)| id));
    let (mut parts, mut from, mut end) = (Vec::new(), None, None);
    while let Some((log, link)) = next.take() {
        parts.push(Part { log, end });
        end = Some(link.end);
        let Some((before, salt)) = link.log() else { break };
        // Whatever precedes an export is not there. A hostile log may name itself, or a later one.
        let there = logs.get(&before).and_then(Option::as_ref).filter(|_| before < log);
        match there.filter(|there| there.header().salt == salt).and_then(Image::link) {
            Some(link) => next = Some((before, link)),
            None => from = Some(link),
        }
    }
    parts.reverse();
    Chain { parts, from, lost }
}

/// The logs above the last one that was begun which may have been begun as well.
fn lost_above(logs: &Logs, top: Option<LogId>) -> Vec<LogId> {
    let above = logs.keys().filter(|id| top.is_none_or(|top| **id > top));
    let mut highest = BTreeMap::new();
    for id in above {
        highest.insert(id.generation, id.sequence);
    }
    let mut lost = BTreeSet::new();
    for (generation, highest) in highest {
        let first = top.filter(|top| top.generation == generation).map_or(1, |top| top.sequence + 1);
        let id = |sequence| LogId { generation, sequence };
        // Names are as many as files: a gap counts once, whatever its length.
        let there: Vec<_> = logs.range(id(first)..=id(highest)).collect();
        let mut expected = first;
        for (found, log) in there {
            if found.sequence != expected {
                lost.insert(id(expected));
            }
            expected = found.sequence + 1;
            // The first log of a generation is begun before it has its name.
            let must_be_begun = found.sequence == 1;
            let is_blank = |log: &Image| log.next_from(0).is_none() && !log.is_unreadable(0);
            if must_be_begun || !log.as_ref().is_some_and(is_blank) {
                lost.insert(*found);
            }
        }
    }
    lost.into_iter().collect()
}

impl Chain {
    /// Whether a base may be believed that says where it stands: whether no log that is there says otherwise.
    pub(super) fn admits(&self, logs: &Logs, base: &Position) -> bool {
        if base.is_before_all() {
            return self.parts.is_empty()
                || self.from.is_some_and(|from| !from.is_before_all() || from.salt == base.salt);
        }
        if let Some(part) = self.parts.iter().find(|part| part.log == base.log) {
            let salt = logs.get(&part.log).and_then(Option::as_ref).map(|log| log.header().salt);
            return salt == Some(base.salt) && part.end.is_none_or(|end| base.offset <= end);
        }
        // Its log is not in the chain. It may be lost, before the chain or behind it, but not have been left out.
        let Some(last) = self.parts.last() else { return true };
        if base.log > last.log {
            return self.lost.contains(&base.log) || !logs.contains_key(&base.log);
        }
        let Some(from) = self.from else { return false };
        match from.log() {
            Some((log, salt)) if log == base.log => salt == base.salt && base.offset <= from.end,
            // Where a log is lost, the chain says nothing of what precedes it.
            named => named.is_some_and(|(log, _)| base.log < log),
        }
    }

    /// The log that the oldest one goes on from, and that is not there. A base may stand in it.
    pub(super) fn missing(&self, base: Option<&Position>) -> Option<LogId> {
        let (log, _) = self.from.and_then(|from| from.log())?;
        base.is_none_or(|base| base.log <= log).then_some(log)
    }

    /// Whether all is there that followed a base; with `None`, all that ever happened.
    pub(super) fn is_whole_after(&self, base: Option<&Position>) -> bool {
        let follows = match base {
            None => self.from.is_none() && !self.parts.is_empty(),
            Some(base) if base.is_before_all() && self.parts.is_empty() => true,
            Some(base) => {
                let ends_there = |from: &Link| from.log() == Some((base.log, base.salt)) && from.end == base.offset;
                self.parts.iter().any(|part| part.log == base.log) || self.from.as_ref().is_some_and(ends_there)
            }
        };
        follows && self.lost.is_empty()
    }
}

impl Position {
    /// Whether it is that of the base of an export, which precedes all logs.
    fn is_before_all(&self) -> bool {
        self.log.generation == 0
    }
}

impl Link {
    /// Whether it leads to the base of an export.
    pub(super) fn is_before_all(&self) -> bool {
        self.generation == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{super::image::tests::Written, *};

    fn logs(written: impl IntoIterator<Item = Written>) -> Logs {
        written.into_iter().map(|log| (log.position().log, Some(log.image()))).collect()
    }

    fn id(generation: u64, sequence: u64) -> LogId {
        LogId { generation, sequence }
    }

    fn names(chain: &Chain) -> Vec<(u64, u64)> {
        chain.parts.iter().map(|part| (part.log.generation, part.log.sequence)).collect()
    }

    /// (1,1) was full, (1,2) goes on, (1,3) and (1,4) are blank.
    fn steady() -> [Written; 4] {
        let one = Written::begun(1, 1, None).append(b"a");
        let two = Written::begun(1, 2, Some(one.position())).append(b"b");
        [one, two, Written::blank(1, 3), Written::blank(1, 4)]
    }

    #[test]
    fn logs_follow_each_other_and_blank_ones_do_not_count() {
        let [one, ..] = steady();
        let chain = chain(&logs(steady()));
        assert_eq!(names(&chain), [(1, 1), (1, 2)]);
        assert_eq!(chain.parts[0].end, Some(one.end));
        assert_eq!((chain.parts[1].end, chain.from, chain.lost.is_empty()), (None, None, true));
        assert!(chain.is_whole_after(None));
    }

    #[test]
    fn log_that_was_begun_and_is_lost_leaves_a_gap() {
        for lost in [1, 2] {
            let mut logs = logs(steady());
            logs.remove(&id(1, lost));
            let chain = chain(&logs);
            assert!(!chain.is_whole_after(None), "{lost}");
            assert_eq!(chain.lost, if lost == 2 { vec![id(1, 2)] } else { vec![] });
            assert_eq!(chain.from.is_some(), lost == 1);
        }
        let mut all = logs(steady());
        all.retain(|log, _| *log == id(1, 3) || *log == id(1, 4));
        assert_eq!(chain(&all).lost, [id(1, 1)]);
        let mut damaged = logs(steady());
        damaged.insert(id(1, 2), None);
        assert_eq!(chain(&damaged).lost, [id(1, 2)]);
    }

    #[test]
    fn log_whose_first_record_is_damaged_in_both_halves_is_lost_and_one_that_was_not_finished_is_blank() {
        let [one, two, three, four] = steady();
        let damaged = two.clone().damaged(0, &[0, 1]);
        assert_eq!(chain(&logs([one.clone(), damaged, three.clone(), four.clone()])).lost, [id(1, 2)]);
        let torn = Written::begun(1, 2, Some(one.position())).damaged(0, &[0, 1]);
        let chain = chain(&logs([one, torn, three, four]));
        assert_eq!((names(&chain), chain.lost), (vec![(1, 1)], vec![]));
    }

    #[test]
    fn later_generation_decides_where_the_one_before_ended() {
        let one = Written::begun(1, 1, None).append(b"a");
        let taken_over = Written::begun(2, 1, Some(one.position()));
        // The stalled writer appends, goes on to its next log, and another opener that gave up had begun a log too.
        let stale = one.clone().append(b"stale");
        let stale_next = Written::begun(1, 2, Some(stale.position())).append(b"stale");
        let third = Written::begun(3, 1, Some(taken_over.position())).append(b"c");
        let chain = chain(&logs([stale, stale_next, Written::blank(1, 3), taken_over.clone(), third]));
        assert_eq!(names(&chain), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(
            chain.parts.iter().map(|part| part.end).collect::<Vec<_>>(),
            [Some(one.end), Some(taken_over.end), None]
        );
        assert!(chain.is_whole_after(None));
    }

    #[test]
    fn first_log_of_a_generation_is_lost_if_others_of_it_are_there() {
        let one = Written::begun(1, 1, None);
        assert_eq!(chain(&logs([one.clone(), Written::blank(2, 2)])).lost, [id(2, 1)]);
        assert_eq!(chain(&logs([one, Written::blank(2, 1)])).lost, [id(2, 1)]);
        assert_eq!(chain(&logs([])), Chain::default());
    }

    #[test]
    fn log_of_the_same_name_from_a_copy_of_the_store_is_not_the_one_before() {
        let [one, two, ..] = steady();
        let mut other = two.position();
        other.salt += 1;
        let chain = chain(&logs([one, two, Written::begun(2, 1, Some(other))]));
        assert_eq!((names(&chain), chain.from.map(|from| from.sequence)), (vec![(2, 1)], Some(2)));
    }

    #[test]
    fn hostile_log_that_names_itself_or_a_later_one_ends_the_chain() {
        for before in [id(1, 1), id(1, 2)] {
            let from = Position { log: before, salt: 1000 + before.sequence, offset: 4096, number: 9 };
            let chain = chain(&logs([Written::begun(1, 1, Some(from)), Written::blank(1, 2)]));
            assert_eq!(names(&chain), [(1, 1)]);
            assert!(chain.from.is_some());
        }
    }

    #[test]
    fn base_counts_unless_a_log_says_otherwise() {
        let [one, two, three, four] = steady();
        let all = logs([one.clone(), two.clone(), three.clone(), four.clone()]);
        let without = |lost: u64| {
            let mut logs = logs([one.clone(), two.clone(), three.clone(), four.clone()]);
            logs.remove(&id(1, lost));
            logs
        };
        let middle = Position { offset: 4096, ..two.position() };
        for (base, logs, admitted, whole) in [
            (one.position(), &all, true, true),
            (two.position(), &all, true, true),
            (middle, &all, true, true),
            (Position { salt: 1, ..middle }, &all, false, true),
            (Position { offset: one.end + 4096, ..one.position() }, &all, false, true),
            // Of a log that the chain does not lead to.
            (Position { log: id(1, 3), ..middle }, &all, false, false),
            // The log in which it was written is lost.
            (two.position(), &without(2), true, false),
            (middle, &without(2), true, false),
            (one.position(), &without(1), true, true),
            (Position { offset: 4096, ..one.position() }, &without(1), true, false),
            (Position { offset: one.end + 4096, ..one.position() }, &without(1), false, false),
            (two.position(), &without(1), true, true),
        ] {
            let chain = chain(logs);
            assert_eq!(chain.admits(logs, &base), admitted, "{base:?} {:?}", names(&chain));
            assert!(!admitted || chain.is_whole_after(Some(&base)) == whole, "{base:?} {:?}", names(&chain));
        }
        let none = Logs::new();
        assert!(chain(&none).admits(&none, &one.position()));
        assert!(!chain(&none).is_whole_after(Some(&one.position())), "all logs are lost");
    }

    #[test]
    fn export_has_a_base_and_no_log_until_it_is_opened() {
        let base = Position { log: id(0, 0), salt: 77, offset: 0, number: 0 };
        let opened = || logs([Written::begun(1, 1, Some(base)), Written::blank(1, 2)]);
        for logs in [Logs::new(), opened()] {
            assert!(chain(&logs).admits(&logs, &base));
            assert!(chain(&logs).is_whole_after(Some(&base)));
        }
        assert!(!chain(&logs([Written::blank(1, 2)])).is_whole_after(Some(&base)));
        assert!(!chain(&opened()).is_whole_after(None), "the base is lost");
        let other = Position { salt: 78, ..base };
        assert!(!chain(&opened()).admits(&opened(), &other), "the base of another export");
        let none = logs([Written::begun(1, 1, None)]);
        assert!(!chain(&none).admits(&none, &base), "the log begins with nothing");
    }

    #[test]
    fn base_of_a_writer_that_had_lost_the_store_is_refuted() {
        let one = Written::begun(1, 1, None).append(b"a");
        let two = Written::begun(2, 1, Some(one.position()));
        let stale = one.clone().append(b"stale");
        let next = Written::begun(1, 2, Some(stale.position())).append(b"stale");
        let found = logs([stale.clone(), next.clone(), two.clone()]);
        let chain = chain(&found);
        assert!(chain.admits(&found, &one.position()));
        assert!(!chain.admits(&found, &stale.position()));
        assert!(!chain.admits(&found, &next.position()));
        let mut without = found;
        without.remove(&id(1, 2));
        assert!(!chain.admits(&without, &next.position()), "its log was cleaned up");
    }
}
