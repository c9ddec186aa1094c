//! A thread that counts the words of its share of the input, and takes snapshots of what it has when it is asked to.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
};

use bincode::{Decode, Encode};
use parking_lot::Mutex;
use piton::{
    CheckpointId, CheckpointStreams, Error, Scope, StateHandle,
    contract::{
        CheckpointOptions, CheckpointStreamFactory, SnapshotResources, SnapshotResult, SnapshotStrategy,
        SnapshotSupplier,
    },
    snapshot::{ExecutionKind, SnapshotRunner, SnapshotTask},
};

use crate::{
    Failure,
    counts::{Counts, encode},
    input::InputFile,
    state::{State, group_name, position_name},
    words::Splitter,
};

const CHUNK: usize = 64 * 1024;

/// How far a worker is: everything before it was counted, nothing after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Position {
    /// How many times the whole share was counted.
    pub(crate) pass: u64,
    /// Which file of the share is being counted.
    pub(crate) file: usize,
    /// How far in that file.
    pub(crate) offset: u64,
    /// How many bytes that makes, all passes together: for the progress bar.
    pub(crate) bytes: u64,
}

/// Asks for a snapshot.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) options: CheckpointOptions,
    pub(crate) streams: CheckpointStreams,
    /// The id of the checkpoint that this one goes on from; 0 for none.
    pub(crate) base: u64,
}

/// What is heard of a worker.
pub(crate) enum Report {
    Snapshot(Snapshot),
    /// It has counted everything.
    Counted,
    Failed(Failure),
}

/// Of this worker for this checkpoint: what is still to be written, or why nothing is.
pub(crate) type Snapshot = (usize, CheckpointId, Result<SnapshotTask<States>, Error>);
/// The states of a worker, by their names in the manifest.
type States = BTreeMap<String, StateHandle>;

pub(crate) struct Worker {
    number: usize,
    share: Vec<InputFile>,
    passes: u64,
    now: Mutex<Now>,
}

struct Now {
    position: Position,
    /// So many bytes before that begins a word that is not counted yet.
    partial: u64,
    counts: Counts,
    /// What the next snapshot goes on from.
    base: u64,
}

/// What the second phase of a snapshot writes: copies, so that counting goes on.
pub(crate) struct Copies {
    position: Vec<u8>,
    changed: Vec<(usize, Vec<u8>)>,
}

impl SnapshotResources for Copies {}

impl SnapshotStrategy for Worker {
    type Resources = Copies;
    type State = States;

    /// A consistent point between two chunks: the beginning of a word, and the counts of everything before it.
    fn sync_prepare_resources(&self, id: CheckpointId) -> Result<Copies, Error> {
        let now = &mut *self.now.lock();
        let Position { pass, file, offset, bytes } = now.position;
        let position = encode(&Position { pass, file, offset: offset - now.partial, bytes: bytes - now.partial })?;
        Ok(Copies { position, changed: now.counts.snapshot(id.get(), now.base)? })
    }

    /// Writes the position and the groups that changed; the manifest goes on from the newest checkpoint, which has the others.
    fn async_snapshot(
        &self,
        _: &Copies,
        _: CheckpointId,
        _: u64,
        _: &dyn CheckpointStreamFactory,
        _: &CheckpointOptions,
    ) -> Result<SnapshotSupplier<Copies, States>, Error> {
        let number = self.number;
        Ok(Box::new(move |copies, streams| {
            let position = streams.write(Scope::Exclusive, &copies.position)?;
            let mut states = States::from([(position_name(number), position)]);
            for (group, bytes) in &copies.changed {
                states.insert(group_name(number, *group), streams.write(Scope::Shared, bytes)?);
            }
            Ok(SnapshotResult::stored(states))
        }))
    }
}

impl Worker {
    /// Goes on where the newest checkpoint says.
    pub(crate) fn new(number: usize, share: Vec<InputFile>, state: &State) -> Result<Self, Failure> {
        let (position, counts) = (state.position(number)?, state.counts(number)?);
        let now = Mutex::new(Now { position, partial: 0, counts, base: 0 });
        Ok(Self { number, share, passes: state.record().passes, now })
    }

