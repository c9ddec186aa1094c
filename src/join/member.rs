//! A process that writes for a store which another process has open.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::PendingPart;
use crate::{
    accounts::space::SpacePolicy,
    disk::{
        LockGuard,
        member::{self, JOIN},
        root,
        volume::Volume,
    },
    error::{Error, Result},
    format::identity::Identity,
    id::{CheckpointId, FileId},
    options::{Durability, Options},
    part::{Membership, PROTOCOL, Worn},
    reclaim::registry::Registry,
    records::IdentityFile,
    write::{allocator::Home, batch::Batch, settings::WriteSettings},
};

/// Writes states for a store that another process, the *coordinator*, has open: [`Options::join`] makes it. Cheap to clone;
/// clones share it, in any threads.
///
/// A member writes its states into data files of its own, and hands over [parts](crate::Part), which are durable. The
/// coordinator accepts the parts of all members into one checkpoint, and publishes that. A member needs no lock of the
/// store, reads with a [`ReadOnlyStore`](crate::ReadOnlyStore), and deletes only data files of its own that no part has
/// a state in.
///
/// It stays a member until the last clone and the last pending part are dropped. After that its membership is used up.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, ManifestChanges, Options, Scope};
///
/// let dir = tempfile::tempdir()?;
/// // In the coordinator:
/// let store = Options::new().open(dir.path())?;
/// let membership = store.admit()?;
///
/// // In another process, to which the engine sent the membership:
/// let member = Options::new().join(dir.path(), &membership)?;
/// # let id = store.next_id()?;
/// let pending = member.begin(id, None)?;
/// let counts = pending.write(Scope::Shared, &[7; 5000])?;
/// let part = pending.prepare(ManifestChanges::new().state("counts", counts))?;
///
/// // In the coordinator, to which the engine sent the part:
/// let pending = store.begin(id)?;
/// pending.accept(&part)?;
/// let checkpoint = pending.commit(Manifest::builder())?;
/// assert_eq!(checkpoint.get("counts")?.len(), 5000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Member(Arc<Joined>);

/// What ends with the membership.
#[derive(Debug)]
pub(super) struct Joined {
    write: Arc<WriteSettings>,
    registry: Arc<Registry>,
    volume: Arc<Volume>,
    identity: IdentityFile,
    membership: Membership,
    /// How many parts were prepared.
    parts: AtomicU64,
    /// Of the file that stands for the member.
    _lock: Box<dyn LockGuard>,
}

impl Options {
    /// Joins a store that another process has open, with a membership that [`Store::admit`](crate::Store::admit) gave
    /// there. `root` is the directory of the store as this process sees it.
    ///
    /// The membership says how durable states are, how long segments, and how states are aligned; these options count
    /// for all else that writing needs: the disk, lanes, buffers, thresholds. What they say of retention, space and the
    /// log means nothing to a member.
    ///
    /// # Errors
    ///
    /// `is_fenced` if the member was dismissed, or the store was opened anew: ask the coordinator for a new membership.
    /// `is_locked` if another process is that member, `is_invalid` if one was, or if another version of piton gave the
    /// membership. `is_not_found` if there is no store. Errors of the file system.
    pub fn join(self, root: impl AsRef<Path>, membership: &Membership) -> Result<Member> {
        let root = root::absolute(JOIN, root.as_ref())?;
        let Membership { protocol, store, generation, member, .. } = *membership;
        if protocol != PROTOCOL {
            let why = format!("the coordinator speaks version {protocol}, this piton {PROTOCOL}: use the same version");
            return Err(Error::invalid(format!("{JOIN} {}", root.display()), why));
        }
        let options = membership.options(self);
        WriteSettings::check(&options)?;
        let policy = SpacePolicy::of(&options)?;
        let syncs = options.durability != Durability::None;
        let volume = Arc::new(Volume::new(Arc::clone(&options.disk), root, syncs).observed_by(&options.observer));
        volume.open_root()?;
        let identity = IdentityFile::join(&volume, Identity { store, generation }, JOIN)?;
        let lock = member::join(&volume, generation, member)?;
        // Between the two another process may have opened the store.
        identity.check_not_fenced(JOIN)?;
        let registry = Arc::new(Registry::of_member(Arc::clone(&volume), generation, policy));
        let write = Arc::new(WriteSettings::new(&registry, Home { store, generation, member }, &options));
        let membership = *membership;
        let parts = AtomicU64::new(0);
        Ok(Member(Arc::new(Joined { write, registry, volume, identity, membership, parts, _lock: lock })))
    }
}

impl Member {
    /// The membership that it joined with.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.0.membership
    }

    /// Begins the member's part of a checkpoint that the coordinator began, or is going to begin. Several may be in the
    /// making at the same time.
    ///
    /// `since` is the checkpoint that the changes of the part are relative to, and that the coordinator's manifest will be
    /// [based on](crate::Manifest::based_on); `None` if the part will name all that the member has.
    ///
    /// # Errors
    ///
    /// `is_fenced` if the member was dismissed, or the store was opened anew; `is_poisoned` after a directory could not be
    /// synced. The process must join again then.
    pub fn begin(&self, id: CheckpointId, since: Option<CheckpointId>) -> Result<PendingPart> {
        let operation = format!("begin a part of checkpoint {id} in");
        self.0.volume.check_writable(&operation)?;
        self.0.check_member(&operation)?;
        // What still resists is tried again.
        drop(self.0.volume.retry_leftovers());
        let batch = Batch::new(id, Arc::clone(&self.0.write), self.0.registry.begin_part());
        Ok(PendingPart::new(batch, Arc::clone(&self.0), since))
    }

    /// Appends nothing more to these files: the coordinator tells which ([`Store::worn`](crate::Store::worn)). Their states
    /// can be moved out of them once the next part was accepted. Files of other members are passed over.
    pub fn shed(&self, worn: &Worn) {
        let is_ours = |file: &&FileId| self.0.membership.has_written(**file);
        if self.0.volume.opener().is_another() {
            return;
        }
        let files: BTreeSet<_> = worn.files.iter().filter(is_ours).copied().collect();
        if !files.is_empty() {
            self.0.registry.shed(&files);
            self.0.write.shed();
        }
    }
}

impl Joined {
    pub(super) fn volume(&self) -> &Volume {
        &self.volume
    }

    pub(super) fn write(&self) -> &WriteSettings {
        &self.write
    }

    pub(super) fn membership(&self) -> Membership {
        self.membership
    }

    /// The number of the next part.
    pub(super) fn next_part(&self) -> u64 {
        self.parts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Refuses once the member was dismissed, or the store was opened anew.
    pub(super) fn check_member(&self, operation: &str) -> Result<()> {
        let Membership { generation, member, .. } = self.membership;
        self.identity.check_not_fenced(operation)?;
        member::check_admitted(&self.volume, generation, member, operation)
    }
}

impl Drop for Joined {
    /// Writes what gathered in lanes, as long as others can see that a member does. Then the membership is used up: the
    /// file that stands for it is deleted while it is locked.
    fn drop(&mut self) {
        if self.volume.opener().is_another() {
            return;
        }
        self.write.seal();
        let Membership { generation, member, .. } = self.membership;
        // What cannot be deleted is deleted by the next open.
        let _ = member::dismiss(&self.volume, generation, member);
    }
}
