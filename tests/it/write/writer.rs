//! Writers: dropped, failing, panicking, many at once.

use std::{
    io::{self, Write},
    path::Path,
    thread,
};

use piton::{
    Durability, Error, Manifest, Options, Scope, Store,
    contract::CheckpointStreamFactory,
    disk::{At, Disk, MemoryDisk},
    testing::{Call, Fault, SimDisk},
};

use crate::support::{
    ROOT, allocations, bytes, commit_states, memory, on_every_disk, open, open_unmerged, read_states,
};

fn data_files(disk: &impl Disk) -> usize {
    ["shared", "exclusive"].iter().map(|dir| disk.list(At::new(&Path::new(ROOT).join(dir))).unwrap().len()).sum()
}

#[test]
fn states_of_every_size_around_the_buffer_come_back() {
    on_every_disk(|options, root| {
        let store = options.write_buffer(4096).open(root).unwrap();
        let sizes = [0, 1, 1023, 1024, 1025, 4095, 4096, 4097, 8192, 50_000, 3_000_000];
        let states: Vec<_> = sizes.iter().map(|len| bytes(*len as u64, *len)).collect();
        let checkpoint = commit_states(&store, &states).unwrap();
        for (name, read) in read_states(&checkpoint).unwrap() {
            assert!(read == states[name.parse::<usize>().unwrap()], "state {name}");
        }
    });
}

#[test]
fn dropped_writer_leaves_no_file_and_disturbs_no_other() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let pending = store.begin_next().unwrap();
    let mut kept = pending.writer(Scope::Shared).unwrap();
    let mut dropped = pending.writer(Scope::Shared).unwrap();
    for _ in 0..3 {
        kept.write_all(&bytes(1, 700_000)).unwrap();
        dropped.write_all(&bytes(2, 700_000)).unwrap();
    }
    assert_eq!(data_files(&disk), 2);
    drop(dropped);
    assert_eq!(data_files(&disk), 1);
    let handle = kept.finish().unwrap();
    let checkpoint = pending.commit(Manifest::builder().state("kept", handle.clone())).unwrap();
    assert!(*checkpoint.read(&handle).unwrap() == bytes(1, 700_000).repeat(3));
}

#[test]
fn panicking_writer_thread_leaves_no_file_and_the_checkpoint_can_be_committed() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let pending = store.begin_next().unwrap();
    let panicked = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut writer = pending.writer(Scope::Shared).unwrap();
            writer.write_all(&vec![1; 3_000_000]).unwrap();
            panic!("the engine's own bug");
        });
        thread.join().is_err()
    });
    assert!(panicked);
    assert_eq!(data_files(&disk), 0);
    pending.commit(Manifest::builder()).unwrap();
}

#[test]
fn failed_writer_fails_fast_with_the_same_error_and_leaves_nothing() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let pending = store.begin_next().unwrap();
    let mut writer = pending.writer(Scope::Shared).unwrap();
    disk.fail(disk.calls() + 2, Fault::Error(28)); // the first write into the file: ENOSPC
    let first = writer.write_all(&bytes(1, 2_000_000)).unwrap_err();
    assert_eq!(first.kind(), io::ErrorKind::StorageFull);
    let first = first.downcast::<Error>().unwrap();
    assert!(first.is_no_space() && first.path().unwrap().starts_with("/state/shared"), "{first}");
    let calls = disk.calls();
    assert_eq!(writer.write(b"more").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(writer.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(writer.sync().unwrap_err().is_no_space());
    assert!(writer.finish().unwrap_err().is_no_space());
    assert_eq!(disk.calls(), calls, "nothing is tried again");
    assert_eq!(data_files(&disk), 0);
    let handle = pending.write(Scope::Shared, &bytes(2, 5000)).unwrap();
    pending.commit(Manifest::builder().state("other", handle)).unwrap();
}

#[test]
fn checksum_covers_what_the_file_accepted_after_short_and_interrupted_writes() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let state = bytes(3, 100_000);
    let next = disk.calls();
    for (call, fault) in [(2, Fault::ShortWrite), (4, Fault::ShortWrite), (5, Fault::Error(4)), (6, Fault::ShortWrite)]
    {
        disk.fail(next + call, fault);
    }
    let checkpoint = commit_states(&store, std::slice::from_ref(&state)).unwrap();
    assert!(disk.count(Call::WriteAt) >= 7);
    assert!(read_states(&checkpoint).unwrap()[0].1 == state);
}

