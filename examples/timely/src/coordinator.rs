//! The process that owns the store. It runs one life after another: a life ends when one of its processes ends.

use std::{
    fs::File,
    io::{Write as _, stdin, stdout},
    process::exit,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use piton::{Options, Store};

use crate::{
    Failure,
    life::{Ending, Life},
    message::{receive, send},
    process::ABANDONED,
    settings::{Blow, Event, Settings},
    trap,
};

/// How long the lock of a coordinator that was just killed may stay.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The state of the coordinator.
pub struct Coordinator {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) blob: File,
    /// How many units of input were read and published since this process began.
    pub(crate) read: u64,
    blows: Receiver<Blow>,
}

/// Runs lives until all is counted and published.
///
/// # Errors
///
/// The store failed, or the supervisor is gone.
pub fn run(settings: Settings) -> Result<(), Failure> {
    let store = Options::new().retain(3).wait_for_lock(LOCK_WAIT).open(&settings.root)?;
    let blob = tempfile::tempfile_in(&settings.root)?;
    let mut coordinator = Coordinator { settings, store, blob, read: 0, blows: blows() };
    loop {
        let mut life = Life::begin(&coordinator)?;
        let (number, workers, pids) = (coordinator.settings.life, life.workers(), life.pids());
        tell(&Event::Life { life: number, workers, pids })?;
        let blow = coordinator.blows.recv()?;
        if let Blow::Coordinator(trap) = blow {
            trap::arm(Some(trap));
        }
        let ending = life.run(&mut coordinator, blow)?;
        life.end(&coordinator)?;
        match ending {
            Ending::Finished => return tell(&Event::Finished),
            Ending::Died(why) => tell(&Event::Ended(why))?,
        }
        coordinator.settings.life += 1;
    }
}

/// What the supervisor says. When it is gone, the coordinator ends.
fn blows() -> Receiver<Blow> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stdin = stdin().lock();
        while let Ok(Some(blow)) = receive(&mut stdin) {
            if sender.send(blow).is_err() {
                return;
            }
        }
        exit(ABANDONED);
    });
    receiver
}

/// Tells the supervisor.
pub(crate) fn tell(event: &Event) -> Result<(), Failure> {
    Ok(send(&mut stdout().lock(), event)?)
}

impl Coordinator {
    /// The second half of the floor: what a publication must write at least.
    pub(crate) fn sync_publication(&mut self) -> Result<(), Failure> {
        self.blob.write_all(&vec![7; 20_000])?;
        Ok(self.blob.sync_data()?)
    }
}
