//! The log that a store writes: appending, going on to the next file, and what becomes of a record that failed.
//!
//! # Who owns what
//!
//! The writer has one log that takes records, and [blank ones](super::blanks) to go on to. Each file belongs to it alone from
//! the moment it was made: a name says which generation made it, and no file of a name that is there is ever made again.
//!
//! # Appending, step by step
//!
//! 1. a blank log is there whose name is durable, two if the record has to go to the next one; else they are made.
//!    Where there is no room for them the record is refused, and nothing was written;
//! 2. the record is written to both halves. A crash leaves some of it: the end of the log, or the record. Where a full disk
//!    refuses that, a record that gives room back is written once more in the room that is kept;
//! 3. the file is synced: **the record is there**;
//! 4. the owner looks whether it still has the store. If not, the outcome is unknown.
//!
//! If 2 or 3 fails, the medium may hold the record or not. Nothing more is ever written to that log. The writer goes on to
//! the next one, whose first record says that this log ended in front of the failed record. Once that first record is
//! durable, and this process still has the store, the failed record never was. If either fails, the outcome is unknown, and
//! the store refuses to write.
//!
//! A full log is left the same way, and the record itself is the first one of the next log: one sync. A record that fits into
//! no blank log gets one of its own length.

use std::sync::Arc;

use super::{
    blank::{Entry, OpenLog, Urgency},
    blanks::{self, Blanks, Shape},
};
use crate::{
    disk::{layout, volume::Volume},
    error::{Error, Result},
    format::{
        base,
        log::{Link, LogId, Position},
        record,
    },
};

/// Who writes the log, as far as others have a say in it.
pub(crate) trait Owner {
    /// Fails if another process may have taken the store over.
    fn check(&self) -> Result<()>;

    /// Fails if a reader may have seen the record that failed, or may still come to see it.
    fn may_void(&self) -> Result<()>;
}

/// The log of an open store.
#[derive(Debug)]
pub(crate) struct Log {
    volume: Arc<Volume>,
    current: OpenLog,
    /// The number of the next record.
    next: u64,
    blanks: Arc<Blanks>,
    /// How many bases this process began to write.
    bases: u64,
}

impl Log {
    /// Begins the first log of a generation. It goes on from where the log before it ended; `None` for the first log of a
    /// store. Durable on return: from here on nothing counts that an older writer appends.
    ///
    /// # Errors
    ///
    /// `is_fenced` if another opener has made a log of this generation. Those of the file system.
    pub(crate) fn begin(volume: &Arc<Volume>, shape: Shape, from: Option<Position>, id_floor: u64) -> Result<Self> {
        let blanks = Arc::new(Blanks::new(volume, shape, id_floor));
        let link = link_from(from, id_floor);
        let next = from.map_or(0, |from| from.number);
        let record = record::ids_used(id_floor);
        let entry = Entry { record: &record, urgency: Urgency::GivesRoom };
        let current = blanks.make_first(next, &link, &entry)?;
        Ok(Self { volume: Arc::clone(volume), current, next: next.saturating_add(1), blanks, bases: 0 })
    }

    /// Where blank logs come from.
    pub(crate) fn blanks(&self) -> &Arc<Blanks> {
        &self.blanks
    }

    /// Behind the last record.
    pub(crate) fn position(&self) -> Position {
        self.current.position(self.next)
    }

    /// Remembers that an id was used, durably if it is far above all others.
    ///
    /// # Errors
    ///
    /// Those of making a file. The id must not be used then.
    pub(crate) fn use_id(&self, id: u64) -> Result<()> {
        self.blanks.use_id(id)
    }

    /// The header of the next base, which stands at a place of the log; every id up to the floor was used. Each attempt has
    /// its own name.
    ///
    /// # Errors
    ///
    /// That there are no random numbers.
    pub(crate) fn next_base(&mut self, position: Position, id_floor: u64) -> Result<base::Header> {
        let salt = getrandom::u64().map_err(|e| Error::invalid("make a base", e.to_string()))?;
        self.bases += 1;
        let Shape { store, generation, .. } = self.blanks.shape();
        let id_floor = self.blanks.id_floor().max(id_floor);
        let reserved_ids = blanks::reserved(id_floor);
        Ok(base::Header { store, generation, sequence: self.bases, salt, position, id_floor, reserved_ids })
    }