#[test]
fn state_beyond_its_cap_is_refused_at_once_and_both_sizes_are_named() {
    let store = memory();
    let pending = store.begin_next().unwrap();
    let full = vec![0; 5 * 1024 * 1024];
    assert_eq!(pending.write(Scope::Shared, &full).unwrap().len(), 5_242_880);
    let mut writer = pending.writer(Scope::Shared).unwrap();
    writer.write_all(&full).unwrap();
    let error = writer.write_all(&[0]).unwrap_err().downcast::<Error>().unwrap();
    assert!(error.is_invalid());
    assert!(error.to_string().contains("5242881") && error.to_string().contains("5242880"), "{error}");
    assert!(writer.finish().unwrap_err().is_invalid());
}

#[test]
fn writer_that_outlives_its_checkpoint_fails_and_leaves_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let pending = store.begin_next().unwrap();
    let mut writer = pending.writer(Scope::Shared).unwrap();
    writer.write_all(&vec![1; 2_000_000]).unwrap();
    drop(pending);
    let error = writer.finish().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("aborted"), "{error}");
    assert_eq!(data_files(&disk), 0);
}

#[test]
fn many_threads_write_one_checkpoint() {
    on_every_disk(|options, root| {
        let store = options.open(root).unwrap();
        let pending = store.begin_next().unwrap();
        let written = thread::scope(|scope| {
            let worker = |worker: u64| {
                let write = |n: u64| pending.write(Scope::Shared, &bytes(worker * 1000 + n, 900 + 300 * n as usize));
                (0..20).map(|n| write(n).unwrap()).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || worker(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut manifest = Manifest::builder();
        for (worker, handles) in written.iter().enumerate() {
            for (n, handle) in handles.iter().enumerate() {
                manifest = manifest.state(format!("{worker}/{n}"), handle.clone());
            }
        }
        let checkpoint = pending.commit(manifest).unwrap();
        for (name, read) in read_states(&checkpoint).unwrap() {
            let (worker, n) = name.split_once('/').unwrap();
            let (worker, n): (u64, u64) = (worker.parse().unwrap(), n.parse().unwrap());
            assert!(read == bytes(worker * 1000 + n, 900 + 300 * n as usize), "{name}");
        }
    });
}

#[test]
fn aborted_checkpoint_leaves_no_file_and_its_id_is_not_used_again() {
    let disk = MemoryDisk::new();
    let store = open_unmerged(&disk).unwrap();
    let first = store.next_id().unwrap();
    let pending = store.begin(first).unwrap();
    (0..100).for_each(|n| drop(pending.write(Scope::Exclusive, &bytes(n, 3000)).unwrap()));
    assert_eq!(data_files(&disk), 100);
    drop(pending);
    assert_eq!(data_files(&disk), 0);
    assert!(store.begin(first).unwrap_err().is_conflict());
    assert_eq!(store.next_id().unwrap(), first.next().unwrap());
    store.close().unwrap();
    assert_eq!(open(&disk).unwrap().next_id().unwrap(), first.next().unwrap());
}

#[test]
fn state_is_durable_when_its_writer_finishes_if_asked_so() {
    let disk = SimDisk::new();
    let store: Store = Options::new().disk(disk.clone()).durability(Durability::PerState).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let (files, dirs) = (disk.count(Call::SyncData), disk.count(Call::SyncDir));
    let handle = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    assert_eq!((disk.count(Call::SyncData), disk.count(Call::SyncDir)), (files + 1, dirs + 1));
    let after = disk.cut_power(piton::testing::Survival::Nothing);
    let name = after.list(At::new(Path::new("/state/shared"))).unwrap().remove(0).name;
    let file = after.open(At::new(&Path::new("/state/shared").join(name))).unwrap();
    let mut read = vec![0; 5000];
    assert_eq!(file.read_at(&mut read, 64).unwrap(), 5000);
    assert_eq!(crc32fast::hash(&read), handle.crc32());
}

#[test]
fn state_that_is_written_in_one_call_takes_no_buffer_whoever_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().durability(Durability::None).open(dir.path()).unwrap();
    let pending = store.begin_next().unwrap();
    let (streams, state) = (pending.streams(), bytes(1, 100_000));
    let of_pending: &dyn CheckpointStreamFactory = &pending;
    let of_streams: &dyn CheckpointStreamFactory = &streams;
    let during = |write: &dyn Fn()| allocations::during(|| (0..50).for_each(|_| write()));
    let write = |factory: &dyn CheckpointStreamFactory| drop(factory.write(Scope::Shared, &state).unwrap());
    let direct = during(&|| drop(pending.write(Scope::Shared, &state).unwrap()));
    for factory in [of_pending, of_streams] {
        // Lists that grow now and then are another matter.
        assert!(during(&|| write(factory)) < direct + 50);
    }
}
