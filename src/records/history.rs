//! What the records of a store say, one after the other: which checkpoints there are, and what they consist of. Pure.

use std::collections::BTreeMap;

use crate::{
    error::Malformed,
    format::record::{self, Against, Published, Record, RolledBack, Unknown, Updated},
    handle::StateHandle,
    id::{CheckpointId, StoreId},
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
}

/// A checkpoint that was published and not forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: CheckpointId,
    /// The generation that published it.
    pub(crate) generation: u64,
    pub(crate) pinned: bool,
    /// Or why the content is not known.
    pub(crate) content: Parsed<ManifestContent>,
}

impl History {
    /// Of a store without records.
    pub(crate) fn new(store: StoreId) -> Self {
        let (kept, places, rolled_back, origins) = Default::default();
        Self { store, kept, places, published: 0, rolled_back, id_floor: 0, origins }
    }

    /// Applies the next record. After an error nothing has changed: the record is lost, and what needs it is unknown.
    pub(crate) fn apply(&mut self, record: &[u8]) -> Parsed<()> {
        match record::decode(record)? {
            Record::Checkpoint(published) => self.publish(&published),
            Record::Forgotten(ids) => {
                self.forget(&ids);
                Ok(())
            }
            Record::Updated(update) => self.update(&update),
            Record::RolledBack(ranges) => {
                self.rolled_back = ranges;
                Ok(())
            }
            Record::Lost(Unknown { id, generation, pinned }) => {
                self.insert(Kept { id, generation, pinned, content: Err(lost()) })
            }
            Record::Nothing => Ok(()),
        }
    }

    /// Remembers that every id up to this one was used.
    pub(crate) fn raise_floor(&mut self, id: u64) {
        self.id_floor = self.id_floor.max(id);
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

    /// A kept checkpoint as a manifest, with the origins of the files that it names.
    pub(crate) fn manifest(&self, kept: &Kept) -> Parsed<Manifest> {
        let content = kept.content.clone()?;
        let mut origins = Origins::new();
        if !self.origins.is_empty() {
            let files = content.handles().filter_map(StateHandle::extent).map(|extent| extent.file);
            origins = files.filter_map(|file| Some((file, self.origins.get(&file)?.clone()))).collect();
        }
        Ok(Manifest { store: self.store, id: kept.id, generation: kept.generation, origins, content })
    }

    /// Records that lead to the same history from none: those of a base. `None` if a checkpoint is in more than 2^32 files.
    pub(crate) fn records(&self) -> impl Iterator<Item = Option<Vec<u8>>> {
        let mut before: Option<&Kept> = None;
        let kept = self.kept.values().map(move |kept| {
            let Kept { id, generation, pinned, .. } = *kept;
            let Ok(manifest) = self.manifest(kept) else {
                return Some(record::lost(Unknown { id, generation, pinned }));
            };
            let against = before.and_then(|before| Some((before.id, before.content.as_ref().ok()?)));
            before = Some(kept);
            record::checkpoint(&manifest, kept.pinned, Against(against), &[])
        });
        let rolled_back = (!self.rolled_back.is_empty()).then(|| Some(record::rolled_back(&self.rolled_back)));
        kept.chain(rolled_back)
    }

    fn publish(&mut self, published: &Published<'_>) -> Parsed<()> {
        let read = self.content_against(published.against).and_then(|older| published.content(self.store, &older));
        let (content, origins) = match read {
            Ok((content, origins)) => (Ok(content), origins),
            Err(error) => (Err(error), Origins::new()),
        };
        let Published { id, pinned, .. } = *published;
        self.insert(Kept { id, generation: published.generation(), pinned, content })?;
        self.origins.extend(origins);
        self.forget(&published.forgotten);
        Ok(())
    }

    fn content_against(&self, id: Option<CheckpointId>) -> Parsed<ManifestContent> {
        let Some(id) = id else { return Ok(ManifestContent::default()) };
        let unknown =
            || Malformed::new(0, format!("it is known only by what differs from checkpoint {id}, which is lost"));
        self.get(id).and_then(|kept| kept.content.clone().ok()).ok_or_else(unknown)
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

    /// A checkpoint that is not there may have been in a record that is lost.
    fn forget(&mut self, ids: &[CheckpointId]) {
        for id in ids {
            if let Some(place) = self.places.remove(id) {
                self.kept.remove(&place);
            }
        }
    }

    fn update(&mut self, update: &Updated<'_>) -> Parsed<()> {
        let gone = || Malformed::new(0, format!("checkpoint {} was updated and is not there", update.id));
        let kept = self.places.get(&update.id).and_then(|place| self.kept.get_mut(place)).ok_or_else(gone)?;
        if let Ok(content) = &mut kept.content {
            update.apply(content)?;
        }
        kept.pinned = update.pinned;
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
        record::checkpoint(&manifest, false, Against(against.map(|(n, content)| (id(n), content))), &gone).unwrap()
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
            record::updated(id(9), true, &two, &pinned),
            record::rolled_back(&vec![(7, 9)]),
            record::nothing(),
        ] {
            history.apply(&record).unwrap();
        }
        (history, three)
    }

    #[test]
    fn records_lead_to_the_checkpoints_that_were_published_in_their_order() {
        let (history, three) = example();
        assert_eq!(ids(&history), [9, 7]);
        assert_eq!(history.get(id(7)).unwrap().content.as_ref().unwrap().states, three.states);
        let nine = history.get(id(9)).unwrap();
        assert!(nine.pinned && nine.content.as_ref().unwrap().metadata.contains_key("k"));
        assert_eq!((history.id_floor(), history.rolled_back()), (9, &vec![(7, 9)]));
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
            assert_eq!(one.pinned, other.pinned);
        }
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
        assert!(history.get(id(3)).unwrap().content.as_ref().unwrap_err().what.contains("checkpoint 2"));
        assert!(history.get(id(4)).unwrap().content.is_ok());
        let mut again = History::new(STORE);
        for record in history.records() {
            again.apply(&record.unwrap()).unwrap();
        }
        assert_eq!(ids(&again), [3, 4], "a base remembers what was lost");
        let three = again.get(id(3)).unwrap();
        assert!(three.content.is_err() && !three.pinned && three.generation == 1);
    }

    #[test]
    fn record_that_contradicts_the_history_changes_nothing() {
        let (mut history, three) = example();
        let before = ids(&history);
        assert!(history.apply(&checkpoint(7, &three, None, &[9])).is_err());
        assert!(history.apply(&record::updated(id(5), true, &three, &three)).is_err());
        assert!(history.apply(b"").is_err());
        assert_eq!(ids(&history), before);
        assert!(!history.get(id(7)).unwrap().pinned);
    }
}
