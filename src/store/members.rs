//! Other processes that write states for this store.

use super::Store;
use crate::{
    disk::member,
    error::{Cause, Error, Result},
    fault::PartFault,
    observe::Event,
    part::{Membership, PROTOCOL, Worn},
    recover::{self, Orphans},
};

impl Store {
    /// Admits a member: another process, which is going to write states for this store ([`Options::join`]). The engine sends
    /// the membership there. It is for one process alone; one that takes the place of another gets a membership of its own.
    ///
    /// A membership ends when the member leaves, when it is [dismissed](Self::dismiss), and when the store is opened anew.
    /// Nothing of this is durable, nor need be.
    ///
    /// # Errors
    ///
    /// `is_poisoned`, `is_fenced`, and those of the file system. `is_invalid` after 2^23 members of one generation.
    ///
    /// [`Options::join`]: crate::Options::join
    pub fn admit(&self) -> Result<Membership> {
        const OPERATION: &str = "admit a member to";
        let inner = &self.0;
        let _verb = self.verb();
        inner.volume.check_writable(OPERATION)?;
        inner.journal.check_not_fenced(OPERATION)?;
        let too_many = || Error::invalid(OPERATION, "there were too many; open the store anew");
        let number = inner.registry.admit().ok_or_else(too_many)?;
        let generation = inner.journal.generation();
        member::admit(&inner.volume, generation, number)?;
        inner.volume.observer().note(|| Event::Admitted { member: number });
        let (durability, segment_size, alignment) = inner.publisher.write.shared_by_members();
        let store = inner.journal.store();
        Ok(Membership { protocol: PROTOCOL, store, generation, member: number, durability, segment_size, alignment })
    }

    /// Ends a membership: the member has failed, or another process takes its place. Its later parts are refused, and it can
    /// prepare no more once it finds out. Parts of it that were accepted stay. Its data files take no more states, and those
    /// that nothing refers to are deleted. Returns which those were. To dismiss a member again looks again for such files.
    ///
    /// A process that was stopped, and goes on to write, may leave another data file that nothing refers to. The next call,
    /// [`cleanup_orphans`](Self::cleanup_orphans), and the next open delete it; the next open also deletes temporary files of
    /// members that have ended.
    ///
    /// # Errors
    ///
    /// [`part_fault`](Error::part_fault) if this generation of this store admitted no such member. `is_poisoned`, `is_fenced`,
    /// and those of the file system. What merely could not be deleted is in the report.
    pub fn dismiss(&self, membership: &Membership) -> Result<Orphans> {
        let inner = &self.0;
        let operation = format!("dismiss {membership} from");
        let _verb = self.verb();
        inner.volume.check_writable(&operation)?;
        inner.journal.check_not_fenced(&operation)?;
        let refuse = |fault| Err(Error::at(&*operation, inner.volume.root(), Cause::Part(fault)));
        let (ours, found) = (inner.journal.generation(), membership.generation());
        if membership.store() != inner.journal.store() {
            return refuse(PartFault::OtherStore);
        }
        if found != ours {
            return refuse(PartFault::OtherGeneration { ours, found });
        }
        if !inner.registry.dismiss(membership.member()) {
            return refuse(PartFault::NotAdmitted);
        }
        member::dismiss(&inner.volume, ours, membership.member())?;
        inner.volume.observer().note(|| Event::Dismissed { member: membership.member() });
        recover::clean_up_after(&inner.volume, &inner.registry, membership)
    }

    /// Files of members that hold so little that their states should be written anew. The engine sends this to its members now
    /// and then, with a message that it sends anyway, and they [shed](crate::Member::shed) the files. Otherwise a member goes
    /// on appending to a file whose states the store keeps moving out of it.
    ///
    /// # Examples
    ///
    /// ```
    /// let store = piton::Options::memory().open("state")?;
    /// assert!(store.worn().is_empty());
    /// # Ok::<(), piton::Error>(())
    /// ```
    #[must_use]
    pub fn worn(&self) -> Worn {
        self.0.registry.worn()
    }
}
