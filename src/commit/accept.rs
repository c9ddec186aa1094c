//! Accepting the parts of members into a pending checkpoint.
//!
//! 1. The part must be for this checkpoint, from this store, and from this generation of it. It may not change what another
//!    part of the checkpoint changes. A part that was accepted before is accepted again, and changes nothing.
//! 2. Each file of the part must be there, and reach as far as the part says. How long the files are that the member
//!    has given up is looked up as well. Nothing is locked meanwhile. A length that a network file system remembers is
//!    looked at twice.
//! 3. Under the lock of the accounts: the member must not have been dismissed, the part must not be late, and its new
//!    states must lie where nothing else is. They are entered, held by the pending checkpoint. Then files are sealed
//!    that the member has given up. A refusal changes nothing.
//!
//! The commit makes the changes of all parts, which must be relative to the checkpoint that the manifest is based on.

use parking_lot::Mutex;

use super::{PendingCheckpoint, sequence::Publisher};
use crate::{
    accounts::{Reach, Reaches, Refused},
    disk::{layout, member},
    error::{Cause, Error, Result},
    fault::PartFault,
    handle::StateHandle,
    id::{CheckpointId, FileId},
    manifest::{Changed, ManifestBuilder},
    observe::Event,
    part::Part,
    write::batch::Batch,
};

/// The parts of a pending checkpoint.
#[derive(Debug, Default)]
pub(super) struct Parts(Mutex<Accepted>);

#[derive(Debug, Default)]
struct Accepted {
    /// In the order in which they were accepted.
    parts: Vec<Part>,
    /// What they change, each with the place of its part.
    changed: Changed,
}

impl PendingCheckpoint {
    /// Accepts the part of a member: the commit makes its changes, on top of what the manifest says. Once this returns,
    /// what the member wrote stays for as long as this checkpoint is pending, whatever becomes of the member. States of
    /// others that the part names are looked at by the commit.
    ///
    /// Parts of several members may be accepted from any threads, in any order; those of one member in the order in
    /// which they were prepared, across all checkpoints. A part that is accepted twice counts once.
    ///
    /// # Errors
    ///
    /// [`part_fault`](Error::part_fault) says why a part was refused that is late, belongs to another checkpoint, or
    /// comes from a member that was dismissed, or that another store, or an older generation of this one, admitted.
    /// `is_not_found` if a state or its file is gone: an earlier part had it, and no checkpoint refers to it any more.
    /// `is_invalid` if two parts change the same name, if the part names a state where none can be, or if the pending
    /// checkpoint has ended. `is_corrupt` if a file is too short. Errors of the file system. Nothing of the part was
    /// taken then.
    pub fn accept(&self, part: &Part) -> Result<()> {
        let _verb = self.verb();
        self.streams.publisher.volume.check_writable("accept a part in")?;
        self.parts.accept(&self.streams.publisher, self.batch(), part)
    }

    /// Whether it has accepted this part.
    pub(crate) fn has_accepted(&self, part: &Part) -> bool {
        self.parts.0.lock().parts.contains(part)
    }

    /// Whether a part that it has accepted sets or removes this state.
    pub(crate) fn is_changed_by_part(&self, state: &str) -> bool {
        self.parts.0.lock().changed.has_state(state)
    }

    /// A state that both the manifest and a part put there.
    pub(crate) fn named_twice(&self, manifest: &ManifestBuilder) -> Option<String> {
        let accepted = self.parts.0.lock();
        accepted.changed.states().find(|state| manifest.has_named(state)).map(str::to_owned)
    }

    /// Refuses unless the changes of all parts are relative to the checkpoint that the manifest is based on.
    pub(crate) fn check_base(&self, manifest: &ManifestBuilder) -> Result<()> {
        self.parts.check_base(self.id(), manifest.base_id)
    }

    /// Makes the changes of all parts in a manifest.
    pub(super) fn with_parts(&self, manifest: ManifestBuilder) -> Result<ManifestBuilder> {
        self.parts.apply(self.id(), manifest)
    }
}

fn operation(part: &Part, id: CheckpointId) -> String {
    format!("accept the part of {} in checkpoint {id}", part.membership())
}

