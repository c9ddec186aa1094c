//! Events for the `metrics` crate.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::{CommitTimes, Event};
use crate::report::Usage;

/// Counts one each time.
const COUNTERS: [(&str, &str); 11] = [
    ("committed", "piton_checkpoints_committed_total"),
    ("aborted", "piton_checkpoints_aborted_total"),
    ("damaged", "piton_checkpoints_damaged_total"),
    ("written", "piton_states_written_total"),
    ("renewed", "piton_log_bases_total"),
    ("healed", "piton_healed_total"),
    ("lost", "piton_lost_total"),
    ("poisoned", "piton_poisoned_total"),
    ("fenced", "piton_fenced_total"),
    ("left_over", "piton_left_over_total"),
    ("accepted", "piton_parts_accepted_total"),
];

/// An observer that counts in the [`metrics`] crate. Every metric has the label `store`: this name. They are described, with their
/// units, when this is called, so install the recorder before.
///
/// | metric | |
/// |---|---|
/// | `piton_checkpoints_committed_total`, `_aborted_total`, `_forgotten_total`, `_damaged_total` | counters |
/// | `piton_commit_duration_seconds`, with the label `step`: `prepare`, `sync`, `publish`, `tidy` | histogram, seconds |
/// | `piton_commit_bytes` | histogram, new bytes of each checkpoint |
/// | `piton_commit_syncs_total` | counter |
/// | `piton_states_written_total`, `piton_state_bytes_written_total` | counters |
/// | `piton_relocated_bytes_total`, `piton_punched_bytes_total`, `piton_removed_bytes_total` | counters, bytes |
/// | `piton_logical_files`, `piton_logical_bytes`, `piton_physical_files`, `piton_physical_bytes` | gauges: the four that Flink has since FLIP-306, `logicalFileCount`, `logicalFileSize`, `physicalFileCount`, `physicalFileSize` |
/// | `piton_allocated_bytes`, `piton_dead_bytes` | gauges, bytes |
/// | `piton_log_bases_total`, `piton_parts_accepted_total` | counters |
/// | `piton_healed_total`, `piton_lost_total`, `piton_poisoned_total`, `piton_fenced_total`, `piton_left_over_total` | counters: see docs/operations.md |
///
/// # Examples
///
/// ```
/// let store = piton::Options::memory().observer(piton::observe::to_metrics("words")).open("state")?;
/// # Ok::<(), piton::Error>(())
/// ```
pub fn to_metrics(store: &str) -> impl Fn(&Event) + Send + Sync + 'static {
    describe();
    let metrics = Metrics::new(store);
    move |event| metrics.count(event)
}

fn describe() {
    for (name, what) in [
        ("piton_checkpoints_committed_total", "checkpoints that were committed"),
        ("piton_checkpoints_aborted_total", "pending checkpoints that were given up, or failed"),
        ("piton_checkpoints_forgotten_total", "checkpoints that were forgotten, pruned, or given up by retention"),
        ("piton_checkpoints_damaged_total", "checkpoints that were found to be damaged"),
        ("piton_commit_syncs_total", "files and directories that were synced for commits"),
        ("piton_states_written_total", "states that were written"),
        ("piton_log_bases_total", "bases of the manifest log that were written"),
        ("piton_parts_accepted_total", "parts of members that were accepted"),
        ("piton_healed_total", "damage to the manifest log that lost nothing and was mended"),
        ("piton_lost_total", "losses of the manifest log that were found"),
        ("piton_poisoned_total", "stores that must be reopened"),
        ("piton_fenced_total", "stores that another process has opened since"),
        ("piton_left_over_total", "failures to remove or to tidy up, tried again later"),
    ] {
        describe_counter!(name, Unit::Count, what);
    }
    for (name, what) in [
        ("piton_state_bytes_written_total", "bytes of states that were written"),
        ("piton_relocated_bytes_total", "bytes of states that were moved out of files that should go"),
        ("piton_punched_bytes_total", "bytes that came back from holes in data files"),
        ("piton_removed_bytes_total", "bytes of data files that were removed"),
    ] {
        describe_counter!(name, Unit::Bytes, what);
    }
    describe_histogram!("piton_commit_duration_seconds", Unit::Seconds, "how long each step of a commit took");
    describe_histogram!("piton_commit_bytes", Unit::Bytes, "bytes that a checkpoint has and the one before it had not");
    for (name, unit, what) in [
        ("piton_logical_files", Unit::Count, "states in data files that are alive"),
        ("piton_logical_bytes", Unit::Bytes, "bytes of these states"),
        ("piton_physical_files", Unit::Count, "data files"),
        ("piton_physical_bytes", Unit::Bytes, "bytes of these files"),
        ("piton_allocated_bytes", Unit::Bytes, "what these files take on the medium"),
        ("piton_dead_bytes", Unit::Bytes, "bytes of these files that belong to no live state"),
    ] {
        describe_gauge!(name, unit, what);
    }
}

