//! The checkpoints that anybody holds, in the order in which they were published, and what died with each.

use std::collections::BTreeMap;

use crate::{handle::Extent, id::FileId, manifest::ManifestContent};

use super::{
    changes::{Between, Differences},
    lives::{ExtentRecord, Number},
};

/// Where an extent is.
pub(super) type At = (FileId, u64);

/// The lives that ended, by when they began.
type Dead = BTreeMap<Number, Vec<At>>;

/// A checkpoint that others are compared with, and kept from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    /// 0 for none.
    pub(crate) number: Number,
    pub(crate) content: ManifestContent,
    /// Whether every state of it was there when it was entered.
    pub(crate) whole: bool,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    kept: BTreeMap<Number, Kept>,
    last: Number,
}

#[derive(Debug)]
struct Kept {
    content: ManifestContent,
    whole: bool,
    /// How many hold it.
    holders: usize,
    /// What the checkpoints between the one before and this one named, and this one does not.
    dead: Dead,
}

/// What the line says about extents: whoever has them does it, and forgets those that nobody needs then.
pub(super) trait Extents {
    /// Does this to an extent; not if it is unknown, or another one than it should be.
    fn with(&mut self, extent: &Extent, act: impl FnOnce(&mut ExtentRecord));

    /// The same for whatever is at this place.
    fn at(&mut self, at: At, act: impl FnOnce(&mut ExtentRecord));
}

impl Line {
    /// The newest checkpoint that anybody holds.
    pub(super) fn newest(&self) -> Base {
        self.kept.last_key_value().map_or_else(
            || Base { whole: true, ..Base::default() },
            |(number, kept)| Base { number: *number, content: kept.content.clone(), whole: kept.whole },
        )
    }

    pub(super) fn newest_number(&self) -> Number {
        self.kept.last_key_value().map_or(Number(0), |(number, _)| *number)
    }

    /// A checkpoint is published, and held by its record. `changes` are those since the newest one.
    pub(super) fn publish(
        &mut self,
        content: ManifestContent,
        whole: bool,
        changes: &impl Differences,
        extents: &mut impl Extents,
    ) -> Number {
        self.last = Number(self.last.0 + 1);
        let (number, mut dead) = (self.last, Dead::new());
        // What merely has another name now must not seem to die in between.
        changes.added(|extent| extents.with(extent, |record| record.name(number)));
        changes.removed(|extent| {
            extents.with(extent, |record| {
                if let Some(birth) = record.unname(number) {
                    dead.entry(birth).or_default().push((extent.file, extent.offset));
                }
            });
        });
        self.kept.insert(number, Kept { content, whole, holders: 1, dead });
        number
    }

    /// One more holds a checkpoint; false if it is not there.
    pub(super) fn hold(&mut self, number: Number) -> bool {
        self.kept.get_mut(&number).map(|kept| kept.holders += 1).is_some()
    }

    /// One less holds it. With the last one it leaves the line, and its content is returned, to be dropped where no lock is
    /// held.
    pub(super) fn release(&mut self, number: Number, extents: &mut impl Extents) -> Option<ManifestContent> {
        let kept = self.kept.get_mut(&number)?;
        kept.holders = kept.holders.saturating_sub(1);
        if kept.holders > 0 {
            return None;
        }
        let gone = self.kept.remove(&number)?;
        let older = self.kept.range(..number).next_back().map(|(number, _)| *number).unwrap_or_default();
        if let Some((_, newer)) = self.kept.range_mut(number..).next() {
            let dead = newer.dead.split_off(&Number(older.0 + 1));
            for (birth, at) in each(dead) {
                extents.at(at, |record| record.forget(birth));
            }
            splice(&mut newer.dead, gone.dead);
        } else {
            self.take_back(&gone.content, gone.dead, older, extents);
        }
        Some(gone.content)
    }

    /// The newest checkpoint is gone: it never was, and the one before it is the newest.
    fn take_back(&self, content: &ManifestContent, dead: Dead, older: Number, extents: &mut impl Extents) {
        let empty = ManifestContent::default();
        let before = self.kept.get(&older).map_or(&empty, |kept| &kept.content);
        let changes = Between { older: before, newer: content };
        for (birth, at) in each(dead) {
            extents.at(at, |record| record.revive(birth));
        }
        changes.removed(|extent| extents.with(extent, ExtentRecord::name_again));
        changes.added(|extent| extents.with(extent, ExtentRecord::never_named));
    }
}

/// Every life that ended, by its birth.
fn each(dead: Dead) -> impl Iterator<Item = (Number, At)> {
    dead.into_iter().flat_map(|(birth, places)| places.into_iter().map(move |at| (birth, at)))
}

/// Takes over what died with another; the smaller list is moved.
fn splice(dead: &mut Dead, other: Dead) {
    for (birth, mut places) in other {
        let ours = dead.entry(birth).or_default();
        if ours.len() < places.len() {
            std::mem::swap(ours, &mut places);
        }
        ours.append(&mut places);
    }
}
