//! A thousand snapshots on eight helper threads, cancelled at random, against one store on a real disk. What is fenced off
//! here: a file, a lane, a descriptor, a pending checkpoint that nobody gives back.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use piton::{
    CheckpointId, Durability, Error, Manifest, Options, Result, Scope, StateHandle, Store,
    contract::{
        CheckpointOptions, CheckpointStreamFactory, SnapshotResources, SnapshotResult, SnapshotStrategy,
        SnapshotSupplier,
    },
    snapshot::{ExecutionKind, SnapshotRunner, SnapshotTask},
};

use super::plain;
use crate::support::bytes;

const HELPERS: usize = 8;
const SNAPSHOTS: u64 = 1000;
const PARTS: u64 = 10;

/// Releases and uses, over all snapshots.
#[derive(Debug, Default)]
struct Count {
    prepared: AtomicUsize,
    released: AtomicUsize,
}

/// A part of an engine: some states anew each time, some from the last checkpoint.
struct Part {
    number: u64,
    previous: Mutex<Vec<(String, StateHandle)>>,
    count: Arc<Count>,
}

struct Prepared {
    round: u64,
    previous: Vec<(String, StateHandle)>,
    count: Arc<Count>,
}

impl SnapshotResources for Prepared {
    fn release(&mut self) {
        self.count.released.fetch_add(1, Ordering::SeqCst);
    }
}

/// The seed and the length of a state are in its name.
fn name(part: u64, n: u64, round: u64) -> String {
    let len = [300, 2_000, 9_000, 70_000, 200_000][((part + n + round) % 5) as usize];
    format!("{part}-{n}/{}/{len}", round * 1000 + part * 10 + n)
}

fn content(name: &str) -> Vec<u8> {
    let mut parts = name.split('/').skip(1).map(|part| part.parse::<u64>().unwrap());
    bytes(parts.next().unwrap(), parts.next().unwrap() as usize)
}

impl SnapshotStrategy for Part {
    type Resources = Prepared;
    type State = BTreeMap<String, StateHandle>;

    fn sync_prepare_resources(&self, id: CheckpointId) -> Result<Prepared> {
        self.count.prepared.fetch_add(1, Ordering::SeqCst);
        Ok(Prepared {
            round: id.get(),
            previous: self.previous.lock().unwrap().clone(),
            count: Arc::clone(&self.count),
        })
    }

    fn async_snapshot(
        &self,
        _: &Prepared,
        _: CheckpointId,
        _: u64,
        _: &dyn CheckpointStreamFactory,
        _: &CheckpointOptions,
    ) -> Result<SnapshotSupplier<Prepared, Self::State>> {
        let part = self.number;
        Ok(Box::new(move |prepared, streams| {
            let mut states = BTreeMap::new();
            for n in 0..4 {
                let kept = prepared.previous.iter().find(|(name, _)| name.starts_with(&format!("{part}-{n}/")));
                let kept = kept.filter(|(_, handle)| (prepared.round + n) % 3 > 0 && streams.could_reuse(handle));
                let (name, handle) = if let Some((name, handle)) = kept {
                    (name.clone(), streams.reuse_previous(std::slice::from_ref(handle))?.remove(0))
                } else {
                    let name = name(part, n, prepared.round);
                    let mut stream = streams.create_stream(if n == 0 { Scope::Exclusive } else { Scope::Shared })?;
                    for piece in content(&name).chunks(10_000) {
                        stream.write_all(piece).map_err(Error::from_writer)?;
                    }
                    (name, stream.finish()?)
                };
                states.insert(name, handle);
            }
            Ok(SnapshotResult::stored(states))
        }))
    }
}

/// How many descriptors of this process are of files under a directory.
fn open_under(dir: &Path) -> usize {
    let Ok(all) = fs::read_dir("/proc/self/fd") else { return 0 };
    all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).filter(|path| path.starts_with(dir)).count()
}

type Task = SnapshotTask<BTreeMap<String, StateHandle>>;
type Done = (u64, Result<SnapshotResult<BTreeMap<String, StateHandle>>>);

struct Engine {
    store: Store,
    parts: Vec<SnapshotRunner<Part>>,
    strategies: Vec<Arc<Part>>,
    tasks: mpsc::Sender<(u64, Task)>,
    done: mpsc::Receiver<Done>,
    random: u64,
}

