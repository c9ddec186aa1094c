//! F1 and F2: the two phases, and who releases what they need.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
};

use piton::{
    Error, Manifest, Options, Result, Scope, StateHandle,
    contract::CheckpointStreamFactory,
    disk::{At, Disk},
    observe::Event,
    snapshot::{ExecutionKind, SnapshotRunner, SnapshotTask},
    testing::SimDisk,
};

use super::{Told, Traced, panic_of, plain, streams, write};
use crate::support::{ROOT, bytes, hooked::HookedDisk, memory, plain::PlainDisk};

type Task = SnapshotTask<Traced>;

fn snapshot(told: &Arc<Told>, streams: &Arc<dyn CheckpointStreamFactory>) -> Result<Task> {
    let log = told.log.clone();
    let runner = SnapshotRunner::new(Arc::clone(told), ExecutionKind::Asynchronous);
    let runner = runner.observer(move |event| match event {
        Event::SnapshotWritten { bytes, .. } => log.add(format!("logged {bytes}")),
        Event::SnapshotPrepared { .. } => log.add("prepared"),
        other => panic!("{other}"),
    });
    runner.snapshot(piton::CheckpointId::FIRST, 77, Arc::clone(streams), &plain())
}

#[test]
fn first_phase_runs_here_and_the_second_where_the_task_is() {
    let store = memory();
    let (pending, streams) = streams(&store);
    let told = Arc::new(Told::new(|streams| write(streams, &bytes(1, 5_000))));
    let task = snapshot(&told, &streams).unwrap();
    assert_eq!(told.log.all(), ["prepare 1", "prepared", "snapshot 1 at 77 Checkpoint"]);
    assert_eq!((task.checkpoint().get(), task.canceller().checkpoint().get()), (1, 1));
    let result = thread::spawn(|| task.run()).join().unwrap().unwrap();
    assert_eq!(told.log.all()[3..], ["supply", "supplier gone", "logged 5000", "released"]);
    let checkpoint = pending.commit(Manifest::builder().state("it", result.state().unwrap().handle.clone())).unwrap();
    assert_eq!(*checkpoint.read(&result.state().unwrap().handle).unwrap(), *bytes(1, 5_000));
}

#[test]
fn resources_are_released_once_however_it_ends() {
    type Drive = fn(Result<Task>);
    type Act = fn(&dyn CheckpointStreamFactory) -> Result<StateHandle>;
    let good: Act = |streams| write(streams, b"state");
    let bad: Act = |_| Err(Error::invalid("write", "told so"));
    let panics: Act = |_| panic!("told so");
    let rows: &[(&str, Act, Drive)] = &[
        ("success", good, |task| assert_eq!(task.unwrap().run().unwrap().state().unwrap().handle.len(), 5)),
        ("error", bad, |task| assert!(task.unwrap().run().unwrap_err().is_invalid())),
        ("panic", panics, |task| assert_eq!(panic_of(|| task.unwrap().run()), "told so")),
        ("cancel before the run", good, |task| {
            let task = task.unwrap();
            assert!(task.canceller().cancel());
            assert!(task.run().unwrap_err().is_cancelled());
        }),
        ("cancel twice", good, |task| {
            let canceller = task.as_ref().unwrap().canceller();
            assert!(canceller.cancel() && canceller.clone().cancel(), "cancelled it is");
        }),
        ("cancel after the run", good, |task| {
            let task = task.unwrap();
            let canceller = task.canceller();
            task.run().unwrap();
            assert!(!canceller.cancel(), "too late");
        }),
        ("cancel after a panic", panics, |task| {
            let task = task.unwrap();
            let canceller = task.canceller();
            panic_of(|| task.run());
            assert!(!canceller.cancel());
        }),
        ("dropped before the run", good, |task| drop(task)),
    ];
    for (claim, act, drive) in rows {
        let store = memory();
        let (_pending, streams) = streams(&store);
        let told = Arc::new(Told::new(*act));
        let task = snapshot(&told, &streams);
        // It keeps nothing of the snapshot.
        let _canceller = task.as_ref().unwrap().canceller();
        assert_eq!(told.releases(), 0, "{claim}: not yet");
        drive(task);
        assert_eq!((told.releases(), told.discards()), (1, 0), "{claim}");
        let log = told.log.all();
        let at = |what: &str| log.iter().position(|said| said == what);
        assert!(at("supplier gone") < at("released"), "{claim}: it may use them to the end: {log:?}");
        assert_eq!(Arc::strong_count(&told.act), 1, "{claim}: nothing of the task is left");
        assert_eq!(Arc::strong_count(&streams), 1, "{claim}: nor of its streams");
    }
}

