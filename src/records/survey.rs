//! All that the files in `manifests/` say, taken together.

use std::path::PathBuf;

use super::{
    base,
    chain::{self, Chain, Logs},
    find,
    history::History,
    image::Image,
    redone::Redone,
    replay::{Last, Replayed, replay},
};
use crate::{
    disk::{layout, volume::Volume},
    error::{Error, Malformed, Result},
    format::log::{LogId, Position},
    id::StoreId,
};

const OPERATION: &str = "read the manifest log";
/// How often the logs are read anew, at most, because there were others afterwards.
const MOST_READS: u32 = 100;

/// The files, read.
#[derive(Debug)]
pub(crate) struct Survey {
    store: StoreId,
    logs: Logs,
    chain: Chain,
    bases: Vec<base::Found>,
    /// Bases without a header.
    bad_bases: Vec<base::Name>,
}

/// What they say.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) history: History,
    /// Behind the last record; `None` if there are neither records nor a base.
    pub(crate) end: Option<Position>,
    pub(super) last: Option<Last<'a>>,
    /// The files that it was read from.
    pub(super) read: Vec<PathBuf>,
    /// States whose segments were not synced when their checkpoints were committed.
    pub(crate) redone: Vec<Redone<'a>>,
    /// Which files are gone for good.
    pub(crate) missing: Vec<Error>,
    /// Which records are gone for good, in files that are there.
    pub(crate) lost: Vec<Error>,
    /// What is damaged and there once more.
    pub(crate) healed: Vec<Error>,
    /// Whether something is there once that should be there twice: a new base mends that.
    pub(crate) needs_base: bool,
    /// How many bytes of content the base has.
    pub(super) base_len: u64,
    /// How many bytes of records follow it, in so many logs.
    pub(super) since_base: u64,
    pub(super) logs: usize,
}

impl Told<'_> {
    /// Fails if a file is gone for good, unless that is accepted.
    pub(crate) fn check_complete(&self, accepts_loss: bool) -> Result<()> {
        self.missing.first().filter(|_| !accepts_loss).cloned().map_or(Ok(()), Err)
    }

    /// Whether nothing follows, as far as a glance tells.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn is_all(&self, volume: &Volume) -> Result<bool> {
        find::nothing_follows(volume, self.end.as_ref())
    }

    /// What is gone for good.
    pub(crate) fn gone(&self) -> impl Iterator<Item = &Error> {
        self.missing.iter().chain(&self.lost)
    }
}

impl Survey {
    /// Reads everything.
    ///
    /// # Errors
    ///
    /// `is_newer_format` if a newer version wrote a file. Errors that say nothing of the files.
    pub(crate) fn read(volume: &Volume, store: StoreId) -> Result<Self> {
        let logs = find::logs(volume, store)?;
        let (bases, bad_bases) = base::find(volume, store)?;
        let chain = chain::chain(&logs);
        Ok(Self { store, logs, chain, bases, bad_bases })
    }

