//! What is wrong with something that a caller handed in, where a caller may want to tell one fault from another.

use crate::id::CheckpointId;

/// What is wrong with a [pointer to a checkpoint](crate::contract::CheckpointPointer): see
/// [`Error::pointer_fault`](crate::Error::pointer_fault).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerFault {
    /// There is no text.
    #[error("the pointer is empty: name the directory of a store, or a checkpoint in it")]
    Empty,
    /// Whatever is there, this is no pointer to a checkpoint.
    #[error(
        "this is no path to a checkpoint: name the directory of a store or of an export, or a checkpoint in it, as in \
         state/00000000000000000042"
    )]
    Malformed,
    /// It could be one, but there is no checkpoint.
    #[error("there is no checkpoint")]
    Missing,
}

/// Why a store refuses the [part](crate::Part) of a member: see [`Error::part_fault`](crate::Error::part_fault).
///
/// A part that is refused is lost, and the coordinator aborts the checkpoint, but in two cases: after
/// [`OtherBase`](Self::OtherBase) it commits again with a manifest of the right base, and a part of
/// [another checkpoint](Self::OtherCheckpoint) is good for that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartFault {
    /// Another store admitted the member.
    #[error("another store admitted the member")]
    OtherStore,
    /// The store was opened anew since it admitted the member: the member must join again.
    #[error("generation {found} admitted the member, the store has generation {ours} now: the member must join again")]
    OtherGeneration {
        /// The generation of the store.
        ours: u64,
        /// The generation that admitted the member.
        found: u64,
    },
    /// The store admitted no member of this number.
    #[error("the store admitted no such member")]
    NotAdmitted,
    /// The coordinator dismissed the member before.
    #[error("the member was dismissed: it must join again with a new membership")]
    Dismissed,
    /// The part belongs to another checkpoint.
    #[error("the part belongs to checkpoint {0}")]
    OtherCheckpoint(CheckpointId),
    /// The store accepted a part before that the member had prepared later, so that the states of this one may be gone.
    #[error(
        "part {number} comes too late: part {last} of the member, which was prepared after it, was accepted before"
    )]
    Late {
        /// The number of the part. A member numbers its parts in the order of their preparation.
        number: u64,
        /// The highest number that was accepted.
        last: u64,
    },
    /// The part has changes since another checkpoint than the one that the manifest is based on.
    #[error("its changes are {}, but the manifest is {}", based_on(*.since), based_on(*.base))]
    OtherBase {
        /// The checkpoint that the changes are based on; `None` for a part that names everything.
        since: Option<CheckpointId>,
        /// The checkpoint that the manifest is based on.
        base: Option<CheckpointId>,
    },
}

fn based_on(base: Option<CheckpointId>) -> String {
    base.map_or_else(|| "based on no checkpoint".to_owned(), |base| format!("based on checkpoint {base}"))
}