#[test]
fn failing_first_phase_leaves_nothing_behind() {
    let store = memory();
    let (_pending, streams) = streams(&store);
    let told = Arc::new(Told { prepare_fails: true, ..Told::new(|_| unreachable!()) });
    assert!(snapshot(&told, &streams).unwrap_err().is_invalid());
    assert_eq!(told.releases(), 0, "there are none");
    let told = Arc::new(Told { asynchronous_part_fails: true, ..Told::new(|_| unreachable!()) });
    assert!(snapshot(&told, &streams).unwrap_err().is_invalid());
    assert_eq!(told.releases(), 1);
}

#[test]
fn log_that_panics_discards_the_result_and_releases_the_resources() {
    let store = memory();
    let (_pending, streams) = streams(&store);
    let told = Arc::new(Told::new(|streams| write(streams, b"state")));
    let runner = SnapshotRunner::new(Arc::clone(&told), ExecutionKind::Asynchronous);
    let runner = runner.observer(|event| assert!(!matches!(event, Event::SnapshotWritten { .. }), "told so"));
    let task = runner.snapshot(piton::CheckpointId::FIRST, 0, streams, &plain()).unwrap();
    panic_of(|| task.run());
    assert_eq!((told.releases(), told.discards()), (1, 2), "nobody got it, nor its local copy");
}

#[test]
fn synchronous_kind_has_run_before_it_returns_and_the_task_tells_what_came_of_it() {
    let store = memory();
    let (_pending, streams) = streams(&store);
    for (fails, releases) in [(false, 1), (true, 1)] {
        let told =
            Arc::new(Told::new(
                move |streams| {
                    if fails { Err(Error::invalid("write", "told so")) } else { write(streams, b"state") }
                },
            ));
        let runner = SnapshotRunner::new(Arc::clone(&told), ExecutionKind::Synchronous);
        let task = runner.snapshot(piton::CheckpointId::FIRST, 0, Arc::clone(&streams), &plain()).unwrap();
        assert_eq!(told.releases(), releases);
        assert!(!task.canceller().cancel(), "it is over");
        assert_eq!(task.run().is_err(), fails);
        assert_eq!((told.releases(), told.discards()), (releases, 0));
        let task = runner.snapshot(piton::CheckpointId::FIRST, 0, Arc::clone(&streams), &plain()).unwrap();
        drop(task);
        assert_eq!(told.discards(), if fails { 0 } else { 2 }, "nobody got it");
    }
}

