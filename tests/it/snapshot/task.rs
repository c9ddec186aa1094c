//! F1 and F2: the two phases, and who releases what they need.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
};

use piton::{
    Error, Manifest, Result, Scope, StateHandle,
    contract::{CheckpointStreamFactory, SnapshotResult},
    snapshot::{ExecutionKind, SnapshotEvent, SnapshotRunner, SnapshotTask},
};

use super::{Told, panic_of, plain, streams, write};
use crate::support::{bytes, memory};

fn snapshot(told: &Arc<Told>, streams: &Arc<dyn CheckpointStreamFactory>) -> Result<SnapshotTask<StateHandle>> {
    let log = told.log.clone();
    let runner = SnapshotRunner::new(Arc::clone(told), ExecutionKind::Asynchronous);
    let runner = runner.log_to(move |event| match event {
        SnapshotEvent::Written { size, .. } => log.add(format!("logged {size}")),
        SnapshotEvent::Prepared { .. } => log.add("prepared"),
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
    assert_eq!(told.log.all()[3..], ["supply", "logged 5000", "released"], "released after it was logged");
    let checkpoint = pending.commit(Manifest::builder().state("it", result.state().unwrap().clone())).unwrap();
    assert_eq!(*checkpoint.read(result.state().unwrap()).unwrap(), *bytes(1, 5_000));
}

#[test]
fn resources_are_released_once_however_it_ends() {
    type Drive = fn(Result<SnapshotTask<StateHandle>>);
    type Act = fn(&dyn CheckpointStreamFactory) -> Result<SnapshotResult<StateHandle>>;
    let good: Act = |streams| write(streams, b"state");
    let bad: Act = |_| Err(Error::invalid("write", "told so"));
    let panics: Act = |_| panic!("told so");
    let rows: &[(&str, Act, Drive)] = &[
        ("success", good, |task| assert_eq!(task.unwrap().run().unwrap().state().unwrap().len(), 5)),
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
        ("dropped before the run", good, |task| {
            let canceller = task.as_ref().unwrap().canceller();
            drop(task);
            assert!(canceller.cancel(), "to drop it is to cancel it");
        }),
    ];
    for (claim, act, drive) in rows {
        let store = memory();
        let (_pending, streams) = streams(&store);
        let told = Arc::new(Told::new(*act));
        let task = snapshot(&told, &streams);
        assert_eq!(told.releases(), 0, "{claim}: not yet");
        drive(task);
        assert_eq!(told.releases(), 1, "{claim}");
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
fn log_that_panics_costs_the_result_and_not_the_resources() {
    let store = memory();
    let (_pending, streams) = streams(&store);
    let told = Arc::new(Told::new(|streams| write(streams, b"state")));
    let runner = SnapshotRunner::new(Arc::clone(&told), ExecutionKind::Asynchronous);
    let runner = runner.log_to(|event| assert!(!matches!(event, SnapshotEvent::Written { .. }), "told so"));
    let task = runner.snapshot(piton::CheckpointId::FIRST, 0, streams, &plain()).unwrap();
    panic_of(|| task.run());
    assert_eq!(told.releases(), 1);
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
        assert_eq!(told.releases(), releases);
    }
}

#[test]
fn cancel_during_the_run_fails_every_call_of_its_streams_and_ends_it_as_cancelled() {
    type Verb = fn(&dyn CheckpointStreamFactory, Box<dyn piton::contract::CheckpointStream>) -> Result<()>;
    let verbs: &[(&str, Verb)] = &[
        ("write", |_, mut stream| stream.write_all(b"more").map_err(Error::from_writer)),
        ("flush", |_, mut stream| stream.flush().map_err(Error::from_writer)),
        ("sync", |_, mut stream| stream.sync()),
        ("finish", |_, stream| stream.finish().map(drop)),
        ("create", |streams, _| streams.create_stream(Scope::Shared).map(drop)),
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
        let verb = *verb;
        let told = Arc::new(Told::new(move |streams| {
            let mut stream = streams.create_stream(Scope::Shared)?;
            stream.write_all(&bytes(1, 2_000_000)).map_err(Error::from_writer)?;
            streams.check_active()?;
            begun.lock().unwrap().send(()).unwrap();
            told_to.lock().unwrap().recv().unwrap();
            let failed = verb(streams, stream);
            assert!(failed.as_ref().err().is_none_or(Error::is_cancelled), "{failed:?}");
            // Whether it gives up or not.
            Ok(SnapshotResult::stored(StateHandle::inline(if failed.is_err() { b"failed" } else { b"passed" })))
        }));
        let log = told.log.clone();
        let task = snapshot(&told, &streams).unwrap();
        let canceller = task.canceller();
        let run = thread::spawn(|| task.run());
        wait.recv().unwrap();
        assert!(canceller.cancel(), "{claim}");
        assert_eq!(told.releases(), 0, "{claim}: it is using them");
        go_on.send(()).unwrap();
        assert!(run.join().unwrap().unwrap_err().is_cancelled(), "{claim}");
        assert_eq!(told.releases(), 1, "{claim}");
        assert!(log.all().contains(&"logged 6".to_owned()), "{claim}: {:?}", log.all());
        drop(pending);
        assert_eq!(store.usage().physical_files, 0, "{claim}: what it wrote is gone");
    }
}

#[test]
fn streams_end_with_their_checkpoint_whatever_is_still_under_way() {
    let store = memory();
    let (pending, streams) = streams(&store);
    let old = pending.write(Scope::Shared, &bytes(1, 5_000)).unwrap();
    pending.commit(Manifest::builder().state("old", old.clone())).unwrap();
    assert!(streams.check_active().unwrap_err().is_invalid(), "committed");

    let (pending, streams) = self::streams(&store);
    let mut open = streams.create_stream(Scope::Shared).unwrap();
    assert!(streams.could_reuse(&old) && streams.can_fast_duplicate(&old, Scope::Exclusive).unwrap());
    assert_eq!(streams.reuse_previous(std::slice::from_ref(&old)).unwrap(), std::slice::from_ref(&old));
    drop(pending);
    assert!(open.write_all(b"more").is_err() && open.finish().is_err());
    let ended = [
        streams.create_stream(Scope::Shared).map(drop),
        streams.reuse_previous(std::slice::from_ref(&old)).map(drop),
        streams.duplicate(std::slice::from_ref(&old), Scope::Exclusive).map(drop),
        streams.check_active(),
    ];
    for result in ended {
        assert!(result.unwrap_err().is_invalid());
    }
    // A reference that nobody takes back would keep it.
    store.begin(store.next_id()).unwrap().commit(Manifest::builder()).unwrap();
    store.prune(1).unwrap();
    assert_eq!((store.usage().logical_files, store.usage().logical_bytes), (0, 0));
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
