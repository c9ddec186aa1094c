//! Which checkpoints to keep. Pure: no lock, no file, no clock.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use crate::{
    id::CheckpointId,
    manifest::{CheckpointKind, Manifest},
    options::Options,
};

/// What is known of a checkpoint beside what it refers to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) epoch: u64,
    pub(crate) timestamp_ms: u64,
    pub(crate) kind: CheckpointKind,
    /// Exempt from pruning because somebody said so.
    pub(crate) pinned: bool,
}

impl Facts {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let (epoch, timestamp_ms, kind) = (manifest.epoch(), manifest.timestamp_ms(), manifest.kind());
        Self { epoch, timestamp_ms, kind, pinned: false }
    }

    fn is_exempt(&self) -> bool {
        self.pinned || self.kind == CheckpointKind::Savepoint
    }
}

/// Whether a checkpoint can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Valid,
    /// It was rolled back: nobody comes back to it.
    RolledBack,
    /// Something of it is lost for good.
    Damaged,
    /// It could merely not be read, or was written by a newer version.
    Unreadable,
}

/// One checkpoint, for deciding whether it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) id: CheckpointId,
    pub(super) standing: Standing,
    pub(super) facts: Facts,
}

impl Candidate {
    /// Whether it counts as kept.
    pub(super) fn counts(&self) -> bool {
        self.standing == Standing::Valid && self.facts.kind == CheckpointKind::Checkpoint
    }
}

/// How much automatic retention keeps: what either of them keeps stays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retention {
    /// The newest so many.
    pub(crate) keep: Option<NonZeroUsize>,
    /// Those that were not older than this when the newest one was taken.
    pub(crate) younger_than: Option<Duration>,
}

impl Retention {
    pub(crate) fn of(options: &Options) -> Self {
        Self { keep: options.retain, younger_than: options.retain_for }
    }

    /// The newest so many, at least one.
    pub(crate) fn newest(keep: usize) -> Self {
        Self { keep: NonZeroUsize::new(keep).or(Some(NonZeroUsize::MIN)), younger_than: None }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.keep.is_none() && self.younger_than.is_none()
    }

    /// Which of these, ascending, go.
    ///
    /// Pinned checkpoints and savepoints stay; savepoints, and those that were rolled back, do not count. Of the others
    /// the newest valid ones stay, at least one, and whatever could merely not be read. If no valid one is left, all stay.
    pub(super) fn plan(&self, candidates: &[Candidate]) -> Vec<CheckpointId> {
        if candidates.iter().all(|candidate| candidate.standing != Standing::Valid) {
            return Vec::new();
        }
        let counted: Vec<_> = candidates.iter().rev().filter(|candidate| candidate.counts()).collect();
        let keep = self.keep.map_or(1, NonZeroUsize::get);
        let now = counted.first().map_or(0, |newest| newest.facts.timestamp_ms);
        let kept = counted.iter().enumerate().filter(|(n, valid)| *n < keep || self.is_young(&valid.facts, now));
        let kept: BTreeSet<_> = kept.map(|(_, valid)| valid.id).collect();
        let goes = |candidate: &&Candidate| match candidate.standing {
            Standing::Unreadable => false,
            _ => !candidate.facts.is_exempt() && !kept.contains(&candidate.id),
        };
        candidates.iter().filter(goes).map(|candidate| candidate.id).collect()
    }

    /// Whether its age keeps a checkpoint. One whose age is not known is as young as can be.
    fn is_young(&self, facts: &Facts, now_ms: u64) -> bool {
        let Some(limit) = self.younger_than else { return false };
        let age = Duration::from_millis(now_ms.saturating_sub(facts.timestamp_ms));
        facts.timestamp_ms == 0 || now_ms == 0 || age < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter a checkpoint, ascending from id 1: valid, savepoint, pinned, rolled back, damaged, unreadable, damaged
    /// and pinned. Its time is its id in seconds.
    fn candidates(letters: &str) -> Vec<Candidate> {
        let candidate = |(letter, number): (char, u64)| Candidate {
            id: CheckpointId::new(number).unwrap(),
            standing: match letter {
                'r' => Standing::RolledBack,
                'd' | 'D' => Standing::Damaged,
                'u' => Standing::Unreadable,
                _ => Standing::Valid,
            },
            facts: Facts {
                timestamp_ms: number * 1000,
                kind: if letter == 's' { CheckpointKind::Savepoint } else { CheckpointKind::Checkpoint },
                pinned: letter == 'p' || letter == 'D',
                ..Facts::default()
            },
        };
        letters.chars().zip(1..).map(candidate).collect()
    }

    fn goes(retention: Retention, letters: &str) -> Vec<u64> {
        retention.plan(&candidates(letters)).into_iter().map(CheckpointId::get).collect()
    }

    #[test]
    fn newest_valid_ones_stay_and_what_else_must() {
        for (keep, letters, expected) in [
            (2, "vvvv", &[1, 2][..]),
            (0, "vvv", &[1, 2]),
            (9, "vvv", &[]),
            (2, "vvvdd", &[1, 4, 5]),
            (2, "pvvvdd", &[2, 5, 6]),
            (1, "vpv", &[1]),
            (2, "vvp", &[1]),
            (1, "vsss", &[]),
            (1, "vvss", &[1]),
            (1, "vvrr", &[1, 3, 4]),
            (2, "vvrv", &[1, 3]),
            (1, "dddd", &[]),
            (1, "ddrr", &[]),
            (1, "dsd", &[1, 3]),
            (1, "uvuvu", &[2]),
            (1, "Dvd", &[3]),
            (1, "", &[]),
        ] {
            assert_eq!(goes(Retention::newest(keep), letters), expected, "{keep} of {letters}");
        }
    }

    #[test]
    fn count_and_age_must_agree_to_remove() {
        let age = |keep, seconds| Retention {
            keep: NonZeroUsize::new(keep),
            younger_than: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(goes(age(0, 2), "vvvvv"), [1, 2, 3], "the fifth is the newest, the fourth a second old");
        assert_eq!(goes(age(4, 2), "vvvvv"), [1]);
        assert_eq!(goes(age(1, 3), "vvvvv"), [1, 2]);
        assert_eq!(goes(age(0, 0), "vvvvv"), [1, 2, 3, 4], "one stays, however old");
        let mut timeless = candidates("vvvvv");
        timeless[1].facts.timestamp_ms = 0;
        assert_eq!(age(0, 2).plan(&timeless).len(), 2, "one whose age is not known stays");
        timeless[4].facts.timestamp_ms = 0;
        assert_eq!(age(0, 2).plan(&timeless).len(), 0, "and all, if what time it is is not known");
    }
}