#[test]
fn cancel_during_the_run_fails_every_call_of_its_streams_and_ends_it_as_cancelled() {
    type Verb = fn(&dyn CheckpointStreamFactory, Box<dyn piton::contract::CheckpointStream>) -> Result<()>;
    let verbs: &[(&str, Verb)] = &[
        ("write", |_, mut stream| stream.write_all(b"more").map_err(Error::from_writer)),
        ("write vectored", |_, mut stream| {
            stream.write_vectored(&[std::io::IoSlice::new(b"more")]).map(drop).map_err(Error::from_writer)
        }),
        ("flush", |_, mut stream| stream.flush().map_err(Error::from_writer)),
        ("sync", |_, mut stream| stream.sync()),
        ("finish", |_, stream| stream.finish().map(drop)),
        ("create", |streams, _| streams.create_stream(Scope::Shared).map(drop)),
        ("write at once", |streams, _| streams.write(Scope::Shared, b"state").map(drop)),
        ("reuse", |streams, _| streams.reuse_previous(&[]).map(drop)),
        ("duplicate", |streams, _| streams.duplicate(&[], Scope::Shared).map(drop)),
        ("can duplicate", |streams, _| streams.can_fast_duplicate(&StateHandle::inline(b""), Scope::Shared).map(drop)),
        ("check", |streams, _| streams.check_active()),
        ("none", |_, _| Ok(())),
    ];
    for (claim, verb) in verbs {
        let store = memory();
        let (pending, streams) = streams(&store);
        let (begun, wait) = mpsc::channel();
        let (go_on, told_to) = mpsc::channel::<()>();
        let (begun, told_to) = (Mutex::new(begun), Mutex::new(told_to));
        let (claim, verb) = (*claim, *verb);
        let told = Arc::new(Told::new(move |streams| {
            let mut stream = streams.create_stream(Scope::Shared)?;
            stream.write_all(&bytes(1, 2_000_000)).map_err(Error::from_writer)?;
            streams.check_active()?;
            begun.lock().unwrap().send(()).unwrap();
            told_to.lock().unwrap().recv().unwrap();
            match verb(streams, stream) {
                Ok(()) => assert_eq!(claim, "none", "a call that was to fail"),
                Err(error) => assert!(error.is_cancelled() && claim != "none", "{claim}: {error}"),
            }
            // It does not give up, whatever it was told.
            Ok(StateHandle::inline(b"state"))
        }));
        let task = snapshot(&told, &streams).unwrap();
        let canceller = task.canceller();
        let run = thread::spawn(|| task.run());
        wait.recv().unwrap();
        assert!(canceller.cancel(), "{claim}");
        assert_eq!(told.releases(), 0, "{claim}: it is using them");
        go_on.send(()).unwrap();
        assert!(run.join().unwrap().unwrap_err().is_cancelled(), "{claim}");
        assert_eq!(
            (told.releases(), told.discards()),
            (1, 2),
            "{claim}: what it made is discarded, the local copy too"
        );
        drop(pending);
        assert_eq!(store.usage().physical_files, 0, "{claim}: what it wrote is gone");
    }
}

#[test]
fn streams_end_with_their_checkpoint_whatever_is_still_under_way() {
    // With links, and where states have to be copied.
    let disks = [Options::new().disk(SimDisk::new()), Options::new().disk(PlainDisk(SimDisk::new()))];
    for options in disks {
        let store = options.open(ROOT).unwrap();
        let (pending, streams) = streams(&store);
        let old: Vec<_> = [1, 2].map(|n| pending.write(Scope::Shared, &bytes(n, 5_000)).unwrap()).to_vec();
        let manifest = Manifest::builder().state("old", old[0].clone()).state("older", old[1].clone());
        pending.commit(manifest).unwrap();
        assert!(streams.check_active().unwrap_err().is_invalid(), "committed");

        let (pending, streams) = self::streams(&store);
        let mut open = streams.create_stream(Scope::Shared).unwrap();
        assert!(streams.could_reuse(&old[0]));
        assert_eq!(streams.reuse_previous(&old[..1]).unwrap(), &old[..1]);
        streams.duplicate(&old[..1], Scope::Exclusive).unwrap();
        drop(pending);
        assert!(open.write_all(b"more").is_err() && open.finish().is_err());
        assert!(!streams.could_reuse(&old[0]) && !streams.can_fast_duplicate(&old[0], Scope::Exclusive).unwrap());
        let ended = [
            streams.create_stream(Scope::Shared).map(drop),
            streams.reuse_previous(&old).map(drop),
            streams.duplicate(&old, Scope::Exclusive).map(drop),
            streams.duplicate(&old[1..], Scope::Shared).map(drop),
            streams.duplicate(&[], Scope::Shared).map(drop),
            streams.check_active(),
        ];
        for result in ended {
            assert!(result.unwrap_err().is_invalid());
        }
        // A reference that nobody takes back would keep it.
        store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
        let _ = store.prune(1).unwrap();
        assert_eq!((store.usage().logical_files, store.usage().logical_bytes), (0, 0));
    }
}

