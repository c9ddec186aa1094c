//! What the records of a store say, one after the other: which checkpoints there are, and what they consist of. Pure.

use std::collections::BTreeMap;

use crate::{
    error::Malformed,
    format::{
        record::{self, Against, Changeable, Marks, Published, Record, RolledBack, Unknown, Updated},
        source::Source,
    },
    handle::StateHandle,
    id::{CheckpointId, LAST, StoreId},
    manifest::{Manifest, ManifestContent, Origins},
};

type Parsed<T> = Result<T, Malformed>;

/// The checkpoints of a store after some record.
#[derive(Clone, Debug)]
pub(crate) struct History {
    store: StoreId,
    /// In the order in which they were published.
    kept: BTreeMap<u64, Kept>,
    /// The places of the kept checkpoints.
    places: BTreeMap<CheckpointId, u64>,
    published: u64,
    rolled_back: RolledBack,
    /// Every id up to this one was used.
    id_floor: u64,
    /// Of the files that any kept checkpoint ever named.
    origins: Origins,
    /// The stores that are to go, by the checkpoints that are taken over from them.
    departing: BTreeMap<CheckpointId, Source>,
}

/// A checkpoint that was published and not forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: CheckpointId,
    /// The generation that published it.
    pub(crate) generation: u64,
    pub(crate) marks: Marks,
    /// The content as it was published, or why it is not known. Later checkpoints are recorded by their differences from it,
    /// so that no change of it matters to them.
    pub(crate) published: Parsed<ManifestContent>,
    /// What was changed of that since.
    changed: Option<Changeable>,
}

impl Kept {
    /// What the checkpoint consists of now.
    pub(crate) fn content(&self) -> Parsed<ManifestContent> {
        let mut content = self.published.clone()?;
        if let Some(changed) = &self.changed {
            changed.clone().apply(&mut content);
        }
        Ok(content)
    }
}

impl History {
    /// Of a store without records.
    pub(crate) fn new(store: StoreId) -> Self {
        let (kept, places, rolled_back, origins, departing) = Default::default();
        Self { store, kept, places, published: 0, rolled_back, id_floor: 0, origins, departing }
    }

    /// Applies the next record. After an error the record is lost: nothing has changed, but that a checkpoint whose content
    /// makes no sense is there without it.
    pub(crate) fn apply(&mut self, record: &[u8]) -> Parsed<()> {
        self.apply_decoded(record::decode(record)?)
    }

    /// The same for a record that was read.
    pub(super) fn apply_decoded(&mut self, record: Record<'_>) -> Parsed<()> {
        match record {
            Record::Checkpoint(published) => self.publish(&published),
            Record::Forgotten(ids) => {
                drop(self.forget(&ids));
                Ok(())
            }
            Record::Updated(update) => self.update(&update),
            Record::RolledBack(ranges) => {
                self.rolled_back = ranges;
                Ok(())
            }
            Record::Lost(Unknown { id, generation, pinned }) => {
                let marks = Marks { pinned, unsynced: false };
                self.insert(Kept { id, generation, marks, published: Err(lost()), changed: None })
            }
            Record::IdsUsed(id) => {
                self.raise_floor(id);
                Ok(())
            }
            Record::Departing(source) => {
                self.departing.insert(source.ours.1, source);
                Ok(())
            }
            Record::Departed(id) => {
                self.departing.remove(&id);
                Ok(())
            }
        }
    }

    /// The stores that are to go, and the checkpoints that are taken over from them.
    pub(crate) fn departing(&self) -> &BTreeMap<CheckpointId, Source> {
        &self.departing
    }

    /// What [`apply`](Self::apply) does with the record of this checkpoint, which shares its content with others.
    pub(crate) fn note_published(&mut self, manifest: &Manifest, marks: Marks) -> Parsed<()> {
        let Manifest { id, generation, origins, content, .. } = manifest.clone();
        self.insert(Kept { id, generation, marks, published: Ok(content), changed: None })?;
        self.origins.extend(origins);
        Ok(())
    }

    /// Notes of every checkpoint whether its states are durable.
    pub(crate) fn note_durable(&mut self, is_durable: bool) {
        self.kept.values_mut().for_each(|kept| kept.marks.unsynced = !is_durable);
    }

