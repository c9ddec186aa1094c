//! From the newest checkpoint to older ones, until one is whole: one search, one rule, for writers and readers alike.

use std::{collections::BTreeSet, time::Instant};

use super::{Issue, RecoveryReport, Skipped, ValidationReport};
use crate::{
    error::{Error, Result},
    id::CheckpointId,
};

/// Checkpoints exist, and all of them were rolled back.
const ALL_ROLLED_BACK: &str = "all that are left were rolled back; roll back to one of them to use it";

/// The ids of a store at one moment, ascending, each with whether it was rolled back.
pub(crate) type Ids = Vec<(CheckpointId, bool)>;

/// What a look at one checkpoint found.
enum Look<T, Why> {
    Whole(T),
    /// It cannot be used, for this reason.
    Passed(Why),
    /// It was forgotten meanwhile.
    Forgotten,
}

/// The outcome of a search.
struct Found<T, Why> {
    whole: Option<T>,
    /// The newer ones that were looked at, newest first.
    passed: Vec<(CheckpointId, Why)>,
    rolled_back: Vec<CheckpointId>,
}

/// Looks at the checkpoints of a store, newest first, until one is whole. When one was forgotten meanwhile, the newest may
/// be another one by now, and the search starts again.
fn search<T, Why>(
    mut ids: impl FnMut() -> Result<Ids>,
    mut look: impl FnMut(CheckpointId) -> Result<Look<T, Why>>,
) -> Result<Found<T, Why>> {
    let mut forgotten = BTreeSet::new();
    'again: loop {
        let mut found = Found { whole: None, passed: Vec::new(), rolled_back: Vec::new() };
        for (id, rolled_back) in ids()?.into_iter().rev().filter(|(id, _)| !forgotten.contains(id)) {
            if rolled_back {
                found.rolled_back.push(id);
                continue;
            }
            match look(id)? {
                Look::Whole(whole) => {
                    found.whole = Some(whole);
                    return Ok(found);
                }
                Look::Passed(why) => found.passed.push((id, why)),
                Look::Forgotten => {
                    forgotten.insert(id);
                    continue 'again;
                }
            }
        }
        return Ok(found);
    }
}

/// The newest checkpoint that opens. Damaged ones are passed over; every other error is the caller's.
pub(crate) fn latest<T>(
    operation: &str,
    ids: impl FnMut() -> Result<Ids>,
    mut open: impl FnMut(CheckpointId) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let found = search(ids, |id| match open(id) {
        Ok(Some(checkpoint)) => Ok(Look::Whole(checkpoint)),
        Ok(None) => Ok(Look::Forgotten),
        Err(error) if error.is_not_found() => Ok(Look::Forgotten),
        Err(error) if error.is_damage() => Ok(Look::Passed(error)),
        Err(error) => Err(error),
    })?;
    match (found.whole, found.passed.into_iter().next()) {
        (Some(checkpoint), _) => Ok(Some(checkpoint)),
        (None, Some((_, damage))) => Err(damage),
        (None, None) if found.rolled_back.is_empty() => Ok(None),
        (None, None) => Err(Error::not_found(operation, ALL_ROLLED_BACK)),
    }
}

/// The newest checkpoint that validates.
pub(crate) fn recover(
    ids: impl FnMut() -> Result<Ids>,
    mut validate: impl FnMut(CheckpointId) -> Result<ValidationReport>,
) -> Result<RecoveryReport> {
    let start = Instant::now();
    let mut examined = Vec::new();
    let found = search(ids, |id| {
        let report = validate(id)?;
        if matches!(report.issues[..], [Issue::Missing]) {
            return Ok(Look::Forgotten);
        }
        examined.push(id);
        if let Some(Issue::Unreadable(error)) = report.fatal().find(|issue| is_newer(issue)) {
            return Err(error.clone());
        }
        Ok(if report.is_valid() { Look::Whole(id) } else { Look::Passed(report.issues) })
    })?;
    // A search that started again has looked at some of them twice.
    examined.sort_unstable_by(|one, other| other.cmp(one));
    examined.dedup();
    let invalid = found.passed.into_iter().map(|(id, issues)| (id, Skipped::Invalid(issues)));
    let rolled_back = found.rolled_back.into_iter().map(|id| (id, Skipped::RolledBack));
    let mut skipped: Vec<_> = invalid.chain(rolled_back).collect();
    skipped.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
    Ok(RecoveryReport { chosen: found.whole, skipped, examined, elapsed: start.elapsed() })
}

/// A checkpoint of a newer version is whole, and an older one must not take its place unseen.
fn is_newer(issue: &Issue) -> bool {
    matches!(issue, Issue::Unreadable(error) if error.is_newer_format())
}