#[test]
fn state_that_goes_while_it_is_read_for_a_checkpoint_that_has_ended_is_not_called_damaged() {
    // While a state is copied the checkpoint is aborted, and the last one that has the state is forgotten.
    let disk = HookedDisk::new();
    let options = Options::new().disk(disk.clone()).segment_size(20_000).max_space_amplification(Some(1.0));
    let store = options.punch_holes(false).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let states: Vec<_> = (0..4).map(|n| pending.write(Scope::Shared, &bytes(n, 4_000)).unwrap()).collect();
    let named = states.iter().enumerate();
    pending.commit(named.fold(Manifest::builder(), |m, (n, handle)| m.state(n.to_string(), handle.clone()))).unwrap();
    let pending = store.begin_next().unwrap();
    pending.commit(Manifest::builder().state("0", states[0].clone())).unwrap();
    let _ = store.prune(1).unwrap();
    let (pending, streams) = streams(&store);
    assert!(!streams.could_reuse(&states[0]), "its file is marked");
    let other = store.clone();
    *disk.before_open_of_a_segment.lock().unwrap() = Some(Box::new(move || {
        drop(pending);
        other.begin_next().unwrap().commit(Manifest::builder()).unwrap();
        let _ = other.prune(1).unwrap();
    }));
    let error = streams.reuse_previous(&states[..1]).unwrap_err();
    assert!(error.is_invalid(), "{error}");

    // The same while it is copied because it cannot be linked: nor is anything left of the copy.
    let pending = store.begin_next().unwrap();
    let state = pending.write(Scope::Shared, &bytes(9, 5_000)).unwrap();
    pending.commit(Manifest::builder().state("it", state.clone())).unwrap();
    let (pending, streams) = self::streams(&store);
    let other = store.clone();
    *disk.before_open_of_a_segment.lock().unwrap() = Some(Box::new(move || {
        drop(pending);
        other.begin_next().unwrap().commit(Manifest::builder()).unwrap();
        let _ = other.prune(1).unwrap();
    }));
    let error = streams.duplicate(&[state], Scope::Exclusive).unwrap_err();
    assert!(error.is_invalid(), "{error}");

    // And if the state is still there, so that the copy is complete when it turns out that nobody wants it.
    let pending = store.begin_next().unwrap();
    let state = pending.write(Scope::Shared, &bytes(10, 5_000)).unwrap();
    pending.commit(Manifest::builder().state("it", state.clone())).unwrap();
    let (pending, streams) = self::streams(&store);
    *disk.before_open_of_a_segment.lock().unwrap() = Some(Box::new(move || drop(pending)));
    let error = streams.duplicate(&[state], Scope::Exclusive).unwrap_err();
    assert!(error.is_invalid(), "{error}");
    assert!(disk.disk.list(At::new("/state/exclusive".as_ref())).unwrap().is_empty());
    let _ = store.forget(store.latest().unwrap().unwrap().id()).unwrap();
    assert_eq!(store.usage().physical_files, 0);
    assert!(disk.disk.list(At::new("/state/exclusive".as_ref())).unwrap().is_empty());
}

#[test]
fn streams_keep_the_store_open() {
    let options = Options::new().disk(SimDisk::new());
    let store = options.clone().open(ROOT).unwrap();
    let (pending, streams) = streams(&store);
    let told = Arc::new(Told::new(|streams| write(streams, b"state")));
    let task = snapshot(&told, &streams).unwrap();
    let canceller = task.canceller();
    drop((pending, streams));
    store.close().unwrap();
    assert!(options.clone().open(ROOT).unwrap_err().is_locked());
    assert!(task.run().unwrap_err().is_invalid());
    options.open(ROOT).unwrap();
    assert!(!canceller.cancel());
}