    /// The checkpoint that the next one is recorded by its differences from: the last one of which everything is known.
    pub(crate) fn against(&self) -> Option<(CheckpointId, ManifestContent)> {
        let mut newest = self.kept.values().rev();
        newest.find_map(|kept| Some((kept.id, kept.published.clone().ok()?)))
    }

    /// Remembers that every id up to this one was used.
    pub(crate) fn raise_floor(&mut self, id: u64) {
        self.id_floor = self.id_floor.max(id.min(LAST));
    }

    pub(crate) fn id_floor(&self) -> u64 {
        self.id_floor
    }

    pub(crate) fn rolled_back(&self) -> &RolledBack {
        &self.rolled_back
    }

    /// The kept checkpoints, in the order in which they were published.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.kept.values()
    }

    pub(crate) fn get(&self, id: CheckpointId) -> Option<&Kept> {
        self.kept.get(self.places.get(&id)?)
    }

    /// A kept checkpoint as it is now.
    pub(crate) fn manifest(&self, kept: &Kept) -> Parsed<Manifest> {
        Ok(self.with_content(kept, kept.content()?))
    }

    /// A kept checkpoint as it was published.
    pub(crate) fn published(&self, kept: &Kept) -> Parsed<Manifest> {
        Ok(self.with_content(kept, kept.published.clone()?))
    }

    /// With the origins of the files that it names.
    fn with_content(&self, kept: &Kept, content: ManifestContent) -> Manifest {
        let mut origins = Origins::new();
        if !self.origins.is_empty() {
            let files = content.handles().filter_map(StateHandle::extent).map(|extent| extent.file);
            origins = files.filter_map(|file| Some((file, self.origins.get(&file)?.clone()))).collect();
        }
        Manifest { store: self.store, id: kept.id, generation: kept.generation, origins, content }
    }

    /// Records that lead to the same history from none: those of a base. `None` if a checkpoint is in more than 2^32 files.
    pub(crate) fn records(&self) -> impl Iterator<Item = Option<Vec<u8>>> {
        let mut before: Option<&Kept> = None;
        let kept = self.kept.values().flat_map(move |kept| {
            let Kept { id, generation, marks, .. } = *kept;
            let pinned = marks.pinned;
            let Ok(manifest) = self.published(kept) else {
                return [Some(Some(record::lost(Unknown { id, generation, pinned }))), None];
            };
            let against = before.and_then(|before| Some((before.id, before.published.as_ref().ok()?)));
            before = Some(kept);
            let changed = kept.changed.as_ref();
            let changed = changed.map(|changed| Some(record::updated(id, pinned, &manifest.content, changed)));
            [Some(record::checkpoint(&manifest, marks, Against(against), &[], &[])), changed]
        });
        let rolled_back = (!self.rolled_back.is_empty()).then(|| Some(record::rolled_back(&self.rolled_back)));
        let departing = self.departing.values().map(|source| Some(record::departing(source)));
        kept.flatten().chain(rolled_back).chain(departing)
    }

    fn publish(&mut self, published: &Published<'_>) -> Parsed<()> {
        let older = self.content_against(published.against);
        let read = older.clone().and_then(|older| published.content(self.store, &older));
        let (content, origins) = match read {
            Ok((content, origins)) => (Ok(content), origins),
            Err(error) => (Err(error), Origins::new()),
        };
        // Where the older one is lost, that was told.
        let makes_no_sense = content.as_ref().err().filter(|_| older.is_ok()).cloned();
        let Published { id, marks, .. } = *published;
        self.insert(Kept { id, generation: published.generation(), marks, published: content, changed: None })?;
        self.origins.extend(origins);
        drop(self.forget(&published.forgotten));
        makes_no_sense.map_or(Ok(()), Err)
    }

    fn content_against(&self, id: Option<CheckpointId>) -> Parsed<ManifestContent> {
        let Some(id) = id else { return Ok(ManifestContent::default()) };
        let unknown =
            || Malformed::new(0, format!("it is known only by what differs from checkpoint {id}, which is lost"));
        self.get(id).and_then(|kept| kept.published.clone().ok()).ok_or_else(unknown)
    }

    fn insert(&mut self, kept: Kept) -> Parsed<()> {
        if self.places.contains_key(&kept.id) {
            return Err(Malformed::new(0, format!("checkpoint {} is there already", kept.id)));
        }
        self.raise_floor(kept.id.get());
        self.places.insert(kept.id, self.published);
        self.kept.insert(self.published, kept);
        self.published += 1;
        Ok(())
    }

    /// Takes checkpoints out. One that is not there may have been in a record that is lost.
    pub(crate) fn forget(&mut self, ids: &[CheckpointId]) -> Vec<Kept> {
        let places: Vec<_> = ids.iter().filter_map(|id| self.places.remove(id)).collect();
        places.iter().filter_map(|place| self.kept.remove(place)).collect()
    }

    fn update(&mut self, update: &Updated<'_>) -> Parsed<()> {
        let gone = || Malformed::new(0, format!("checkpoint {} was updated and is not there", update.id));
        let kept = self.places.get(&update.id).and_then(|place| self.kept.get_mut(place)).ok_or_else(gone)?;
        if let Ok(published) = &kept.published {
            kept.changed = Some(update.changeable(published)?);
        }
        kept.marks.pinned = update.pinned;
        Ok(())
    }
}

