//! Keeping checkpoints and throwing them away.

use std::collections::BTreeSet;

use super::{Inner, Store, no_such_checkpoint};
use crate::{
    accounts::retention::Retention,
    check::Validation,
    error::{Cause, Error, Result},
    format::record::Changeable,
    id::CheckpointId,
    manifest::{Manifest, ManifestContent},
    observe::{Event, Progress, Task},
    outcome::{ExternalizedCheckpointCleanup, JobOutcome},
    reclaim::{
        Plan,
        forget::{self, Reclaimed},
    },
    recover::{self, Orphans},
};

impl Store {
    /// Forgets a checkpoint, durably: it is gone when this returns, and so is the data that nothing else refers to.
    /// What an open [`Checkpoint`](crate::Checkpoint) refers to goes when that is dropped. What a checkpoint referred
    /// to that could not be read goes as well, once there is no other such checkpoint.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none. `is_in_use` if another process reads it. `is_poisoned`, `is_fenced`. Errors of the
    /// file system; the checkpoint is still there then, unless the error `is_indeterminate`.
    pub fn forget(&self, id: CheckpointId) -> Result<Reclaimed> {
        if !self.0.registry.is_published(id) {
            return Err(no_such_checkpoint("forget", id));
        }
        let report = self.forget_planned(&Plan::One(id))?;
        if report.in_use.contains(&id) {
            return Err(Error::new(format!("forget checkpoint {id}"), Cause::InUse(id)));
        }
        Ok(report)
    }

    /// Forgets all but the newest `keep` valid checkpoints, durably; at least one valid one stays.
    ///
    /// Damaged checkpoints and those that were rolled back do not count as kept, and go, unless no valid one is left.
    /// [Pinned](Self::pin) ones and savepoints stay, and savepoints do not count. Those that merely could not be read, or
    /// were written by a newer version, stay, and so do those that another process reads.
    ///
    /// Those that are to count as kept are looked at first, [quickly](Validation::Quick): a data file that
    /// was lost since the store was opened does not let older ones go. Whether every byte of them is right only
    /// [`validate`](Self::validate) in full tells.
    ///
    /// # Errors
    ///
    /// `is_poisoned`, `is_fenced`; errors of the file system while making the removal durable. What merely could not be
    /// removed is in the report. Errors that keep it from looking at a checkpoint and say nothing of it, such as too few
    /// descriptors: nothing was removed then.
    pub fn prune(&self, keep: usize) -> Result<Reclaimed> {
        let unreadable = self.look_at_newest(keep.max(1))?;
        self.forget_planned(&Plan::Retention(Retention::newest(keep), unreadable))
    }

    /// Finds out what is lost of the newest so many checkpoints that are valid, as far as is known, and of older ones in
    /// their place. Returns those that cannot be used now, and may be another time: they neither count nor go.
    fn look_at_newest(&self, keep: usize) -> Result<BTreeSet<CheckpointId>> {
        let (mut valid, mut unusable) = (0, BTreeSet::new());
        if self.0.registry.planned(&Plan::Retention(Retention::newest(keep), BTreeSet::new())).is_empty() {
            return Ok(unusable);
        }
        let mut progress = Progress::new(Task::CheckFiles, keep, 0);
        for id in self.0.registry.counted().into_iter().rev() {
            if self.validate(id, Validation::Quick)?.is_valid() {
                valid += 1;
                progress.done(0);
                self.0.volume.observer().progress(progress);
            } else {
                unusable.insert(id);
            }
            if valid == keep {
                break;
            }
        }
        Ok(unusable)
    }

