//! Events for the `log` crate.

use log::Level;

use super::{Event, Weight};

/// An observer that writes each event to the [`log`] crate, with the target `piton`: details as `debug`, the others as `info`,
/// `warn` and `error`.
///
/// # Examples
///
/// ```
/// let store = piton::Options::memory().observer(piton::observe::to_log()).open("state")?;
/// # Ok::<(), piton::Error>(())
/// ```
pub fn to_log() -> impl Fn(&Event) + Send + Sync + 'static {
    |event| {
        let level = match event.weight() {
            Weight::Detail => Level::Debug,
            Weight::Info => Level::Info,
            Weight::Warning => Level::Warn,
            Weight::Error => Level::Error,
        };
        log::log!(target: "piton", level, "{event}");
    }
}
