//! How the command line calls a state of a manifest.

use piton::{Manifest, StateName, StateRef};

/// A named state by its name. All others begin with `@`: `@sidecar`, `@OPERATOR/coordinator`, `@OPERATOR/PARTITION/snapshot`,
/// `@OPERATOR/PARTITION/delta/N`, `@OPERATOR/PARTITION/state/NAME`.
pub(crate) fn of(name: &StateName<'_>) -> String {
    match name {
        StateName::Named(name) => (*name).to_owned(),
        StateName::Sidecar => "@sidecar".to_owned(),
        StateName::Coordinator(operator) => format!("@{operator}/coordinator"),
        StateName::Snapshot(operator, partition) => format!("@{operator}/{partition}/snapshot"),
        StateName::Delta(operator, partition, n) => format!("@{operator}/{partition}/delta/{n}"),
        StateName::Partition(operator, partition, name) => format!("@{operator}/{partition}/state/{name}"),
    }
}

/// The state with this address. A named state comes first, if its name looks like an address.
pub(crate) fn find<'a>(manifest: &'a Manifest, address: &str) -> Option<StateRef<'a>> {
    let is_named = |state: &StateRef<'_>| matches!(state.name, StateName::Named(name) if name == address);
    let named = manifest.state(address).and_then(|_| manifest.all_states().find(is_named));
    named.or_else(|| manifest.all_states().find(|state| of(&state.name) == address))
}
