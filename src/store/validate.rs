//! Whether checkpoints are whole.

use super::{Inner, Store};
use crate::{
    check::{self, Issue, RecoveryReport, Validation, ValidationReport},
    error::{Error, Result},
    id::CheckpointId,
};

impl Store {
    /// Looks at one checkpoint, and says all that is wrong with it. One that is found to be damaged is passed over by
    /// `latest` from now on, and not counted by `prune`.
    ///
    /// It reads every byte of the checkpoint's states, piece by piece, unless it is to be quick. What is
    /// [damage](Error::is_damage) is an issue in the report; it was seen by two looks.
    ///
    /// # Errors
    ///
    /// Errors that say nothing of the checkpoint: too few descriptors, missing rights, and the like.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Manifest, Options, Scope, Validation};
    ///
    /// let store = Options::memory().open("state")?;
    /// let pending = store.begin_next()?;
    /// let handle = pending.write(Scope::Shared, &[7; 5000])?;
    /// let id = pending.commit(Manifest::builder().state("weights", handle).timestamp_ms(1_700_000_000_000))?.id();
    /// let report = store.validate(id, Validation::Full)?;
    /// assert!(report.is_valid() && report.issues.is_empty());
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn validate(&self, id: CheckpointId, depth: Validation) -> Result<ValidationReport> {
        let Inner { registry, publisher, .. } = &*self.0;
        let _verb = self.verb();
        let only = |issue| Ok(ValidationReport::new(id, vec![issue]));
        let Some(hold) = registry.open(id) else { return only(Issue::Missing) };
        let manifest = match self.load(id) {
            Ok(manifest) => manifest,
            Err(error) if error.is_not_found() => return only(Issue::Missing),
            Err(error) if error.is_damage() || error.is_newer_format() => return only(Issue::Unreadable(error)),
            Err(error) => return Err(error),
        };
        let note = |bytes: Option<&_>, error: &Error| match bytes {
            _ if !error.is_corrupt() => {}
            Some(extent) => hold.mark_damaged(extent, error),
            None => registry.mark_damaged(id, error),
        };
        let issues = check::validate(&publisher.reading, &manifest, (publisher.vnode_count, depth), note)?;
        let mut report = ValidationReport::new(id, issues);
        let gone = |parent| !registry.is_published(parent);
        if check::is_incremental(&manifest) && manifest.parent().is_some_and(gone) {
            report.issues.push(Issue::IncrementalWithoutParent);
        }
        if report.is_valid() {
            // Known from when the store was opened, or found by somebody else.
            report.issues.extend(registry.status(id).and_then(|status| status.damage).map(Issue::Unreadable));
        }
        Ok(report)
    }

    /// The newest checkpoint of which every byte is what it should be: validates one after the other, in full, from the
    /// newest on. Those that were [rolled back](Self::rollback_to) are passed over.
    ///
    /// Unlike [`latest`](Self::latest) it reads all states before it answers.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Self::validate): a checkpoint that cannot be read *now* is no reason to go back to an older one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options};
    /// # let store = Options::memory().open("state")?;
    /// # store.begin_next()?.commit(Manifest::builder())?;
    /// let report = store.recover_latest_validated()?;
    /// for (id, why) in &report.skipped {
    ///     eprintln!("checkpoint {id} cannot be used: {why:?}");
    /// }
    /// let checkpoint = store.checkpoint(report.chosen.expect("one was committed"))?;
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn recover_latest_validated(&self) -> Result<RecoveryReport> {
        check::recover(|| Ok(self.ids()), |id| self.validate(id, Validation::Full))
    }
}