    /// Reads everything, again while the set of logs changes meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub(crate) fn read_steady(volume: &Volume, store: StoreId) -> Result<Self> {
        let mut survey = Self::read(volume, store)?;
        for _ in 0..MOST_READS {
            if survey.has_logs(&find::names(volume)?) {
                break;
            }
            survey = Self::read(volume, store)?;
        }
        Ok(survey)
    }

    /// The logs that count, oldest first.
    pub(super) fn parts(&self) -> impl Iterator<Item = &chain::Part> {
        self.chain.parts.iter()
    }

    pub(super) fn image(&self, log: LogId) -> Option<&Image> {
        self.logs.get(&log)?.as_ref()
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.logs.is_empty() && self.bases.is_empty() && self.bad_bases.is_empty()
    }

    /// The highest generation that any file is of.
    pub(crate) fn newest_generation(&self) -> u64 {
        let logs = self.logs.keys().map(|log| log.generation);
        logs.chain(self.bases.iter().map(|base| base.header.generation)).max().unwrap_or_default()
    }

    /// The store that the files belong to, whatever store that is; `None` if there is none with a header.
    ///
    /// # Errors
    ///
    /// `is_newer_format` if a newer version wrote one of them. Errors that say nothing of the files.
    pub(crate) fn store_of_files(volume: &Volume) -> Result<Option<StoreId>> {
        let of_base = base::store_of_bases(volume)?;
        Ok(find::store_of_logs(volume)?.or(of_base))
    }

    /// Puts together what the files say, of a store that must have some, or that may be new.
    ///
    /// # Errors
    ///
    /// `is_newer_format` if there is a record of a kind that this version does not know. Those that say nothing of the
    /// files.
    pub(crate) fn tell(&self, volume: &Volume, must_exist: bool) -> Result<Told<'_>> {
        let mut told = Told {
            history: History::new(self.store),
            end: None,
            last: None,
            read: Vec::new(),
            redone: Vec::new(),
            missing: Vec::new(),
            lost: Vec::new(),
            healed: Vec::new(),
            needs_base: false,
            base_len: 0,
            since_base: 0,
            logs: self.chain.parts.len(),
        };
        let headless = |at: &base::Name| at_base(volume, *at, Malformed::new(0, "base and copy have no header"));
        let mut bad = self.bad_bases.iter().map(headless).collect();
        let base = self.load_base(volume, &mut told, &mut bad)?;
        if self.is_empty() && !must_exist || self.chain.is_whole_after(base.as_ref()) {
            // An older base and the logs behind it say the same.
            told.healed.append(&mut bad);
        } else {
            told.missing.append(&mut bad);
            told.missing.extend(self.missing(volume, base));
        }
        let replayed = replay(&mut told.history, &self.logs, &self.chain, base);
        for log in self.logs.values().flatten().filter(|log| !log.header_is_twice()) {
            told.healed.push(at_log(volume, log.header().id, Malformed::new(0, "one of two headers is damaged")));
        }
        told.end = base;
        if let Some(Replayed { end, last, lost, healed, redone }) = replayed {
            told.end = Some(end);
            (told.last, told.redone) = (last, redone);
            told.lost.extend(lost.into_iter().map(|lost| at_log(volume, lost.log, lost.why)));
            told.healed.extend(healed.into_iter().map(|(log, number)| {
                at_log(volume, log, Malformed::new(0, format!("record {number} is damaged in one of two halves")))
            }));
        }
        let last = self.chain.parts.last().and_then(|part| self.logs.get(&part.log)?.as_ref());
        if let Some(cut) = last.filter(|log| log.is_cut()) {
            let what = "the file is cut short, and records at its end may be gone: bring it back, or open the store with \
                        Options::accept_loss(true)";
            told.missing.push(at_log(volume, cut.header().id, Malformed::new(0, what)));
        }
        if let Some(newer) = told.lost.iter().find(|error| error.is_newer_format()) {
            return Err(newer.clone());
        }
        if told.gone().next().is_some() {
            // What is gone may have used any id up to this one.
            told.history.raise_floor(self.reserved_ids());
        }
        let counted = self.chain.parts.iter().filter(|part| base.is_none_or(|base| part.log >= base.log));
        told.read.extend(counted.map(|part| layout::log(part.log.generation, part.log.sequence)));
        told.since_base = self.since(base, told.end);
        told.needs_base |= !told.healed.is_empty();
        Ok(told)
    }

    /// Whether these are the logs that were read.
    fn has_logs(&self, names: &[(LogId, bool)]) -> bool {
        names.len() == self.logs.len() && names.iter().all(|(log, _)| self.logs.contains_key(log))
    }

    fn reserved_ids(&self) -> u64 {
        let logs = self.logs.values().flatten().map(|log| log.header().reserved_ids);
        logs.chain(self.bases.iter().map(|base| base.header.reserved_ids)).max().unwrap_or_default()
    }

    /// How many bytes of the logs that count lie between these two places.
    fn since(&self, base: Option<Position>, end: Option<Position>) -> u64 {
        let of_log = |part: &chain::Part| {
            let from = base.filter(|base| base.log == part.log).map_or(0, |base| base.offset);
            let to = part.end.or(end.filter(|end| end.log == part.log).map(|end| end.offset));
            to.unwrap_or(from).saturating_sub(from)
        };
        let follows = |part: &&chain::Part| base.is_none_or(|base| part.log >= base.log);
        self.chain.parts.iter().filter(follows).map(of_log).sum()
    }

    /// The logs of earlier generations that do not count, and never will: the caller has begun a later one.
    pub(crate) fn superfluous(&self) -> impl Iterator<Item = LogId> {
        let counts = |log: &LogId| self.chain.parts.iter().any(|part| part.log == *log);
        self.logs.keys().copied().filter(move |log| !counts(log))
    }

    /// Loads the newest base that counts and is whole; returns where the log goes on from it.
    fn load_base(&self, volume: &Volume, told: &mut Told<'_>, bad: &mut Vec<Error>) -> Result<Option<Position>> {
        for found in self.bases.iter().filter(|base| self.chain.admits(&self.logs, &base.position())) {
            let at = |what: Malformed| at_base(volume, (found.header.generation, found.header.sequence), what);
            match found.load()? {
                Ok(loaded) => {
                    told.needs_base |= loaded.once > 0 || !found.has_copy();
                    if loaded.once > 0 {
                        let what = format!("{} blocks of the base or of its copy are damaged", loaded.once);
                        told.healed.push(at(Malformed::new(0, what)));
                    }
                    (told.history, told.base_len) = (loaded.history, loaded.len);
                    told.read = found.names();
                    return Ok(Some(found.position()));
                }
                Err(malformed) if malformed.newer.is_some() => return Err(at(malformed)),
                Err(malformed) => bad.push(at(malformed)),
            }
        }
        Ok(None)
    }

    /// Which logs are not there, in words.
    fn missing(&self, volume: &Volume, base: Option<Position>) -> Vec<Error> {
        let what = "the log is missing, or both of its headers or its first record are damaged: bring it back, or open the \
                    store with Options::accept_loss(true)";
        let lost = self.chain.lost.iter().copied().chain(self.chain.missing(base.as_ref()));
        let lost = lost.filter(|log| log.generation > 0);
        let mut missing: Vec<_> = lost.map(|log| at_log(volume, log, Malformed::new(0, what))).collect();
        if missing.is_empty() && self.chain.from.is_some_and(|from| from.is_before_all()) {
            let what = "the base of the export that this store was is missing: bring it back, or open the store with \
                        Options::accept_loss(true)";
            missing.push(Malformed::new(0, what).at(OPERATION, &volume.path(layout::MANIFESTS)));
        }
        if missing.is_empty() {
            let what = "the logs are missing: bring them back, or open the store with Options::accept_loss(true)";
            missing.push(Malformed::new(0, what).at(OPERATION, &volume.path(layout::MANIFESTS)));
        }
        missing
    }
}

