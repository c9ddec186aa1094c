//! The dataflow: lines, words, counts. A timely process runs it with each of its workers.

use std::sync::Arc;

use piton::Manifest;
use timely::{
    dataflow::operators::probe::{Handle as Probe, Probe as _},
    worker::Worker,
};
use timely_piton::{
    Failure, groups,
    keyed::{self, Naming},
    message::Restored,
    process::{self, Context},
    snapshots::SnapshotPolicy,
    source::{self, Pace},
};

use crate::{
    counts::Counts,
    lines::{Lines, Position},
    splits::Split,
};

/// The operator in the manifest.
pub(crate) const OPERATOR: &str = "counts";
/// How the names of results begin.
pub(crate) const RESULTS: &str = "result/";

/// Runs one timely process. `rate` is for all sources together.
pub(crate) fn run(splits: Vec<Split>, rate: Option<f64>) -> Result<(), Failure> {
    process::run(move |worker, context| build(worker, context, &splits, rate))
}

fn build(worker: &mut Worker, context: &Context, splits: &[Split], rate: Option<f64>) -> Result<Restored, Failure> {
    let (index, peers) = (worker.index(), worker.peers());
    let manifest = context.resume.as_ref().map(piton::Checkpoint::manifest);
    let lines = Lines::restore(splits, manifest, index, peers)?;
    let (counts, restored, snapshots) = restore(context, splits, manifest, index, peers)?;
    // Each source has its share of the splits, and so of the rate.
    let share = (splits.len() + peers - 1 - index) / peers;
    #[expect(clippy::cast_precision_loss, reason = "the number of splits is small")]
    let part = share as f64 / splits.len() as f64;
    let rate = rate.map(|rate| rate * part);
    let first = context.start.epoch;
    worker.dataflow::<u64, _, _>(|scope| {
        let probe = Probe::new();
        let (pace, shares) = (Pace { rate, batch: 200 }, context.shares.clone());
        let found = source::build(scope, (&context.clock, shares.clone()), (lines, pace, first), probe.clone());
        let naming = Naming { operator: OPERATOR, results: RESULTS, snapshots };
        keyed::build(found, (Arc::clone(&context.clock), shares), (counts, naming, first)).probe_with(&probe);
    });
    Ok(restored)
}

/// The counts of this worker's key groups, as the checkpoint has them.
fn restore(
    context: &Context,
    splits: &[Split],
    manifest: Option<&Manifest>,
    index: usize,
    peers: usize,
) -> Result<(Counts, Restored, SnapshotPolicy), Failure> {
    let range = groups::range_of(index, peers);
    let mut counts = Counts::new(range.clone(), watermark(splits, manifest)?);
    let mut restored = Restored { worker: index, read: 0, own: 0, all: 0 };
    let mut snapshots = SnapshotPolicy { states: 0, delta_bytes: 0, snapshot_bytes: 0 };
    if let Some((checkpoint, operator)) = context.resume.as_ref().zip(manifest.and_then(|it| it.operator(OPERATOR))) {
        let mut outcome = Ok(());
        restored.read = groups::read(checkpoint, OPERATOR, range, |group, piece| {
            if outcome.is_ok() {
                outcome = counts.restore(group, piece);
            }
        })?;
        outcome?;
        restored.own = counts.snapshot_bytes();
        restored.all = checkpoint.key_groups(OPERATOR, 0..groups::KEY_GROUPS)?.all_bytes();
        let own = groups::in_manifest(&groups::range_of(index, peers))?;
        let holders = operator.partitions.iter().map(|(_, partition)| partition);
        let holders = holders.filter(|held| held.key_groups.is_some_and(|held| held.intersection(own).is_some()));
        snapshots.states = holders.map(|held| held.deltas.len() + usize::from(held.snapshot.is_some())).sum();
        snapshots.snapshot_bytes = restored.own;
        snapshots.delta_bytes = restored.read.saturating_sub(restored.own);
    }
    Ok((counts, restored, snapshots))
}

/// The watermark of all sources, as of a checkpoint: the offsets say which windows were complete.
fn watermark(splits: &[Split], manifest: Option<&Manifest>) -> Result<u64, Failure> {
    let mut watermark = u64::MAX;
    for (number, split) in splits.iter().enumerate() {
        let Position { line, .. } = Position::of(manifest, number, split)?;
        if line < split.lines {
            watermark = watermark.min(line);
        }
    }
    Ok(watermark)
}
