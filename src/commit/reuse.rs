//! Keeping states of earlier checkpoints that an engine names.

use std::sync::Arc;

use super::{relocate::Relocation, sequence::Publisher};
use crate::{accounts::Kind, error::Result, handle::StateHandle, write::batch::Batch};

pub(super) fn reuse(publisher: &Publisher, batch: &Arc<Batch>, handles: &[StateHandle]) -> Result<Vec<StateHandle>> {
    let (store, operation) = (publisher.journal.store(), format!("reuse states for checkpoint {}", batch.id()));
    handles.iter().try_for_each(|handle| handle.check_store(store, &operation))?;
    batch.refer(handles.iter().filter_map(StateHandle::extent), "reuse states for")?;
    if !publisher.relocation {
        return Ok(handles.to_vec());
    }
    let mut relocation = Relocation::new(publisher, batch, Kind::Relocated);
    handles.iter().map(|handle| relocation.move_if_due(handle)).collect()
}