fn at_base(volume: &Volume, (generation, sequence): base::Name, malformed: Malformed) -> Error {
    malformed.at(OPERATION, &volume.path(layout::base(generation, sequence)))
}

fn at_log(volume: &Volume, log: LogId, malformed: Malformed) -> Error {
    malformed.at(OPERATION, &volume.path(layout::log(log.generation, log.sequence)))
}

#[cfg(feature = "testing")]
#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        disk::{FileKind, sim::SimDisk},
        format::record::{self, Against},
        handle::StateHandle,
        id::CheckpointId,
        manifest::{Manifest, ManifestContent, Origins},
        records::{
            adopt,
            blank::{Entry, Urgency},
            blanks::Shape,
            log::{Log, Owner, tests::volume},
        },
        testing::{Call, Fault, Survival},
    };

    const STORE: StoreId = StoreId([1; 16]);
    const HALF: u64 = 64 * 1024;
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;

    struct Alone;

    impl Owner for Alone {
        fn check(&self) -> Result<()> {
            Ok(())
        }

        fn may_void(&self) -> Result<()> {
            Ok(())
        }
    }

    /// The checkpoints that a history has, by id.
    type Contents = BTreeMap<u64, Option<ManifestContent>>;

    fn contents(history: &History) -> Contents {
        history.kept().map(|kept| (kept.id.get(), kept.content().ok())).collect()
    }

    /// A writer of one generation, as far as its records go.
    struct Writer {
        volume: Arc<Volume>,
        log: Log,
        history: History,
    }

    impl Writer {
        /// Takes over what is there.
        fn open(volume: &Arc<Volume>) -> Result<Self> {
            let survey = Survey::read(volume, STORE)?;
            let told = survey.tell(volume, false)?;
            if let Some(lost) = told.gone().next() {
                return Err(lost.clone());
            }
            if let Some(last) = &told.last {
                adopt::make_sure(volume, last)?;
            }
            let shape =
                Shape { store: STORE, generation: survey.newest_generation() + 1, half: HALF, first_half: HALF };
            let log = Log::begin(volume, shape, told.end, told.history.id_floor())?;
            Ok(Self { volume: Arc::clone(volume), log, history: told.history })
        }

        fn next(&self) -> u64 {
            self.history.id_floor() + 1
        }

        /// Commits a checkpoint that goes on from the newest one, and gives up the oldest of four.
        fn commit(&mut self, n: u64) -> Result<()> {
            let id = CheckpointId::new(n).unwrap();
            let newest = self.history.kept().last();
            let before = newest.map(|kept| (kept.id, kept.content().unwrap()));
            let mut content = before.as_ref().map_or_else(ManifestContent::default, |(_, content)| content.clone());
            (content.epoch, content.vnode_count) = (Some(n), Some(256));
            content.states.insert("newest".into(), StateHandle::inline(&n.to_le_bytes()));
            content.states.insert(format!("state-{}", n % 7).into(), StateHandle::inline(&[7; 300]));
            let gone: Vec<_> = self.history.kept().take(self.history.kept().count().saturating_sub(3)).collect();
            let gone: Vec<_> = gone.into_iter().map(|kept| kept.id).collect();
            let manifest = Manifest { store: STORE, id, generation: 1, origins: Origins::new(), content };
            let against = Against(before.as_ref().map(|(id, content)| (*id, content)));
            let record = record::checkpoint(&manifest, record::Marks::default(), against, &gone, &[]).unwrap();
            self.append(&record)
        }

        fn append(&mut self, record: &[u8]) -> Result<()> {
            self.log.append(&Entry { record, urgency: Urgency::Ordinary }, &Alone)?;
            self.history.apply(record).unwrap();
            Ok(())
        }

        fn write_base(&mut self) -> Result<()> {
            let header = self.log.next_base(self.log.position(), self.history.id_floor())?;
            base::write(&self.volume, &header, &self.history, &Alone).map(drop)
        }
    }

    /// What was acknowledged: the checkpoints after each step, the last of them in doubt.
    struct Run {
        certain: Contents,
        possible: Vec<Contents>,
    }

    /// Opens and commits this many checkpoints, with a base after each five. Ends with the first unknown outcome.
    fn run(volume: &Arc<Volume>, before: Contents, commits: u64) -> (Run, bool) {
        let mut run = Run { certain: before, possible: Vec::new() };
        let Ok(mut writer) = Writer::open(volume) else { return (run, false) };
        for n in 0..commits {
            let mut then = writer.history.clone();
            let outcome = writer.commit(writer.next());
            match outcome {
                Ok(()) => run.certain = contents(&writer.history),
                Err(error) if error.is_indeterminate() => {
                    // What the record would have made of it.
                    let mut other = Writer { volume: Arc::clone(volume), log: writer.log, history: then.clone() };
                    let id = other.next();
                    then = after_commit(&mut other, id);
                    run.possible.push(contents(&then));
                    return (run, false);
                }
                Err(_) if volume.is_poisoned() => return (run, false),
                Err(_) => {}
            }
            if n % 5 == 4 {
                let _ = writer.write_base();
            }
            if n % 3 == 2 {
                let _ = writer.log.blanks().refill();
            }
        }
        (run, true)
    }

    /// The history as a commit would leave it, without a disk.
    fn after_commit(writer: &mut Writer, n: u64) -> History {
        let disk = SimDisk::new();
        let volume = volume(&disk);
        let shape = Shape { store: STORE, generation: 1, half: HALF, first_half: HALF };
        let log = Log::begin(&volume, shape, None, 0).unwrap();
        let mut other = Writer { volume, log, history: writer.history.clone() };
        other.commit(n).unwrap();
        other.history
    }

    fn check(run: &Run, volume: &Volume, at: &str) -> Contents {
        let survey = Survey::read(volume, STORE).unwrap();
        let told = survey.tell(volume, false).unwrap();
        assert_eq!(told.gone().count(), 0, "{at}: {:?} {:?}", told.missing, told.lost);
        assert!(told.healed.is_empty(), "{at}: {:?}", told.healed);
        let found = contents(&told.history);
        assert!(found == run.certain || run.possible.contains(&found), "{at}: {:?}", found.keys());
        found
    }

    const SURVIVALS: [Survival; 4] =
        [Survival::Nothing, Survival::Everything, Survival::Random(1), Survival::Random(2)];

    #[test]
    fn power_cut_at_any_call_loses_nothing_while_bases_are_written_and_logs_removed() {
        let calls = {
            let disk = SimDisk::new();
            assert!(run(&volume(&disk), Contents::new(), 30).1);
            disk.calls()
        };
        for call in 1..=calls {
            for survival in SURVIVALS {
                let disk = SimDisk::new();
                let first = volume(&disk);
                disk.fail(call.max(disk.calls() + 1), Fault::PowerCut);
                let (told, _) = run(&first, Contents::new(), 30);
                let disk = disk.cut_power(survival);
                let second = volume(&disk);
                let at = format!("call {call}, {survival:?}");
                let found = check(&told, &second, &at);
                let (again, whole) = run(&second, found, 7);
                assert!(whole, "{at}");
                check(&again, &volume(&disk.cut_power(Survival::Nothing)), &at);
            }
        }
    }

    #[test]
    fn failing_call_loses_nothing_while_bases_are_written_and_logs_removed() {
        let calls = {
            let disk = SimDisk::new();
            run(&volume(&disk), Contents::new(), 30);
            disk.calls()
        };
        for call in 1..=calls {
            for fault in [Fault::Error(EIO), Fault::ErrorAfter(EIO), Fault::Error(ENOSPC)] {
                for survival in [Survival::Everything, Survival::Nothing, Survival::Random(call)] {
                    let disk = SimDisk::new();
                    let first = volume(&disk);
                    disk.fail(call.max(disk.calls() + 1), fault);
                    let (told, _) = run(&first, Contents::new(), 30);
                    let at = format!("call {call}, {fault:?}, {survival:?}");
                    check(&told, &volume(&disk.cut_power(survival)), &at);
                }
            }
        }
    }

    /// A store with a base, logs before and behind it, and what is in it.
    fn example() -> (SimDisk, Contents) {
        let disk = SimDisk::new();
        let volume = volume(&disk);
        let (told, whole) = run(&volume, Contents::new(), 28);
        assert!(whole);
        (disk.cut_power(Survival::Nothing), told.certain)
    }

    fn files(volume: &Volume) -> Vec<(PathBuf, u64)> {
        let entries = volume.list(layout::MANIFESTS).unwrap().into_iter();
        let files = entries.filter(|entry| entry.metadata.kind == FileKind::File);
        files.map(|entry| (std::path::Path::new(layout::MANIFESTS).join(&entry.name), entry.metadata.len)).collect()
    }

    #[test]
    fn one_damaged_sector_or_block_of_any_file_loses_nothing_and_is_said_where_it_matters() {
        let (disk, expected) = example();
        let (mut damaged, mut healed) = (0, 0);
        for (name, len) in files(&volume(&disk)) {
            for (size, at) in [512, 4096].into_iter().flat_map(|size| (0..len).step_by(size).map(move |at| (size, at)))
            {
                let volume = volume(&disk);
                let file = volume.open_writable(&name).unwrap();
                let size = (size as u64).min(len - at);
                let before = file.read(at, size).unwrap();
                if before.iter().all(|byte| *byte == 0) {
                    continue;
                }
                for bytes in [vec![0; before.len()], before.iter().map(|byte| byte ^ 0x41).collect()] {
                    file.write_all_at(&bytes, at).unwrap();
                    let survey = Survey::read(&volume, STORE).unwrap();
                    let told = survey.tell(&volume, false).unwrap();
                    assert_eq!(told.gone().count(), 0, "{} at {at}: {:?}", name.display(), told.missing);
                    assert_eq!(contents(&told.history), expected, "{} at {at}", name.display());
                    damaged += 1;
                    healed += usize::from(!told.healed.is_empty());
                }
                file.write_all_at(&before, at).unwrap();
            }
        }
        assert!(damaged > 50 && healed > 20, "{damaged} {healed}");
    }

    #[test]
    fn base_or_copy_that_is_missing_loses_nothing_and_a_log_that_is_missing_is_noticed() {
        let (_, expected) = example();
        let ((example_disk, _), mut noticed) = (example(), 0);
        for (name, _) in files(&volume(&example_disk)) {
            let (disk, _) = example();
            let volume = volume(&disk);
            volume.remove(&name).unwrap();
            let survey = Survey::read(&volume, STORE).unwrap();
            let told = survey.tell(&volume, false).unwrap();
            if told.missing.is_empty() {
                assert_eq!(contents(&told.history), expected, "{}", name.display());
                continue;
            }
            assert!(name.extension().is_some_and(|extension| extension == "log"), "{}", name.display());
            assert!(told.history.id_floor() >= 1 << 20, "ids of a lost log do not come back");
            assert!(told.history.kept().count() > 0, "{}: what is in the base is there", name.display());
            noticed += 1;
        }
        assert!(noticed > 0);
    }

    #[test]
    fn store_without_any_file_is_empty_and_one_with_any_is_not() {
        let survey = |volume: &Volume| Survey::read(volume, STORE).unwrap();
        let empty = volume(&SimDisk::new());
        assert!(survey(&empty).is_empty() && survey(&empty).tell(&empty, false).unwrap().missing.is_empty());
        assert!(!survey(&empty).tell(&empty, true).unwrap().missing.is_empty());
        let names: Vec<_> = files(&volume(&example().0)).into_iter().map(|(name, _)| name).collect();
        for kept in &names {
            let (disk, _) = example();
            let volume = volume(&disk);
            names.iter().filter(|name| *name != kept).for_each(|name| volume.remove(name).unwrap());
            let survey = survey(&volume);
            assert!(!survey.is_empty(), "{}", kept.display());
            let missing = survey.tell(&volume, false).unwrap().missing;
            assert!(!missing.is_empty(), "{}", kept.display());
        }
    }

    #[test]
    fn base_without_any_header_is_said_and_costs_nothing_while_its_logs_are_there() {
        let disk = SimDisk::new();
        let first = volume(&disk);
        let mut writer = Writer::open(&first).unwrap();
        writer.commit(1).unwrap();
        writer.write_base().unwrap();
        writer.commit(2).unwrap();
        for name in [layout::base(1, 1), layout::base_copy(1, 1)] {
            first.open_writable(name).unwrap().write_all_at(&[0; 512], 0).unwrap();
        }
        let survey = Survey::read(&first, STORE).unwrap();
        let told = survey.tell(&first, false).unwrap();
        assert_eq!(contents(&told.history), contents(&writer.history));
        assert!(told.gone().next().is_none() && told.healed.len() == 1 && told.needs_base, "{:?}", told.healed);
    }

    #[test]
    fn base_that_failed_half_way_is_written_under_another_name_and_mixes_with_no_other() {
        for nth in 1..40 {
            let disk = SimDisk::new();
            let first = volume(&disk);
            let mut writer = Writer::open(&first).unwrap();
            writer.commit(1).unwrap();
            disk.fail_nth(Call::RenameNew, nth, Fault::Error(EIO));
            let failed = writer.write_base().is_err();
            writer.commit(2).unwrap();
            disk.heal();
            writer.write_base().unwrap();
            writer.commit(3).unwrap();
            let expected = contents(&writer.history);
            let run = Run { certain: expected, possible: Vec::new() };
            check(&run, &volume(&disk.cut_power(Survival::Nothing)), &format!("{nth}"));
            if !failed {
                break;
            }
        }
    }
}