struct Metrics {
    /// By the name of the event.
    events: Vec<(&'static str, Counter)>,
    forgotten: Counter,
    syncs: Counter,
    steps: [Histogram; 4],
    new_bytes: Histogram,
    written: Counter,
    relocated: Counter,
    punched: Counter,
    removed: Counter,
    gauges: [Gauge; 6],
}

impl Metrics {
    fn new(store: &str) -> Self {
        let counter = |name: &'static str| counter!(name, "store" => store.to_owned());
        let gauge = |name: &'static str| gauge!(name, "store" => store.to_owned());
        let step = |step: &'static str| histogram!("piton_commit_duration_seconds", "store" => store.to_owned(), "step" => step);
        Self {
            events: COUNTERS.iter().map(|(event, name)| (*event, counter(name))).collect(),
            forgotten: counter("piton_checkpoints_forgotten_total"),
            syncs: counter("piton_commit_syncs_total"),
            steps: ["prepare", "sync", "publish", "tidy"].map(step),
            new_bytes: histogram!("piton_commit_bytes", "store" => store.to_owned()),
            written: counter("piton_state_bytes_written_total"),
            relocated: counter("piton_relocated_bytes_total"),
            punched: counter("piton_punched_bytes_total"),
            removed: counter("piton_removed_bytes_total"),
            gauges: [
                "piton_logical_files",
                "piton_logical_bytes",
                "piton_physical_files",
                "piton_physical_bytes",
                "piton_allocated_bytes",
                "piton_dead_bytes",
            ]
            .map(gauge),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a distribution for people")]
    fn count(&self, event: &Event) {
        if let Some((_, counter)) = self.events.iter().find(|(name, _)| *name == event.name()) {
            counter.increment(1);
        }
        match event {
            Event::Opened { usage, .. } => self.show(usage),
            Event::Committed { new_bytes, syncs, took, usage, .. } => {
                let CommitTimes { prepare, sync, publish, tidy } = *took;
                self.steps.iter().zip([prepare, sync, publish, tidy]).for_each(|(step, took)| step.record(took));
                self.new_bytes.record(*new_bytes as f64);
                self.syncs.increment(*syncs);
                self.show(usage);
            }
            Event::Retained { forgotten, .. } => self.forgotten.increment(forgotten.len() as u64),
            Event::Forgotten { checkpoints, .. } => self.forgotten.increment(checkpoints.len() as u64),
            Event::Written { bytes, .. } => self.written.increment(*bytes),
            Event::Relocated { bytes, .. } => self.relocated.increment(*bytes),
            Event::Punched { bytes, .. } => self.punched.increment(*bytes),
            Event::Removed { bytes, .. } => self.removed.increment(*bytes),
            _ => {}
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are numbers of this kind")]
    fn show(&self, usage: &Usage) {
        let numbers = [
            usage.logical_files,
            usage.logical_bytes,
            usage.physical_files,
            usage.physical_bytes,
            usage.allocated_bytes,
            usage.dead_bytes,
        ];
        self.gauges.iter().zip(numbers).for_each(|(gauge, number)| gauge.set(number as f64));
    }
}