    /// Appends a record: durable on return.
    ///
    /// # Errors
    ///
    /// The record never was, and the log goes on, unless the error `is_indeterminate`.
    pub(crate) fn append(&mut self, entry: &Entry<'_>, owner: &impl Owner) -> Result<()> {
        self.volume.check_writable("append to the log of")?;
        let goes_on = !self.current.takes(entry);
        let passed = self.make_ready(entry, goes_on)?;
        let before = self.position();
        let appended = if goes_on {
            self.go_on(&before, entry)
        } else {
            self.current.append(&self.volume, self.next, None, entry)
        };
        if let Err(error) = appended {
            return Err(self.make_void(&before, error, owner));
        }
        for LogId { generation, sequence } in passed {
            // What cannot be removed is remembered and tried again.
            let _ = self.volume.discard(&layout::log(generation, sequence));
        }
        self.next = self.next.saturating_add(1);
        let in_place = self.current.check_in_place(&self.volume);
        in_place.and_then(|()| owner.check()).map_err(|error| self.volume.in_doubt(error))
    }

    /// Step 1. Returns the blank logs that are passed over.
    fn make_ready(&mut self, entry: &Entry<'_>, goes_on: bool) -> Result<Vec<LogId>> {
        if !goes_on {
            return self.blanks.ensure(1, entry.urgency).map(|()| Vec::new());
        }
        self.blanks.ensure(blanks::ENOUGH, entry.urgency)?;
        if self.blanks.next_takes(entry) { Ok(Vec::new()) } else { self.blanks.make_longer(entry) }
    }

    /// The next log goes on from a place, with this record.
    fn go_on(&mut self, from: &Position, entry: &Entry<'_>) -> Result<()> {
        let link = link_from(Some(*from), self.blanks.id_floor());
        let blank = self.blanks.take();
        let mut next = blank.ok_or_else(|| Error::invalid("append to the log", "there is no blank log to go on to"))?;
        next.append(&self.volume, self.next, Some(&link), entry)?;
        self.current = next;
        Ok(())
    }

    /// Makes sure that a record never was which was to be behind a place. Returns the error of the append: as it is, or
    /// with an unknown outcome.
    fn make_void(&mut self, from: &Position, error: Error, owner: &impl Owner) -> Error {
        let record = record::ids_used(self.blanks.id_floor());
        let nothing = Entry { record: &record, urgency: Urgency::GivesRoom };
        let voided = owner
            .may_void()
            .and_then(|()| self.blanks.ensure(blanks::ENOUGH, Urgency::GivesRoom))
            .and_then(|()| self.go_on(from, &nothing))
            .and_then(|()| owner.check());
        self.next = self.next.saturating_add(1);
        match voided {
            Ok(()) => error,
            Err(_) => self.volume.in_doubt(error),
        }
    }
}

fn link_from(from: Option<Position>, id_floor: u64) -> Link {
    let (log, salt, end) =
        from.map_or((LogId { generation: 0, sequence: 0 }, 0, 0), |from| (from.log, from.salt, from.offset));
    Link { generation: log.generation, sequence: log.sequence, salt, end, id_floor }
}