    /// The job has ended: forgets the checkpoints that do not stay for this outcome by this rule, durably, and closes this
    /// clone of the store as [`close`](Self::close) does.
    ///
    /// Savepoints, [pinned](Self::pin) checkpoints, and those of which it is not known what they are stay whatever happens,
    /// and so do those that another process reads, which are in the report.
    ///
    /// # Errors
    ///
    /// `is_poisoned`, `is_fenced`; errors of the file system while making the removal durable. What merely could not be
    /// removed is in the report, and the next open removes it; so is it that the ids of aborted attempts may be given
    /// out again.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{ExternalizedCheckpointCleanup::RetainOnCancellation, JobOutcome, Manifest, Store};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.begin_next()?.commit(Manifest::builder())?;
    /// let kept = store.end_job(JobOutcome::Failed, RetainOnCancellation)?;
    /// assert!(kept.checkpoints.is_empty());
    ///
    /// let store = Store::open(dir.path())?;
    /// let gone = store.end_job(JobOutcome::Finished, RetainOnCancellation)?;
    /// assert_eq!(gone.checkpoints.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn end_job(self, outcome: JobOutcome, cleanup: ExternalizedCheckpointCleanup) -> Result<Reclaimed> {
        self.wind_up(&Plan::EndOfJob(cleanup, outcome))
    }

    pub(super) fn forget_planned(&self, plan: &Plan) -> Result<Reclaimed> {
        let Inner { volume, journal, registry, .. } = &*self.0;
        let _verb = self.verb();
        let was_unknown = registry.unknown().is_some();
        registry.recheck_links();
        let mut report = forget::forget(registry, journal, plan)?;
        // Now that everybody knows what is referred to: what the unreadable ones referred to alone goes as well.
        if was_unknown && registry.unknown().is_none() {
            match recover::cleanup(volume, journal, registry, false) {
                Ok(orphans) => {
                    report.files += orphans.files.len() as u64;
                    report.bytes = report.bytes.saturating_add(orphans.bytes);
                    report.failures.extend(orphans.failures);
                }
                // The checkpoints are gone all the same.
                Err(error) => report.failures.push(error),
            }
        }
        self.0.publisher.close_removed();
        let Reclaimed { checkpoints, in_use, .. } = &report;
        if !checkpoints.is_empty() || !in_use.is_empty() {
            let (checkpoints, in_use) = (checkpoints.clone(), in_use.clone());
            volume.observer().note(|| Event::Forgotten { checkpoints, in_use });
        }
        Ok(report)
    }

    /// Exempts a checkpoint from [`prune`](Self::prune) and automatic retention, durably, until it is unpinned.
    /// [`forget`](Self::forget) still forgets it.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none, `is_corrupt` if its record is lost; `is_poisoned`, `is_fenced`; errors of the
    /// file system. The checkpoint is pinned or not as before, unless the error `is_indeterminate`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options};
    /// # let store = Options::memory().open("state")?;
    /// let first = store.begin_next()?.commit(Manifest::builder())?.id();
    /// store.begin_next()?.commit(Manifest::builder())?;
    /// store.pin(first)?;
    /// assert!(store.prune(1)?.checkpoints.is_empty());
    /// assert_eq!(store.checkpoint_ids().len(), 2);
    /// store.unpin(first)?;
    /// assert_eq!(store.prune(1)?.checkpoints, [first]);
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn pin(&self, id: CheckpointId) -> Result<()> {
        self.set_pinned("pin", id, true)
    }

    /// Takes a [`pin`](Self::pin) back, durably. Of one that is not pinned it does nothing.
    ///
    /// # Errors
    ///
    /// Those of [`pin`](Self::pin).
    pub fn unpin(&self, id: CheckpointId) -> Result<()> {
        self.set_pinned("unpin", id, false)
    }

    fn set_pinned(&self, verb: &str, id: CheckpointId, pinned: bool) -> Result<()> {
        self.update(verb, id, |_, was| Ok((None, if was == pinned { was } else { pinned })))
    }

    /// The [pinned](Self::pin) checkpoints, ascending.
    #[must_use]
    pub fn pinned(&self) -> Vec<CheckpointId> {
        self.0.registry.pinned()
    }

    /// Replaces what may change of a committed checkpoint: the commit status of its sinks, and the engine's metadata. All
    /// else must be what is committed. When it returns the change is durable; a crash before leaves the old or the new
    /// one. A [`Checkpoint`](crate::Checkpoint) that is open keeps the manifest that it was opened with.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none, `is_invalid` if anything else differs, `is_corrupt` if its record is lost;
    /// `is_poisoned`, `is_fenced`; errors of the file system. Nothing has changed then, unless the error
    /// `is_indeterminate`.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Manifest, Options, SinkCommitStatus};
    ///
    /// let store = Options::memory().open("state")?;
    /// let manifest = Manifest::builder().sink_status("out", SinkCommitStatus::Pending);
    /// let checkpoint = store.begin_next()?.commit(manifest)?;
    /// // The sink has committed its part:
    /// let manifest = checkpoint.manifest().clone().with_sink_status("out", SinkCommitStatus::Committed);
    /// store.update_manifest(&manifest)?;
    /// assert_eq!(store.checkpoint(checkpoint.id())?.manifest(), &manifest);
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn update_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.update("update", manifest.id(), |stored, pinned| Ok((Some(changes(stored, manifest)?), pinned)))
    }

    /// `change` gets a checkpoint as it is, and whether it is pinned, and says what of it is to change.
    fn update(
        &self,
        verb: &str,
        id: CheckpointId,
        change: impl FnOnce(&Manifest, bool) -> Result<(Option<Changeable>, bool)>,
    ) -> Result<()> {
        let Inner { volume, journal, registry, .. } = &*self.0;
        let operation = format!("{verb} checkpoint {id} in");
        let _verb = self.verb();
        let mut turn = journal.turn();
        // Also if nothing is to be changed: another process may have taken the store over, and have changed it.
        volume.check_writable(&operation)?;
        journal.check_not_fenced(&operation)?;
        let stored = journal.manifest(id)?.ok_or_else(|| no_such_checkpoint(verb, id))?;
        let (is, pinned) = (Changeable::of(&stored.content), registry.is_pinned(id));
        let (will_be, will_be_pinned) = change(&stored, pinned)?;
        let will_be = will_be.unwrap_or_else(|| is.clone());
        if (&will_be, will_be_pinned) != (&is, pinned) {
            turn.update(&operation, id, will_be_pinned, &will_be)?;
            registry.note_pinned(id, will_be_pinned);
            if will_be_pinned != pinned {
                volume.observer().note(|| Event::Pinned { checkpoint: id, pinned: will_be_pinned });
            }
        }
        Ok(())
    }

    /// Goes back to an older checkpoint, durably: [`latest`](Self::latest) answers this one, or an older one should it be
    /// damaged, until a newer one is committed. The newer ones stay, and can be opened by their ids, until they are pruned;
    /// ids go on above them. To roll back to one of them, the newest as well, takes that back.
    ///
    /// # Errors
    ///
    /// Those of [`checkpoint`](Self::checkpoint) if it cannot be used; `is_poisoned`, `is_fenced`; errors of the file
    /// system. Nothing has changed then, unless the error `is_indeterminate`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options};
    /// # let store = Options::memory().open("state")?;
    /// let [first, second] = [1, 2].map(|_| store.begin_next().unwrap().commit(Manifest::builder()).unwrap().id());
    /// store.rollback_to(first)?;
    /// assert_eq!(store.latest()?.unwrap().id(), first);
    /// assert_eq!(store.checkpoint_ids(), [first, second]);
    /// let third = store.begin_next()?.commit(Manifest::builder())?.id();
    /// assert_eq!(store.latest()?.unwrap().id(), third);
    /// assert_eq!(store.prune(2)?.checkpoints, [second]);
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn rollback_to(&self, id: CheckpointId) -> Result<()> {
        let Inner { volume, journal, registry, .. } = &*self.0;
        let _verb = self.verb();
        volume.check_writable("roll back")?;
        self.checkpoint(id)?;
        let mut turn = journal.turn();
        volume.check_writable("roll back")?;
        journal.check_not_fenced("roll back")?;
        let ranges = registry.roll_back_to(id)?;
        if turn.look(|history| *history.rolled_back() != ranges) {
            turn.roll_back(&ranges)?;
            registry.note_rolled_back(ranges);
            volume.observer().note(|| Event::RolledBack { to: id });
        }
        Ok(())
    }

    /// Forgets every checkpoint above an id, durably and all at once: those of a time line that is given up, perhaps after
    /// [`rollback_to`](Self::rollback_to). Savepoints and [pinned](Self::pin) checkpoints among them go as well; those that
    /// another process reads stay, and are in the report. Ids go on above them.
    ///
    /// # Errors
    ///
    /// `is_poisoned`, `is_fenced`; errors of the file system. All are still there then, unless the error
    /// `is_indeterminate`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options};
    /// # let store = Options::memory().open("state")?;
    /// let [first, second, third] =
    ///     [1, 2, 3].map(|_| store.begin_next().unwrap().commit(Manifest::builder()).unwrap().id());
    /// assert_eq!(store.forget_above(first)?.checkpoints, [second, third]);
    /// assert_eq!(store.begin_next()?.id().get(), 4);
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn forget_above(&self, id: CheckpointId) -> Result<Reclaimed> {
        self.forget_planned(&Plan::Above(id))
    }

    /// What the automatic retention ([`Options::retain`](crate::Options::retain),
    /// [`Options::retain_for`](crate::Options::retain_for)) did with the last commit: which checkpoints went, and which
    /// data.
    pub fn last_retention(&self) -> Reclaimed {
        self.0.publisher.last_retention.lock().clone()
    }

    /// Finds files that only this store can have made and that nobody refers to, and removes them unless it is only to
    /// tell: data files that no checkpoint, pending checkpoint or reader refers to, leftovers of crashed processes.
    ///
    /// Opening a store does the same, so there is something only after a removal failed, after a checkpoint was pruned
    /// that could not be read, or after the part of a [member](crate::Member) came to nothing. A file of a member is
    /// deleted once the store has accepted a later part of that member. Files that are being written are left alone,
    /// and so is every name that is not ours. While a record is lost no data file is looked at: it may have named any
    /// of them.
    ///
    /// # Errors
    ///
    /// `is_poisoned`, `is_fenced`; errors of the file system while looking. What merely could not be removed is in the
    /// report.
    pub fn cleanup_orphans(&self, dry_run: bool) -> Result<Orphans> {
        let _verb = self.verb();
        recover::cleanup(&self.0.volume, &self.0.journal, &self.0.registry, dry_run)
    }
}

/// What may change of a checkpoint, as it is to be; refuses if anything else differs.
fn changes(stored: &Manifest, to: &Manifest) -> Result<Changeable> {
    let (id, ours) = (stored.id, &stored.content);
    let mut theirs = ManifestContent { epoch: Some(to.epoch()), ..to.content.clone() };
    theirs.vnode_count = theirs.vnode_count.or(ours.vnode_count);
    let mut allowed = ours.clone();
    Changeable::of(&theirs).apply(&mut allowed);
    if to.id != id || theirs != allowed {
        let why = "only the status of sinks and the metadata of a checkpoint may change";
        return Err(Error::invalid(format!("update checkpoint {id}"), why));
    }
    Ok(Changeable::of(&theirs))
}