impl Parts {
    fn accept(&self, publisher: &Publisher, batch: &Batch, part: &Part) -> Result<()> {
        let refuse = |fault| Err(Error::new(operation(part, batch.id()), Cause::Part(fault)));
        let (ours, membership) = (publisher.journal.generation(), part.membership());
        if membership.store() != publisher.journal.store() {
            return refuse(PartFault::OtherStore);
        }
        if membership.generation() != ours {
            return refuse(PartFault::OtherGeneration { ours, found: membership.generation() });
        }
        if part.checkpoint() != batch.id() {
            return refuse(PartFault::OtherCheckpoint(part.checkpoint()));
        }
        {
            let accepted = self.0.lock();
            if accepted.parts.contains(part) {
                return Ok(());
            }
            // Files that were given up may be gone: then this is why. No thread accepts a part of this checkpoint
            // meanwhile.
            publisher.registry.check_part(part).or_else(refuse)?;
        }
        for handle in part.changes().handles() {
            handle.check_store(publisher.journal.store(), &operation(part, batch.id()))?;
        }
        let files = publisher.look_at(part)?;
        let mut accepted = self.0.lock();
        if accepted.parts.contains(part) {
            return Ok(());
        }
        if let Some((name, other)) = accepted.changed.conflict(&part.changes) {
            let by = accepted.parts.get(other).map_or_else(String::new, |other| other.membership().to_string());
            let why = format!("{name} is changed by the part of {by} as well");
            return Err(Error::invalid(operation(part, batch.id()), why));
        }
        batch.accept_part(part, &files)?;
        let place = accepted.parts.len();
        accepted.changed.add(&part.changes, place);
        accepted.parts.push(part.clone());
        let (checkpoint, member) = (batch.id(), membership.member());
        publisher.volume.observer().note(|| Event::Accepted { checkpoint, member });
        Ok(())
    }

    fn apply(&self, id: CheckpointId, manifest: ManifestBuilder) -> Result<ManifestBuilder> {
        self.check_base(id, manifest.base_id)?;
        Ok(self.0.lock().parts.iter().fold(manifest, |manifest, part| manifest.apply(&part.changes)))
    }

    fn check_base(&self, id: CheckpointId, base: Option<CheckpointId>) -> Result<()> {
        let accepted = self.0.lock();
        let Some(part) = accepted.parts.iter().find(|part| part.since != base) else { return Ok(()) };
        let fault = PartFault::OtherBase { since: part.since, base };
        Err(Error::new(operation(part, id), Cause::Part(fault)))
    }
}

impl Publisher {
    /// Whether a member may still append to this file: one of this generation, or one of an older generation that lives on.
    /// A member that was dismissed and lives on is not known any more once the store was opened anew. It may append behind
    /// all states that were accepted; a link of the file gets these bytes as well, and no state of it changes.
    pub(crate) fn may_be_appended_to(&self, file: FileId) -> Result<bool> {
        let Some(number) = u32::try_from(file.member()).ok().filter(|number| *number > 0) else { return Ok(false) };
        if file.generation == self.journal.generation() {
            return Ok(self.registry.is_appended_to(file));
        }
        member::is_alive(&self.volume, file.generation, number)
    }

    /// Step 2.
    fn look_at(&self, part: &Part) -> Result<Reaches> {
        let given_up = self.registry.given_up(part).into_iter().map(|file| (file, 0));
        let mut files = Reaches::new();
        for (file, end) in given_up.chain(part.ends.iter().copied()) {
            files.insert(file, Reach { end, len: self.reaches(file, end)? });
        }
        Ok(files)
    }

    /// Looks how long a file is, which reaches at least this far.
    fn reaches(&self, file: FileId, end: u64) -> Result<u64> {
        let name = layout::segment(file);
        match self.volume.metadata(&name)? {
            Some(found) if found.len >= end => Ok(found.len),
            _ if end == 0 => Ok(0),
            // A network file system may remember another length, or that there was no file.
            _ => self.volume.open(&name)?.check_reaches(end).map(|()| end),
        }
    }
}

impl Batch {
    /// Step 3.
    fn accept_part(&self, part: &Part, files: &Reaches) -> Result<()> {
        let extents = part.own_extents();
        let operation = operation(part, self.id());
        let of = |extent| format!("{operation}: state {}", StateHandle::file(part.membership().store(), extent));
        match self.refer_to_part(|hold| hold.accept(part, &extents, files))? {
            Ok(written) => self.note_accepted(written),
            Err(Refused::Fault(fault)) => return Err(Error::new(operation, Cause::Part(fault))),
            Err(Refused::Gone(extent)) => {
                let why = "no checkpoint refers to it, or it is damaged; write it anew";
                return Err(Error::not_found(of(extent), why));
            }
            Err(Refused::Impossible(extent, why)) => return Err(Error::invalid(of(extent), why)),
        }
        Ok(())
    }
}