fn lost() -> Malformed {
    Malformed::new(0, "the record of this checkpoint was lost")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    fn id(n: u64) -> CheckpointId {
        CheckpointId::new(n).unwrap()
    }

    fn content(states: &[(&str, &[u8])]) -> ManifestContent {
        let states = states.iter().map(|(name, bytes)| ((*name).into(), StateHandle::inline(bytes))).collect();
        ManifestContent { epoch: Some(1), vnode_count: Some(256), states, ..ManifestContent::default() }
    }

    fn checkpoint(
        n: u64,
        content: &ManifestContent,
        against: Option<(u64, &ManifestContent)>,
        gone: &[u64],
    ) -> Vec<u8> {
        let manifest =
            Manifest { store: STORE, id: id(n), generation: 1, origins: Origins::new(), content: content.clone() };
        let gone: Vec<_> = gone.iter().map(|n| id(*n)).collect();
        record::checkpoint(
            &manifest,
            Marks::default(),
            Against(against.map(|(n, content)| (id(n), content))),
            &gone,
            &[],
        )
        .unwrap()
    }

    fn source(n: u64) -> Source {
        let (ours, theirs) = ((STORE, id(n)), (StoreId([2; 16]), id(1)));
        Source { ours, generation: 1, theirs, root: "/theirs".into() }
    }

    fn ids(history: &History) -> Vec<u64> {
        history.kept().map(|kept| kept.id.get()).collect()
    }

    /// Three checkpoints, the last of them published out of order; one update, one roll-back, one that retention took.
    fn example() -> (History, ManifestContent) {
        let (one, two, three) = (
            content(&[("a", b"1"), ("b", b"1")]),
            content(&[("a", b"2"), ("b", b"1")]),
            content(&[("a", b"2"), ("c", b"3")]),
        );
        let mut pinned = two.clone();
        pinned.metadata.insert("k".into(), b"v"[..].into());
        let mut history = History::new(STORE);
        for record in [
            checkpoint(5, &one, None, &[]),
            checkpoint(9, &two, Some((5, &one)), &[]),
            checkpoint(7, &three, Some((9, &two)), &[5]),
            record::updated(id(9), true, &two, &Changeable::of(&pinned)),
            record::rolled_back(&vec![(7, 9)]),
            record::ids_used(11),
            record::departing(&source(7)),
            record::departing(&source(9)),
            record::departed(id(9)),
        ] {
            history.apply(&record).unwrap();
        }
        (history, three)
    }

    #[test]
    fn records_lead_to_the_checkpoints_that_were_published_in_their_order() {
        let (history, three) = example();
        assert_eq!(ids(&history), [9, 7]);
        assert_eq!(history.get(id(7)).unwrap().content().unwrap().states, three.states);
        let nine = history.get(id(9)).unwrap();
        assert!(nine.marks.pinned && nine.content().unwrap().metadata.contains_key("k"));
        assert!(!nine.published.as_ref().unwrap().metadata.contains_key("k"));
        assert_eq!((history.id_floor(), history.rolled_back()), (11, &vec![(7, 9)]));
        assert_eq!(history.departing(), &BTreeMap::from([(id(7), source(7))]));
    }

    #[test]
    fn records_of_a_base_lead_to_the_same_history() {
        let (history, _) = example();
        let mut again = History::new(STORE);
        for record in history.records() {
            again.apply(&record.unwrap()).unwrap();
        }
        assert_eq!(ids(&again), ids(&history));
        assert_eq!(again.rolled_back(), history.rolled_back());
        for (one, other) in history.kept().zip(again.kept()) {
            assert_eq!(history.manifest(one).unwrap(), again.manifest(other).unwrap());
            assert_eq!(history.published(one).unwrap(), again.published(other).unwrap());
            assert_eq!(one.marks, other.marks);
        }
        assert_eq!(again.departing(), history.departing());
    }

    #[test]
    fn checkpoint_that_is_noted_by_its_writer_is_the_same_as_when_it_is_read() {
        let (mut noted, _) = example();
        let mut read = noted.clone();
        let manifest = Manifest {
            store: STORE,
            id: id(12),
            generation: 2,
            origins: Origins::new(),
            content: content(&[("z", b"9")]),
        };
        let against = read.against().unwrap();
        let against = Against(Some((against.0, &against.1)));
        read.apply(&record::checkpoint(&manifest, Marks::default(), against, &[id(7)], &[]).unwrap()).unwrap();
        noted.note_published(&manifest, Marks::default()).unwrap();
        drop(noted.forget(&[id(7)]));
        assert_eq!((ids(&noted), ids(&read)), (vec![9, 12], vec![9, 12]));
        assert_eq!(noted.manifest(noted.get(id(12)).unwrap()), read.manifest(read.get(id(12)).unwrap()));
        assert!(noted.note_published(&manifest, Marks::default()).is_err(), "it is there already");
    }

    #[test]
    fn checkpoint_of_which_the_record_makes_no_sense_is_told_and_is_there_without_content() {
        let one = content(&[("a", b"1")]);
        let mut history = History::new(STORE);
        history.apply(&checkpoint(1, &ManifestContent::default(), None, &[])).unwrap();
        // It takes a state away that the first one has not.
        let gone = checkpoint(2, &ManifestContent::default(), Some((1, &one)), &[]);
        assert!(history.apply(&gone).unwrap_err().what.contains("not there"));
        assert!(history.get(id(2)).unwrap().published.is_err());
    }

    #[test]
    fn checkpoint_of_which_the_older_one_is_lost_is_there_without_content_and_so_is_what_needs_it() {
        let (one, two) = (content(&[("a", b"1")]), content(&[("a", b"2")]));
        let mut history = History::new(STORE);
        for record in [
            checkpoint(2, &two, Some((1, &one)), &[]),
            checkpoint(3, &one, Some((2, &two)), &[]),
            checkpoint(4, &two, None, &[2]),
            record::forgotten(&[id(77)]),
        ] {
            history.apply(&record).unwrap();
        }
        assert_eq!(ids(&history), [3, 4]);
        assert!(history.get(id(3)).unwrap().content().unwrap_err().what.contains("checkpoint 2"));
        assert!(history.get(id(4)).unwrap().content().is_ok());
        let mut again = History::new(STORE);
        for record in history.records() {
            again.apply(&record.unwrap()).unwrap();
        }
        assert_eq!(ids(&again), [3, 4], "a base remembers what was lost");
        let three = again.get(id(3)).unwrap();
        assert!(three.content().is_err() && !three.marks.pinned && three.generation == 1);
    }

    #[test]
    fn record_that_contradicts_the_history_changes_nothing() {
        let (mut history, three) = example();
        let before = ids(&history);
        assert!(history.apply(&checkpoint(7, &three, None, &[9])).is_err());
        assert!(history.apply(&record::updated(id(5), true, &three, &Changeable::of(&three))).is_err());
        assert!(history.apply(b"").is_err());
        assert_eq!(ids(&history), before);
        assert!(!history.get(id(7)).unwrap().marks.pinned);
    }
}