#[cfg(feature = "testing")]
#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::{
        super::{adopt, chain::chain, find, history::History, replay::replay},
        *,
    };
    use crate::{
        disk::sim::SimDisk,
        format::{
            log::{encode_head, place},
            record::Against,
        },
        handle::StateHandle,
        id::{CheckpointId, StoreId},
        manifest::{Manifest, ManifestContent, Origins},
        testing::{Call, Fault, Survival},
    };

    const STORE: StoreId = StoreId([1; 16]);
    const HALF: u64 = 64 * 1024;
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;

    /// An owner that has lost nothing, unless told.
    #[derive(Default)]
    struct Alone {
        fenced: Cell<bool>,
        read: Cell<bool>,
    }

    impl Owner for Alone {
        fn check(&self) -> Result<()> {
            if self.fenced.get() { Err(Error::invalid("append", "fenced")) } else { Ok(()) }
        }

        fn may_void(&self) -> Result<()> {
            if self.read.get() { Err(Error::invalid("void", "read")) } else { Ok(()) }
        }
    }

    /// A root with the directory of the manifests, durably.
    pub(in crate::records) fn volume(disk: &SimDisk) -> Arc<Volume> {
        let volume = Volume::new(Arc::new(disk.clone()), "/state".into(), true);
        volume.ensure_dir("").unwrap();
        volume.ensure_dir(layout::MANIFESTS).unwrap();
        volume.sync_dir("").unwrap();
        volume.sync_above_root().unwrap();
        volume.open_root().unwrap();
        Arc::new(volume)
    }

    fn shape(generation: u64) -> Shape {
        Shape { store: STORE, generation, half: HALF, first_half: HALF }
    }

    /// A record that says of itself which one it is, and is at least so long.
    fn record_of(n: u64, len: usize) -> Vec<u8> {
        let states = [("state".into(), StateHandle::inline(&vec![9; len]))].into_iter().collect();
        let content = ManifestContent { epoch: Some(n), vnode_count: Some(1), states, ..ManifestContent::default() };
        let (id, origins) = (CheckpointId::new(n).unwrap(), Origins::new());
        let manifest = Manifest { store: STORE, id, generation: 1, origins, content };
        record::checkpoint(&manifest, record::Marks::default(), Against::default(), &[], &[]).unwrap()
    }

    /// Some are long.
    fn record(n: u64) -> Vec<u8> {
        let len = match n {
            _ if n.is_multiple_of(13) => 70_000,
            _ if n.is_multiple_of(5) => 15_000,
            _ => 0,
        };
        record_of(n, len)
    }

    fn append(log: &mut Log, n: u64, owner: &Alone) -> Result<()> {
        log.append(&Entry { record: &record(n), urgency: Urgency::Ordinary }, owner)
    }

    /// What a later opener finds: the ids in their order, where the log ends, and whether anything seems lost.
    fn found(volume: &Volume) -> (Vec<u64>, Option<Position>, bool) {
        let logs = find::logs(volume, STORE).unwrap();
        let chain = chain(&logs);
        let mut history = History::new(STORE);
        let replayed = replay(&mut history, &logs, &chain, None);
        let ids = history.kept().map(|kept| kept.id.get()).collect();
        let damaged =
            replayed.as_ref().is_some_and(|replayed| !replayed.lost.is_empty() || !replayed.healed.is_empty());
        (ids, replayed.map(|replayed| replayed.end), damaged || !chain.lost.is_empty() || chain.from.is_some())
    }

    /// What a writer was told of its records.
    #[derive(Clone, Debug, Default)]
    struct Told {
        there: Vec<u64>,
        /// They never were.
        void: Vec<u64>,
        /// The outcome is unknown.
        unknown: Vec<u64>,
        /// Whether the log went on after a failure.
        went_on: bool,
    }

    fn write(volume: &Arc<Volume>, generation: u64, from: Option<Position>, ids: std::ops::Range<u64>) -> Told {
        write_and_refill(volume, generation, from, ids, 3)
    }

    /// Another thread makes blank logs after each `refill` records.
    fn write_and_refill(
        volume: &Arc<Volume>,
        generation: u64,
        from: Option<Position>,
        ids: std::ops::Range<u64>,
        refill: u64,
    ) -> Told {
        let (owner, mut told) = (Alone::default(), Told::default());
        let Ok(mut log) = Log::begin(volume, shape(generation), from, 0) else { return told };
        for n in ids {
            if n.is_multiple_of(refill) {
                let _ = log.blanks().refill();
            }
            match append(&mut log, n, &owner) {
                Ok(()) => {
                    told.went_on |= !told.void.is_empty();
                    told.there.push(n);
                }
                Err(error) if error.is_indeterminate() => {
                    told.unknown.push(n);
                    break;
                }
                Err(_) if volume.is_poisoned() => break,
                Err(_) => told.void.push(n),
            }
        }
        told
    }

    /// What was said to be there is there, in order; what was said never to be is not; at most one other record is.
    fn check(told: &Told, found: &[u64], at: &str) {
        let mut expected = told.there.clone();
        expected.extend(found.iter().filter(|n| !told.there.contains(n)));
        assert_eq!(found, expected, "{at}: {told:?}");
        assert!(told.void.iter().all(|n| !found.contains(n)), "{at}: {told:?} {found:?}");
        assert!(found.len() <= told.there.len() + 1, "{at}: {told:?} {found:?}");
    }

    /// Opens the store as a later generation does: makes sure of the last record, and goes on.
    fn take_over(volume: &Arc<Volume>, generation: u64, ids: std::ops::Range<u64>) -> Told {
        let Ok(logs) = find::logs(volume, STORE) else { return Told::default() };
        let mut history = History::new(STORE);
        let replayed = replay(&mut history, &logs, &chain(&logs), None);
        if let Some(last) = replayed.as_ref().and_then(|replayed| replayed.last.as_ref())
            && adopt::make_sure(volume, last).is_err()
        {
            return Told::default();
        }
        write(volume, generation, replayed.map(|replayed| replayed.end), ids)
    }

    const SURVIVALS: [Survival; 6] = [
        Survival::Nothing,
        Survival::Everything,
        Survival::Random(1),
        Survival::Random(2),
        Survival::Random(3),
        Survival::Random(4),
    ];

    #[test]
    fn records_come_back_from_many_logs_and_nothing_seems_lost() {
        let disk = SimDisk::new();
        let told = write(&volume(&disk), 1, None, 1..100);
        assert_eq!((told.there.len(), told.void.len()), (99, 0));
        let disk = disk.cut_power(Survival::Nothing);
        let second = volume(&disk);
        let (ids, _, damaged) = found(&second);
        assert_eq!((ids, damaged), (told.there, false));
        let told = take_over(&second, 2, 100..120);
        assert_eq!(told.there.len(), 20);
        let (ids, _, damaged) = found(&second);
        assert_eq!((ids, damaged), ((1..120).collect(), false));
    }

    #[test]
    fn power_cut_at_any_call_loses_no_record_and_makes_none_seem_damaged() {
        let calls = {
            let disk = SimDisk::new();
            write(&volume(&disk), 1, None, 1..30);
            disk.calls()
        };
        for call in 1..=calls {
            for survival in SURVIVALS {
                let disk = SimDisk::new();
                let first = volume(&disk);
                disk.fail(call.max(disk.calls() + 1), Fault::PowerCut);
                let told = write(&first, 1, None, 1..30);
                let disk = disk.cut_power(survival);
                let second = volume(&disk);
                let (ids, _, damaged) = found(&second);
                let at = format!("call {call}, {survival:?}");
                check(&told, &ids, &at);
                assert!(!damaged, "{at}");
                let again = take_over(&second, 2, 50..60);
                assert_eq!(again.there.len(), 10, "{at}");
                let after = disk.cut_power(Survival::Nothing);
                let (now, _, damaged) = found(&volume(&after));
                assert_eq!((now, damaged), ([ids, again.there].concat(), false), "{at}");
            }
        }
    }

    #[test]
    fn power_cut_while_the_store_is_taken_over_loses_no_record() {
        for (cut, tail) in [(Survival::Nothing, false), (Survival::Everything, true), (Survival::Random(9), true)] {
            for call in 1.. {
                let mut over = true;
                for survival in SURVIVALS {
                    let disk = SimDisk::new();
                    let told = write(&volume(&disk), 1, None, 1..12);
                    // The last record is there, and its writer never heard of it.
                    let told = if tail { unheard(&disk, &told) } else { told };
                    let disk = disk.cut_power(cut);
                    let (before, _, _) = found(&volume(&disk));
                    let second = volume(&disk);
                    disk.fail(disk.calls() + call, Fault::PowerCut);
                    let again = take_over(&second, 2, 20..24);
                    over &= again.there.len() == 4;
                    let disk = disk.cut_power(survival);
                    let third = volume(&disk);
                    let (ids, _, damaged) = found(&third);
                    let at = format!("call {call}, {cut:?}, {survival:?}: {before:?}");
                    check(&told, &ids.iter().copied().filter(|n| *n < 20).collect::<Vec<_>>(), &at);
                    assert!(!damaged, "{at}");
                    // What a take-over has relied on stays.
                    assert!(again.there.is_empty() || ids.starts_with(&before), "{at}: {ids:?}");
                    assert!(again.there.iter().all(|n| ids.contains(n)), "{at}: {again:?} {ids:?}");
                    assert_eq!(take_over(&third, 3, 30..33).there.len(), 3, "{at}");
                }
                if over {
                    break;
                }
            }
        }
    }

    /// Goes on where a writer was, and fails in the sync of the next record: its bytes may be there, or never get there.
    fn unheard(disk: &SimDisk, told: &Told) -> Told {
        let volume = volume(disk);
        let logs = find::logs(&volume, STORE).unwrap();
        let mut history = History::new(STORE);
        let end = replay(&mut history, &logs, &chain(&logs), None).unwrap().end;
        let name = layout::log(end.log.generation, end.log.sequence);
        let image = logs[&end.log].as_ref().unwrap();
        let file = volume.open_writable(name).unwrap();
        let head = encode_head(image.header().tag(), (end.offset, end.number), None, &record(12)).unwrap();
        for which in 0..2 {
            file.write_all_at(&head, place(HALF, which, end.offset)).unwrap();
        }
        disk.fail_nth(Call::SyncData, 1, Fault::Error(EIO));
        file.sync().unwrap_err();
        Told { unknown: vec![12], ..told.clone() }
    }

    #[test]
    fn record_whose_sync_failed_and_that_was_taken_over_without_a_power_cut_stays() {
        let disk = SimDisk::new();
        let told = write(&volume(&disk), 1, None, 1..12);
        unheard(&disk, &told);
        let second = volume(&disk);
        let (before, _, _) = found(&second);
        assert!(before.contains(&12), "the page cache has it");
        assert_eq!(take_over(&second, 2, 20..24).there.len(), 4);
        let (ids, _, damaged) = found(&volume(&disk.cut_power(Survival::Nothing)));
        assert_eq!((ids, damaged), ([before, vec![20, 21, 22, 23]].concat(), false));
    }

    #[test]
    fn call_that_fails_leaves_the_record_there_or_void_and_the_log_goes_on() {
        let calls = {
            let disk = SimDisk::new();
            write(&volume(&disk), 1, None, 1..30);
            disk.calls()
        };
        let mut went_on = 0;
        for call in 1..=calls {
            for fault in [Fault::Error(EIO), Fault::ErrorAfter(EIO), Fault::Error(ENOSPC), Fault::ShortWrite] {
                for survival in [Survival::Nothing, Survival::Everything, Survival::Random(call)] {
                    let disk = SimDisk::new();
                    let first = volume(&disk);
                    disk.fail(call.max(disk.calls() + 1), fault);
                    let told = write(&first, 1, None, 1..30);
                    went_on += u32::from(told.went_on);
                    let at = format!("call {call}, {fault:?}, {survival:?}");
                    // At once, and after the power was cut.
                    if !told.there.is_empty() {
                        check(&told, &found(&first).0, &at);
                    }
                    let disk = disk.cut_power(survival);
                    let (ids, _, damaged) = found(&volume(&disk));
                    check(&told, &ids, &at);
                    assert!(!damaged, "{at}");
                }
            }
        }
        assert!(went_on > 100, "{went_on}");
    }

    #[test]
    fn record_that_a_reader_may_have_seen_is_never_void() {
        let (disk, owner) = (SimDisk::new(), Alone::default());
        let volume = volume(&disk);
        let mut log = Log::begin(&volume, shape(1), None, 0).unwrap();
        append(&mut log, 1, &owner).unwrap();
        owner.read.set(true);
        disk.fail_nth(Call::SyncData, 1, Fault::Error(EIO));
        assert!(append(&mut log, 2, &owner).unwrap_err().is_indeterminate());
        assert!(volume.is_poisoned());
        owner.read.set(false);
        assert!(append(&mut log, 3, &owner).unwrap_err().is_poisoned());
    }

    #[test]
    fn record_that_was_made_void_stays_void_or_the_loss_of_the_log_that_says_so_is_noticed() {
        let mut voided = 0;
        for n in 2..12 {
            let disk = SimDisk::new();
            let volume = volume(&disk);
            let mut log = Log::begin(&volume, shape(1), None, 0).unwrap();
            (1..n).for_each(|n| append(&mut log, n, &Alone::default()).unwrap());
            let before = log.position().log;
            disk.fail_nth(Call::SyncData, 1, Fault::Error(EIO));
            assert!(!append(&mut log, n, &Alone::default()).unwrap_err().is_indeterminate());
            let after = log.position().log;
            if after == before {
                // A blank log could not be made: nothing of the record was written.
                continue;
            }
            voided += 1;
            volume.remove(&layout::log(after.generation, after.sequence)).unwrap();
            assert!(found(&volume).2, "{n}");
        }
        assert!(voided > 5, "{voided}");
    }

    #[test]
    fn writer_that_lost_the_store_while_it_made_a_record_void_gives_nothing_back() {
        let (disk, owner) = (SimDisk::new(), Alone::default());
        let volume = volume(&disk);
        let mut log = Log::begin(&volume, shape(1), None, 0).unwrap();
        append(&mut log, 1, &owner).unwrap();
        owner.fenced.set(true);
        disk.fail_nth(Call::SyncData, 1, Fault::Error(EIO));
        assert!(append(&mut log, 2, &owner).unwrap_err().is_indeterminate());
    }

    #[test]
    fn loss_of_any_log_that_has_records_is_noticed_at_any_time() {
        let mut losses = 0;
        for (last, refill) in (2..40).flat_map(|last| [(last, 3), (last, 1000)]) {
            for nth in 0.. {
                let disk = SimDisk::new();
                assert!(write_and_refill(&volume(&disk), 1, None, 1..last, refill).void.is_empty());
                let volume = volume(&disk.cut_power(Survival::Nothing));
                let Some(part) = chain(&find::logs(&volume, STORE).unwrap()).parts.get(nth).copied() else { break };
                volume.remove(&layout::log(part.log.generation, part.log.sequence)).unwrap();
                assert!(found(&volume).2, "{last}: {:?}", part.log);
                losses += 1;
            }
        }
        assert!(losses > 100, "{losses}");
    }

    #[test]
    fn log_that_cannot_be_read_once_is_looked_at_again() {
        let disk = SimDisk::new();
        let told = write(&volume(&disk), 1, None, 1..12);
        for (call, nth) in (1..5).flat_map(|nth| [(Call::Open, nth), (Call::ReadAt, nth)]) {
            let volume = volume(&disk);
            disk.fail_nth(call, nth, Fault::Error(EIO));
            let (ids, _, damaged) = found(&volume);
            assert_eq!((ids, damaged), (told.there.clone(), false), "{call:?} {nth}");
            disk.heal();
        }
    }

    #[test]
    fn second_opener_of_one_generation_is_fenced() {
        let disk = SimDisk::new();
        let volume = volume(&disk);
        let _log = Log::begin(&volume, shape(1), None, 0).unwrap();
        assert!(Log::begin(&volume, shape(1), None, 0).unwrap_err().is_fenced());
    }

    #[test]
    fn record_that_fits_into_no_blank_log_gets_its_own() {
        let (disk, owner) = (SimDisk::new(), Alone::default());
        let first = volume(&disk);
        let mut log = Log::begin(&first, shape(1), None, 0).unwrap();
        for n in 1..5 {
            let record = record_of(n, if n % 2 == 0 { 5 * usize::try_from(HALF).unwrap() } else { 0 });
            log.append(&Entry { record: &record, urgency: Urgency::Ordinary }, &owner).unwrap();
        }
        let (ids, _, damaged) = found(&volume(&disk.cut_power(Survival::Nothing)));
        assert_eq!((ids, damaged), (vec![1, 2, 3, 4], false));
    }

    #[test]
    fn id_far_above_all_others_is_reserved_durably_before_it_is_used() {
        let (disk, owner) = (SimDisk::new(), Alone::default());
        let volume = volume(&disk);
        let mut log = Log::begin(&volume, shape(1), None, 0).unwrap();
        append(&mut log, 1, &owner).unwrap();
        assert!(log.blanks().reserves(1000));
        let made = disk.count(Call::CreateTemp);
        log.use_id(1000).unwrap();
        assert_eq!(disk.count(Call::CreateTemp), made);
        log.use_id(1 << 40).unwrap();
        assert!(log.blanks().reserves((1 << 40) + 1000));
        assert_eq!(disk.count(Call::CreateTemp), made + 1);
    }
}
