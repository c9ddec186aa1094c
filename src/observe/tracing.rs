//! Events for the `tracing` crate.

use super::{Event, Weight};

/// An observer that makes an event of the [`tracing`] crate of each event, with the target `piton` and the field `event`, its
/// [name](Event::name). Those of commits have the fields `checkpoint`, `new_bytes`, `syncs` and `micros` as well. Whether or not
/// it is used, the feature `tracing` makes spans: `commit`, `open`, `export`.
///
/// # Examples
///
/// ```
/// let store = piton::Options::memory().observer(piton::observe::to_tracing()).open("state")?;
/// # Ok::<(), piton::Error>(())
/// ```
pub fn to_tracing() -> impl Fn(&Event) + Send + Sync + 'static {
    |event| {
        let name = event.name();
        if let Event::Committed { checkpoint, new_bytes, syncs, took, .. } = event {
            let micros = u64::try_from(took.total().as_micros()).unwrap_or(u64::MAX);
            let checkpoint = checkpoint.get();
            tracing::info!(target: "piton", event = name, checkpoint, new_bytes, syncs, micros, "{event}");
            return;
        }
        match event.weight() {
            Weight::Detail => tracing::debug!(target: "piton", event = name, "{event}"),
            Weight::Info => tracing::info!(target: "piton", event = name, "{event}"),
            Weight::Warning => tracing::warn!(target: "piton", event = name, "{event}"),
            Weight::Error => tracing::error!(target: "piton", event = name, "{event}"),
        }
    }
}