#[test]
fn strategies_of_several_kinds_run_from_one_list() {
    use piton::contract::{
        CheckpointOptions, SnapshotResources, SnapshotResult, SnapshotStrategy, SnapshotSupplier, StateObject,
    };
    type Resources = Box<dyn SnapshotResources>;
    type State = Box<dyn StateObject>;
    struct Boxed<T>(T);
    impl<T: SnapshotStrategy> SnapshotStrategy for Boxed<T> {
        type Resources = Resources;
        type State = State;
        fn sync_prepare_resources(&self, id: piton::CheckpointId) -> Result<Resources> {
            Ok(Box::new(self.0.sync_prepare_resources(id)?))
        }
        fn async_snapshot(
            &self,
            _: &Resources,
            id: piton::CheckpointId,
            _: u64,
            _: &dyn CheckpointStreamFactory,
            _: &CheckpointOptions,
        ) -> Result<SnapshotSupplier<Resources, State>> {
            let size = id.get() as usize;
            Ok(Box::new(move |_, streams| {
                Ok(SnapshotResult::stored(Box::new(vec![Some(streams.write(Scope::Shared, &bytes(1, size))?), None])))
            }))
        }
    }
    /// One without anything to give back or to write.
    struct Nothing;
    impl SnapshotStrategy for Nothing {
        type Resources = ();
        type State = StateHandle;
        fn sync_prepare_resources(&self, _: piton::CheckpointId) -> Result<()> {
            Ok(())
        }
        fn async_snapshot(
            &self,
            (): &(),
            _: piton::CheckpointId,
            _: u64,
            _: &dyn CheckpointStreamFactory,
            _: &CheckpointOptions,
        ) -> Result<SnapshotSupplier<(), StateHandle>> {
            unreachable!()
        }
    }
    type Dyn = Arc<dyn SnapshotStrategy<Resources = Resources, State = State>>;
    let store = memory();
    let (_pending, streams) = streams(&store);
    let told = Arc::new(Told::new(|_| unreachable!()));
    let list: Vec<Dyn> = vec![
        Arc::new(Boxed(Told { releases: Arc::clone(&told.releases), ..Told::new(|_| unreachable!()) })),
        Arc::new(Boxed(Nothing)),
    ];
    for strategy in list {
        let runner = SnapshotRunner::new(strategy, ExecutionKind::Synchronous);
        let task = runner.snapshot(piton::CheckpointId::FIRST, 0, Arc::clone(&streams), &plain()).unwrap();
        assert_eq!(StateObject::size(&task.run().unwrap()), 1);
    }
    assert_eq!(told.releases(), 1);
}

/// The same as in `interleave`, of whole tasks and on real threads.
#[test]
fn resources_are_released_once_whoever_runs_cancels_panics_or_drops_when() {
    let store = memory();
    let (_pending, streams) = streams(&store);
    let (mut passed, mut cancelled_in_time, mut panicked) = (0, 0, 0);
    for round in 0..2_000_u64 {
        let pause = |times| (0..times).for_each(|_| thread::yield_now());
        let told = Arc::new(Told::new(move |streams| {
            pause(round % 5);
            if round % 3 == 0 {
                std::panic::resume_unwind(Box::new(()));
            }
            write(streams, b"state")
        }));
        let task = snapshot(&told, &streams).unwrap();
        let cancellers = [0; 2].map(|_| task.canceller());
        let (ran, cancelled) = thread::scope(|scope| {
            let run = scope.spawn(move || (round % 7 > 0).then(|| task.run()));
            let cancel = cancellers.map(|canceller| {
                scope.spawn(move || {
                    pause(round % 11);
                    canceller.cancel()
                })
            });
            (run.join(), cancel.map(|cancel| cancel.join().unwrap()))
        });
        assert_eq!(told.releases(), 1, "round {round}");
        assert_eq!(cancelled[0], cancelled[1], "round {round}: both are told the same");
        match ran {
            Err(_) => panicked += 1,
            Ok(None) => assert!(cancelled[0], "round {round}: it was dropped"),
            Ok(Some(result)) => {
                assert_eq!(result.err().is_some_and(|error| error.is_cancelled()), cancelled[0], "round {round}");
                passed += usize::from(!cancelled[0]);
                cancelled_in_time += usize::from(cancelled[0]);
            }
        }
    }
    assert!(passed > 0 && cancelled_in_time > 0 && panicked > 0, "{passed} {cancelled_in_time} {panicked}");
}