    /// Counts everything, says so, and then answers requests until nobody can make any.
    pub(crate) fn run(self, requests: &Receiver<Request>, report: impl Fn(Report)) -> Result<(), Failure> {
        let (number, worker) = (self.number, Arc::new(self));
        let runner = SnapshotRunner::new(Arc::clone(&worker), ExecutionKind::Asynchronous);
        // The first phase; the second is for whoever gets the report.
        let take_snapshot = |Request { options, streams, base }| {
            worker.now.lock().base = base;
            let id = streams.id();
            report(Report::Snapshot((number, id, runner.snapshot(id, 0, Arc::new(streams), &options))));
            Ok(())
        };
        // Once nobody can ask any more, the run has failed elsewhere.
        worker.count(|| match requests.try_recv() {
            Ok(request) => take_snapshot(request),
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => Err("stopped".into()),
        })?;
        report(Report::Counted);
        requests.iter().try_for_each(take_snapshot)
    }

    fn count(&self, between_chunks: impl Fn() -> Result<(), Failure>) -> Result<(), Failure> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let Position { pass, file, offset, .. } = self.now.lock().position;
            if pass >= self.passes {
                return Ok(());
            }
            let Some(input) = self.share.get(file) else {
                let position = &mut self.now.lock().position;
                (position.pass, position.file) = (pass + 1, 0);
                continue;
            };
            let (mut reader, mut splitter) = (input.open_at(offset)?, Splitter::default());
            loop {
                between_chunks()?;
                let read = reader.read(&mut buffer)?;
                let Now { position, partial, counts, .. } = &mut *self.now.lock();
                if read == 0 {
                    splitter.finish(|word| counts.add(word));
                    (*partial, position.file, position.offset) = (0, file + 1, 0);
                    break;
                }
                splitter.feed(&mut buffer[..read], |word| counts.add(word));
                *partial = splitter.pending();
                position.offset += read as u64;
                position.bytes += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::mpsc::channel};

    use piton::{CheckpointKind, PendingCheckpoint};

    use super::*;
    use crate::{arguments::Arguments, reference};

    /// A worker that goes on from what was saved, is asked for a snapshot at its start and after each of 2 chunks, of which
    /// the last is committed, and is stopped then. (With one chunk it would not get past a word that goes on at the end of
    /// the chunk.)
    fn live(directory: &Path, share: &[InputFile]) -> State {
        let arguments = Arguments { workers: Some(1), passes: 2, ..Arguments::default() };
        let mut state = State::open(directory, &arguments, share).unwrap();
        let ((requests, asked), (reports, reported)) = (channel(), channel());
        let (options, base) = (CheckpointOptions::aligned(CheckpointKind::Checkpoint), state.base());
        let mut pending: Vec<_> = (0..3).map(|_| state.store.begin_next().unwrap()).collect();
        for streams in pending.iter().map(PendingCheckpoint::streams) {
            requests.send(Request { options, streams, base }).unwrap();
        }
        drop(requests);
        let worker = Worker::new(0, share.to_vec(), &state).unwrap();
        let _ = worker.run(&asked, |report| reports.send(report).unwrap());
        let snapshots = reported.try_iter().filter_map(|report| match report {
            Report::Snapshot((_, _, task)) => Some(task.unwrap()),
            _ => None,
        });
        let states = snapshots.last().unwrap().run().unwrap().into_parts().0.unwrap();
        let manifest = state.manifest().unwrap();
        let manifest = states.into_iter().fold(manifest, |manifest, (name, handle)| manifest.state(name, handle));
        state.latest = Some(pending.pop().unwrap().commit(manifest).unwrap());
        state
    }

    #[test]
    fn stopping_after_every_chunk_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        // Chunk boundaries split words, and the file ends with one.
        let text = "words that go on ".repeat(3 * CHUNK / 17) + "end";
        fs::write(&path, &text).unwrap();
        let file = InputFile { path, len: text.len() as u64 };
        let share = [file.clone(), file];
        let mut lives = 1;
        while !live(&dir.path().join("state"), &share).is_finished().unwrap() {
            lives += 1;
        }
        assert!(lives > 10, "{lives}");
        let state = live(&dir.path().join("state"), &share);
        assert_eq!(state.bytes().unwrap(), 4 * text.len() as u64);
        let counted = reference::count(&share, |_| ()).unwrap();
        assert_eq!(reference::compare(&counted, &state.totals().unwrap(), 2), Ok(()));
    }
}
