//! What one look at a store saw, and what several looks tell together.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use piton::{CheckpointId, CheckpointKind, inspect::Inspection};
use serde::Serialize;

use crate::commands::{Failure, inspect};

/// So many of the newest checkpoints are shown.
const SHOWN: usize = 64;

/// What the store is like at one moment. Times are milliseconds since 1970, 0 where an engine gave none.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Sample {
    pub(super) time_ms: u64,
    /// The newest checkpoints, oldest first.
    pub(super) newest: Vec<One>,
    pub(super) checkpoints: usize,
    pub(super) pinned: usize,
    pub(super) rolled_back: usize,
    /// Those of which the record is lost.
    pub(super) damaged: usize,
    /// What is gone of the manifest log and the identity.
    pub(super) lost: Vec<String>,
    pub(super) logical_bytes: u64,
    pub(super) files: u64,
    pub(super) physical_bytes: u64,
    pub(super) allocated_bytes: u64,
    pub(super) dead_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) members: usize,
    /// How many checkpoints were committed while it was watched, and how many bytes of states these changed.
    pub(super) seen: u64,
    pub(super) seen_bytes: u64,
    pub(super) watched_ms: u64,
    /// Why the last look failed; the rest is what the one before saw.
    pub(super) error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct One {
    pub(super) id: CheckpointId,
    pub(super) kind: Option<CheckpointKind>,
    pub(super) timestamp_ms: u64,
    pub(super) states: u64,
    pub(super) bytes: u64,
    pub(super) changed_bytes: u64,
    pub(super) pinned: bool,
    pub(super) rolled_back: bool,
}

/// Looks again and again.
#[derive(Debug)]
pub(super) struct Watcher<'a> {
    store: &'a Path,
    begun: Instant,
    last: Sample,
    /// The files of the log when it was read last.
    log: BTreeMap<OsString, (u64, Option<SystemTime>)>,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(store: &'a Path) -> Self {
        Self { store, begun: Instant::now(), last: Sample::default(), log: BTreeMap::new() }
    }

    /// Looks at the store. The log of a big one takes a while to read, so it is read only when it has changed.
    pub(super) fn look(&mut self) -> &Sample {
        let log = files_of_log(self.store);
        if log != self.log || log.is_empty() || self.last.error.is_some() {
            match inspect(self.store).and_then(|inspection| self.sample(&inspection)) {
                Ok(sample) => self.last = sample,
                Err(error) => self.last.error = Some(error.to_string()),
            }
            self.log = log;
        }
        self.last.time_ms = now_ms();
        self.last.watched_ms = millis(self.begun.elapsed());
        &self.last
    }

    fn sample(&self, inspection: &Inspection) -> Result<Sample, Failure> {
        let all = inspection.checkpoints();
        let count = |is: fn(&piton::inspect::InspectedCheckpoint) -> bool| all.iter().filter(|one| is(one)).count();
        let newest = all.iter().skip(all.len().saturating_sub(SHOWN)).map(|one| One {
            id: one.id,
            kind: one.manifest.as_ref().ok().map(piton::Manifest::kind),
            timestamp_ms: one.manifest.as_ref().map_or(0, piton::Manifest::timestamp_ms),
            states: one.states,
            bytes: one.bytes,
            changed_bytes: one.changed_bytes,
            pinned: one.pinned,
            rolled_back: one.rolled_back,
        });
        let extents = inspection.extents();
        let live = extents.live_bytes();
        let files = inspection.files()?;
        let sum = |of: fn(&piton::inspect::InspectedFile) -> u64| files.iter().map(of).sum::<u64>();
        let (seen, seen_bytes) = self.seen(&newest.clone().collect::<Vec<_>>());
        let space = rustix::fs::statvfs(self.store);
        Ok(Sample {
            newest: newest.collect(),
            checkpoints: all.len(),
            pinned: count(|one| one.pinned),
            rolled_back: count(|one| one.rolled_back),
            damaged: count(|one| one.manifest.is_err()),
            lost: inspection.lost().iter().map(ToString::to_string).collect(),
            logical_bytes: live,
            files: files.len() as u64,
            physical_bytes: sum(|file| file.len),
            allocated_bytes: sum(|file| file.allocated),
            dead_bytes: sum(|file| file.len).saturating_sub(live),
            free_bytes: space.map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize)),
            members: inspection.members()?.len(),
            seen,
            seen_bytes,
            ..Sample::default()
        })
    }

    /// The checkpoints since the first look, and how much they changed.
    fn seen(&self, newest: &[One]) -> (u64, u64) {
        let Some(before) = self.last.newest.last().map(|one| one.id) else { return (0, 0) };
        let later = newest.iter().filter(|one| one.id > before);
        later.fold((self.last.seen, self.last.seen_bytes), |(seen, bytes), one| (seen + 1, bytes + one.changed_bytes))
    }
}

fn files_of_log(store: &Path) -> BTreeMap<OsString, (u64, Option<SystemTime>)> {
    let entries = fs::read_dir(store.join("manifests")).into_iter().flatten().flatten();
    let state = |entry: fs::DirEntry| {
        let found = entry.metadata().ok()?;
        Some((entry.file_name(), (found.len(), found.modified().ok())))
    };
    entries.filter_map(state).collect()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Sample {
    /// How long ago the newest checkpoint was taken, if its engine gives times.
    pub(super) fn age_ms(&self) -> Option<u64> {
        let taken = self.newest.last()?.timestamp_ms;
        (taken > 0).then(|| self.time_ms.saturating_sub(taken))
    }

    /// How long it usually was from one checkpoint to the next, among those that are shown.
    pub(super) fn interval_ms(&self) -> Option<u64> {
        let mut gaps: Vec<_> = self
            .newest
            .windows(2)
            .filter_map(|pair| match pair {
                [one, next] if one.timestamp_ms > 0 => next.timestamp_ms.checked_sub(one.timestamp_ms),
                _ => None,
            })
            .collect();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied()
    }
}
