//! piton, with its defaults, and three checkpoints kept.

use std::path::Path;

use piton::{Checkpoint, Manifest, Options, PendingCheckpoint, Scope, StateHandle, Store};

use super::ANY;
use crate::{
    Result,
    peer::{Kind, Peer, touch},
    workload::{Changes, Workload},
};

pub const PITON: Kind = Kind { name: "piton", keeps: "3", most_states: ANY, verifies: "checksums", open };

struct Piton {
    store: Store,
    threads: usize,
    newest: Option<Checkpoint>,
}

fn open(dir: &Path, workload: &Workload) -> Result<Box<dyn Peer>> {
    let store = Options::new().retain(3).open(dir)?;
    let newest = store.latest()?;
    Ok(Box::new(Piton { store, threads: workload.threads, newest }))
}

type Written = Vec<(String, StateHandle)>;

fn write(pending: &PendingCheckpoint, states: &[(usize, &str, &[u8])]) -> piton::Result<Written> {
    let write =
        |(_, name, bytes): &(usize, &str, &[u8])| Ok(((*name).to_owned(), pending.write(Scope::Shared, bytes)?));
    states.iter().map(write).collect()
}

fn write_by_threads(pending: &PendingCheckpoint, changes: &Changes, threads: usize) -> Result<Written> {
    let states: Vec<_> = changes.each().collect();
    let parts = std::thread::scope(|scope| {
        let parts = states.chunks(states.len().div_ceil(threads));
        let started: Vec<_> = parts.map(|part| scope.spawn(|| write(pending, part))).collect();
        started.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")).collect::<Vec<_>>()
    });
    let mut written = Vec::new();
    for part in parts {
        written.append(&mut part??);
    }
    Ok(written)
}

impl Peer for Piton {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        let pending = self.store.begin_next()?;
        let base = self.newest.take();
        let mut manifest = base.as_ref().map_or_else(Manifest::builder, |base| Manifest::based_on(base.manifest()));
        if self.threads > 1 {
            for (name, handle) in write_by_threads(&pending, changes, self.threads)? {
                manifest = manifest.state(name, handle);
            }
        } else {
            for (_, name, bytes) in changes.each() {
                manifest = manifest.state(name, pending.write(Scope::Shared, bytes)?);
            }
        }
        self.newest = Some(pending.commit(manifest)?);
        Ok(())
    }

    /// By links to its files.
    fn duplicate(&mut self) -> Result<bool> {
        let newest = self.store.latest()?.ok_or("there is no checkpoint")?;
        let (names, handles): (Vec<_>, Vec<_>) =
            newest.manifest().states().map(|(name, handle)| (name.to_owned(), handle.clone())).unzip();
        let pending = self.store.begin_next()?;
        let copies = pending.duplicate(&handles, Scope::Shared)?;
        let manifest = names
            .into_iter()
            .zip(copies)
            .fold(Manifest::builder(), |manifest, (name, copy)| manifest.state(name, copy));
        self.newest = Some(pending.commit(manifest)?);
        Ok(true)
    }

    /// By links to its files.
    fn export(&mut self, to: &Path) -> Result<bool> {
        let newest = self.store.latest()?.ok_or("there is no checkpoint")?;
        self.store.export(newest.id(), to)?;
        Ok(true)
    }

    fn prune(&mut self) -> Result<bool> {
        self.store.prune(1)?.failures.pop().map_or(Ok(true), |error| Err(error.into()))
    }

    fn read_all(&mut self) -> Result<u64> {
        let newest = self.store.latest()?.ok_or("there is no checkpoint")?;
        newest.views().map(|(_, view)| Ok(touch(&view?))).sum()
    }
}