impl Engine {
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// One checkpoint of all parts. Returns how many of its snapshots were cancelled; if any was, or failed, it is aborted.
    fn checkpoint(&mut self) -> usize {
        let pending = self.store.begin_next().unwrap();
        let streams: Arc<dyn CheckpointStreamFactory> = Arc::new(pending.streams());
        // Half of the checkpoints are left alone; now and then one is aborted while its snapshots run.
        let unlucky = self.random(2) == 0;
        let aborted = self.random(10) == 0;
        let (mut cancellers, mut cancelled) = (Vec::new(), 0);
        for number in 0..PARTS {
            let task = self.parts[number as usize].snapshot(pending.id(), 0, Arc::clone(&streams), &plain()).unwrap();
            let stop = task.canceller();
            // Some before they run, however fast the helpers are.
            if unlucky && self.random(8) == 0 {
                cancelled += usize::from(stop.cancel());
            } else {
                cancellers.push(stop);
            }
            self.tasks.send((number, task)).unwrap();
        }
        for canceller in cancellers.into_iter().filter(|_| unlucky) {
            if self.random(4) == 0 {
                (0..self.random(3)).for_each(|_| thread::yield_now());
                cancelled += usize::from(canceller.cancel());
            }
        }
        let mut pending = Some(pending);
        if aborted {
            pending = None;
        }
        let done: Vec<_> = (0..PARTS).map(|_| self.done.recv().unwrap()).collect();
        let failed = done.iter().filter(|(_, result)| result.is_err());
        let failed_by_cancel = failed.filter(|(_, result)| result.as_ref().is_err_and(Error::is_cancelled)).count();
        assert_eq!(failed_by_cancel, cancelled, "exactly those end as cancelled that were told so");
        let whole = done.iter().all(|(_, result)| result.is_ok());
        assert!(whole || cancelled > 0 || aborted, "{done:?}");
        if let Some(pending) = pending.filter(|_| whole) {
            self.commit(pending, done);
        }
        cancelled
    }

    fn commit(&self, pending: piton::PendingCheckpoint, done: Vec<Done>) {
        let mut manifest = Manifest::builder();
        for (number, result) in done {
            let states = result.unwrap().into_parts().0.unwrap();
            let mut previous = self.strategies[number as usize].previous.lock().unwrap();
            *previous = states.clone().into_iter().collect();
            manifest = states.into_iter().fold(manifest, |manifest, (name, handle)| manifest.state(name, handle));
        }
        pending.commit(manifest).unwrap();
    }
}

#[test]
fn thousand_snapshots_with_random_cancellation_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_size(1 << 20).write_buffer(50_000).lanes(3).retain(2);
    let options = options.durability(Durability::None);
    let store = options.clone().open(dir.path()).unwrap();
    let count = Arc::<Count>::default();
    let part = |number| Arc::new(Part { number, previous: Mutex::default(), count: Arc::clone(&count) });
    let strategies: Vec<_> = (0..PARTS).map(part).collect();
    let runner = |part: &Arc<Part>| SnapshotRunner::new(Arc::clone(part), ExecutionKind::Asynchronous);
    let (tasks, queue) = mpsc::channel::<(u64, Task)>();
    let (results, done) = mpsc::channel();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..HELPERS {
            let (queue, results) = (&queue, results.clone());
            scope.spawn(move || {
                loop {
                    let Ok((number, task)) = queue.lock().unwrap().recv() else { break };
                    results.send((number, task.run())).unwrap();
                }
            });
        }
        let parts = strategies.iter().map(runner).collect();
        let mut engine = Engine { store: store.clone(), parts, strategies, tasks, done, random: 7 };
        let cancelled: usize = (0..SNAPSHOTS / PARTS).map(|_| engine.checkpoint()).sum();
        assert!(cancelled > 20, "only {cancelled} were cancelled");
    });
    assert_eq!(count.prepared.load(Ordering::SeqCst), SNAPSHOTS as usize);
    assert_eq!(count.released.load(Ordering::SeqCst), SNAPSHOTS as usize);
    assert!(store.prune(2).unwrap().checkpoints.is_empty(), "what retention gave up went with the last commit");
    check_against_model(&store, dir.path());

    // What another process finds is the same, and nothing to clean up; what nobody refers to was removed by whoever did it.
    store.close().unwrap();
    assert_eq!(open_under(dir.path()), 0, "a descriptor is still open");
    let store = options.open(dir.path()).unwrap();
    assert!(store.open_report().removed.is_empty(), "{:?}", store.open_report());
    check_against_model(&store, dir.path());
}

/// What the checkpoints that are there name is all that is alive, and every file on disk is accounted for.
fn check_against_model(store: &Store, dir: &Path) {
    let mut alive = BTreeMap::new();
    for id in store.checkpoint_ids() {
        let checkpoint = store.checkpoint(id).unwrap();
        for (name, handle) in checkpoint.manifest().states() {
            assert_eq!(*checkpoint.read(handle).unwrap(), *content(name), "{name}");
            if !handle.is_inline() {
                alive.insert(handle.to_string(), handle.len());
            }
        }
    }
    let usage = store.usage();
    assert_eq!(usage.logical_files, alive.len() as u64);
    assert_eq!(usage.logical_bytes, alive.values().sum::<u64>());
    let files = ["shared", "exclusive"].map(|scope| fs::read_dir(dir.join(scope)).unwrap());
    let sizes: Vec<_> = files.into_iter().flatten().map(|file| file.unwrap().metadata().unwrap().len()).collect();
    let on_disk = usage.physical_bytes - usage.gathered_bytes;
    assert_eq!((sizes.len() as u64, sizes.iter().sum()), (usage.physical_files, on_disk));
    // Three lanes a scope, and no more.
    assert!(usage.open_files <= 6, "{usage:?}");
    if open_under(dir) > 0 {
        // The lock, the root, the three directories under it, the identity, what readers lock, the log, and at most two blank ones.
        let others = open_under(dir) - usage.open_files as usize;
        assert!((7..=10).contains(&others), "{others}: {usage:?}");
    }
}
