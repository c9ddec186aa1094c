//! From the newest checkpoint to older ones, until one is whole.

use std::time::Instant;

use super::{RecoveryReport, Skipped, ValidationReport};
use crate::id::CheckpointId;

/// The first valid one of these, newest first; those that were rolled back are passed over.
pub(crate) fn newest_valid(
    candidates: impl Iterator<Item = (CheckpointId, bool)>,
    mut validate: impl FnMut(CheckpointId) -> ValidationReport,
) -> RecoveryReport {
    let start = Instant::now();
    let mut report = RecoveryReport::default();
    for (id, rolled_back) in candidates {
        if rolled_back {
            report.skipped.push((id, Skipped::RolledBack));
            continue;
        }
        report.examined.push(id);
        let found = validate(id);
        if found.is_valid() {
            report.chosen = Some(id);
            break;
        }
        report.skipped.push((id, Skipped::Invalid(found.issues)));
    }
    report.elapsed = start.elapsed();
    report
}
