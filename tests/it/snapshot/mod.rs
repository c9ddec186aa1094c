//! Snapshots in two phases: the rules F1 to F4, each with one row a clause. What is fenced off here: resources that are
//! released never, twice, or while somebody uses them; a second copy whose failure is the first one's.

mod duplicating;
mod interleave;
mod result;
mod stress;
mod task;

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use piton::{
    CheckpointId, CheckpointKind, Error, Result, Scope, StateHandle, Store,
    contract::{
        CheckpointOptions, CheckpointStream, CheckpointStreamFactory, SnapshotResources, SnapshotResult,
        SnapshotStrategy, SnapshotSupplier, StateObject,
    },
};

/// What happened, in order.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Resources that count how often they are released.
struct Counted {
    releases: Arc<AtomicUsize>,
    log: Log,
}

impl SnapshotResources for Counted {
    fn release(&mut self) {
        self.log.add("released");
        self.releases.fetch_add(1, Ordering::SeqCst);
    }
}

/// A state that counts how often it is discarded.
#[derive(Debug)]
struct Traced {
    handle: StateHandle,
    discards: Arc<AtomicUsize>,
}

impl StateObject for Traced {
    fn size(&self) -> u64 {
        self.handle.len()
    }

    fn discard(&mut self) -> Result<()> {
        self.discards.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

type Act = dyn Fn(&dyn CheckpointStreamFactory) -> Result<StateHandle> + Send + Sync;

/// Says when it goes.
struct Farewell(Log);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.add("supplier gone");
    }
}

/// A strategy whose second phase does what it is told.
struct Told {
    act: Arc<Act>,
    releases: Arc<AtomicUsize>,
    discards: Arc<AtomicUsize>,
    log: Log,
    prepare_fails: bool,
    asynchronous_part_fails: bool,
}

impl Told {
    fn new(act: impl Fn(&dyn CheckpointStreamFactory) -> Result<StateHandle> + Send + Sync + 'static) -> Self {
        let (releases, discards, log) = (Arc::default(), Arc::default(), Log::default());
        Self { act: Arc::new(act), releases, discards, log, prepare_fails: false, asynchronous_part_fails: false }
    }

    fn releases(&self) -> usize {
        self.releases.load(Ordering::SeqCst)
    }

    fn discards(&self) -> usize {
        self.discards.load(Ordering::SeqCst)
    }
}

impl SnapshotStrategy for Told {
    type Resources = Counted;
    type State = Traced;

    fn sync_prepare_resources(&self, id: CheckpointId) -> Result<Counted> {
        self.log.add(format!("prepare {id}"));
        if self.prepare_fails {
            return Err(Error::invalid("prepare", "told so"));
        }
        Ok(Counted { releases: Arc::clone(&self.releases), log: self.log.clone() })
    }

    fn async_snapshot(
        &self,
        _: &Counted,
        id: CheckpointId,
        timestamp_ms: u64,
        _: &dyn CheckpointStreamFactory,
        options: &CheckpointOptions,
    ) -> Result<SnapshotSupplier<Counted, Traced>> {
        self.log.add(format!("snapshot {id} at {timestamp_ms} {:?}", options.kind()));
        if self.asynchronous_part_fails {
            return Err(Error::invalid("snapshot", "told so"));
        }
        let (act, farewell, discards) = (Arc::clone(&self.act), Farewell(self.log.clone()), Arc::clone(&self.discards));
        Ok(Box::new(move |_, streams| {
            farewell.0.add("supply");
            let state = Traced { handle: act(streams)?, discards: Arc::clone(&discards) };
            let local = Traced { handle: state.handle.clone(), discards };
            SnapshotResult::stored(state).with_local(local)
        }))
    }
}

fn write(streams: &dyn CheckpointStreamFactory, bytes: &[u8]) -> Result<StateHandle> {
    streams.write(Scope::Shared, bytes)
}

fn plain() -> CheckpointOptions {
    CheckpointOptions::aligned(CheckpointKind::Checkpoint)
}

/// Streams of a pending checkpoint that goes on for as long as they do.
fn streams(store: &Store) -> (piton::PendingCheckpoint, Arc<dyn CheckpointStreamFactory>) {
    let pending = store.begin_next().unwrap();
    let streams = Arc::new(pending.streams());
    (pending, streams)
}

/// What a panic said.
fn panic_of<T>(act: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(act)).err().unwrap();
    payload.downcast::<&str>().map_or_else(|_| "something else".to_owned(), |text| (*text).to_owned())
}

/// A stream that fails as told; somebody else has what it got, and can see by it whether the stream is still there.
#[derive(Debug, Default)]
struct Flaky {
    written: Arc<Mutex<Vec<u8>>>,
    /// Takes so many bytes a call at most.
    short: Option<usize>,
    /// Fails once it has so many bytes.
    fails_at: Option<usize>,
    /// Fails in this verb.
    fails_in: &'static str,
    /// The first call is interrupted.
    interrupted: bool,
}

impl Write for Flaky {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if std::mem::take(&mut self.interrupted) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let mut written = self.written.lock().unwrap();
        if self.fails_at.is_some_and(|at| written.len() + bytes.len() > at) {
            return Err(std::io::Error::from_raw_os_error(5));
        }
        let bytes = &bytes[..bytes.len().min(self.short.unwrap_or(usize::MAX))];
        written.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.fails_in == "flush" { Err(std::io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

impl CheckpointStream for Flaky {
    fn position(&self) -> u64 {
        self.written.lock().unwrap().len() as u64
    }

    fn sync(&mut self) -> Result<()> {
        if self.fails_in == "sync" { Err(Error::invalid("sync", "told so")) } else { Ok(()) }
    }

    fn finish(self: Box<Self>) -> Result<StateHandle> {
        if self.fails_in == "finish" {
            return Err(Error::invalid("finish", "told so"));
        }
        Ok(StateHandle::inline(&self.written.lock().unwrap()))
    }
}
