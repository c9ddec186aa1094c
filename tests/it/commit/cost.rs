//! What a checkpoint costs in syncs.

use piton::{
    Manifest, Merging, Options, Scope, Store,
    disk::{At, Disk},
    testing::{Call, SimDisk, Survival},
};

use crate::support::{ROOT, bytes, read_states};

fn syncs(disk: &SimDisk) -> (u64, u64) {
    (disk.count(Call::SyncData), disk.count(Call::SyncDir))
}

/// How many files of one pending checkpoint stay open to be synced at the commit.
const MAX_UNSYNCED: u64 = 64;

/// Commits `new` states, of which half are exclusive, and names all of the checkpoint before that are in files.
fn commit(store: &Store, disk: &SimDisk, new: u64) {
    let pending = store.begin_next().unwrap();
    let mut manifest = Manifest::builder();
    for (name, handle) in store.latest().unwrap().iter().flat_map(|latest| latest.manifest().states()) {
        if !handle.is_inline() {
            manifest = manifest.state(name, handle.clone());
        }
    }
    for n in 0..new {
        let scope = if n.is_multiple_of(2) { Scope::Shared } else { Scope::Exclusive };
        let id = pending.id();
        manifest = manifest.state(format!("{id}-{n}"), pending.write(scope, &bytes(n, 4096)).unwrap());
        manifest = manifest.state(format!("{id}-{n}-inline"), pending.write(scope, &bytes(n, 64)).unwrap());
    }
    let synced = disk.count(Call::SyncData);
    pending.commit(manifest).unwrap();
    let at_commit = disk.count(Call::SyncData) - synced;
    assert_eq!(at_commit, 1 + new.min(MAX_UNSYNCED), "a checkpoint must not use up the descriptors");
}

/// A store in steady state: its log has room for long, and the blank ones behind it are made.
fn steady(disk: &SimDisk, set: impl FnOnce(Options) -> Options) -> Store {
    let store = set(Options::new().disk(disk.clone()).log_size(8 << 20)).open(ROOT).unwrap();
    store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
    store
}

#[test]
fn unmerged_states_cost_one_file_sync_each_and_a_checkpoint_one_more_and_two_directory_syncs() {
    let disk = SimDisk::new();
    let store = steady(&disk, |options| options.merging(Merging::Off));
    for new in [1, 2, 20, 63, 64, 65, 200, 0] {
        let (files, dirs) = syncs(&disk);
        commit(&store, &disk, new);
        let after = syncs(&disk);
        assert_eq!(after.0 - files, new + 1, "file syncs for {new} new states");
        assert_eq!(after.1 - dirs, new.min(2), "directory syncs for {new} new states");
    }
    let store = Options::new().disk(disk.cut_power(Survival::Nothing)).open(ROOT).unwrap();
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap().len(), 1 + 2 + 20 + 63 + 64 + 65 + 200);
}

#[test]
fn every_change_costs_one_sync_of_the_log_and_no_new_file() {
    let disk = SimDisk::new();
    let store = steady(&disk, |options| options.retain(4));
    let names = || disk.count(Call::CreateTemp) + disk.count(Call::RenameNew) + disk.count(Call::Rename);
    let commit = || store.begin_next().unwrap().commit(Manifest::builder()).unwrap().id();
    let ids: Vec<_> = (0..4).map(|_| commit()).collect();
    let manifest = store.checkpoint(ids[1]).unwrap().manifest().clone().with_metadata("k", Some(vec![1]));
    let changes: [(&str, &dyn Fn()); 7] = [
        ("commit with retention", &|| assert!(commit() > ids[3])),
        ("pin", &|| store.pin(ids[1]).unwrap()),
        ("update", &|| store.update_manifest(&manifest).unwrap()),
        ("unpin", &|| store.unpin(ids[1]).unwrap()),
        ("roll back", &|| store.rollback_to(ids[2]).unwrap()),
        ("forget", &|| drop(store.forget(ids[3]).unwrap())),
        ("forget above", &|| drop(store.forget_above(ids[1]).unwrap())),
    ];
    for (what, change) in changes {
        let ((files, dirs), made) = (syncs(&disk), names());
        change();
        assert_eq!((syncs(&disk), names()), ((files + 1, dirs), made), "{what}");
    }
    assert_eq!(store.checkpoint_ids(), [ids[1]]);
}

#[test]
fn automatic_retention_costs_no_sync() {
    let disk = SimDisk::new();
    let store = steady(&disk, |options| options.retain(2).merging(Merging::Off));
    for round in 0..6 {
        let (files, dirs) = syncs(&disk);
        let pending = store.begin_next().unwrap();
        let state = pending.write(Scope::Shared, &bytes(round, 4096)).unwrap();
        pending.commit(Manifest::builder().state("s", state)).unwrap();
        assert_eq!(syncs(&disk), (files + 2, dirs + 1), "round {round}");
        let files = disk.list(At::new("/state/shared".as_ref())).unwrap().len() as u64;
        assert_eq!(files, (round + 1).min(2), "what goes is gone with the commit");
    }
    store.close().unwrap();
    assert_eq!(disk.list(At::new("/state/shared".as_ref())).unwrap().len(), 2);
}

#[test]
fn beginning_reusing_and_reading_sync_nothing() {
    let disk = SimDisk::new();
    let store = steady(&disk, |options| options.merging(Merging::Off));
    commit(&store, &disk, 10);
    let before = syncs(&disk);
    let latest = store.latest().unwrap().unwrap();
    read_states(&latest).unwrap();
    let handles: Vec<_> = latest.manifest().states().map(|(_, handle)| handle.clone()).collect();
    let pending = store.begin_next().unwrap();
    assert_eq!(pending.reuse(&handles).unwrap(), handles);
    drop(pending);
    assert_eq!(syncs(&disk), before);
}

/// Commits so many new states of 4 KiB, written by so many threads; returns file syncs and directory syncs.
fn commit_merged(store: &Store, disk: &SimDisk, states: u64, threads: u64) -> (u64, u64) {
    let before = syncs(disk);
    let pending = store.begin_next().unwrap();
    let state = bytes(7, 4096);
    let handles: Vec<_> = std::thread::scope(|scope| {
        let write = || (0..states / threads).map(|_| pending.write(Scope::Shared, &state).unwrap()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(write)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let manifest =
        handles.into_iter().enumerate().fold(Manifest::builder(), |manifest, (n, h)| manifest.state(n.to_string(), h));
    assert_eq!(syncs(disk), before, "nothing is synced before the commit");
    pending.commit(manifest).unwrap();
    let after = syncs(disk);
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn thousand_new_states_cost_one_sync_for_each_touched_segment_and_one_of_a_directory() {
    for (threads, lanes) in [(1, 1), (2, 1), (2, 2), (1, 4)] {
        let disk = SimDisk::new();
        let store = steady(&disk, |options| options.lanes(lanes).retain(3));
        let made = disk.count(Call::CreateTemp);
        let segments = || disk.list(At::new("/state/shared".as_ref())).unwrap().len();
        for round in 0..20 {
            let (created, before) = (disk.count(Call::CreateTemp), segments());
            let (files, dirs) = commit_merged(&store, &disk, 1000, threads);
            let created = disk.count(Call::CreateTemp) - created;
            let what = format!("{threads} threads, {lanes} lanes, round {round}, {created} created, {before} before");
            assert!(files <= 2 + u64::from(lanes), "{files} file syncs: {what}");
            assert!(created > 0 || files <= 1 + u64::from(lanes), "{files} file syncs: {what}");
            // Steady state: no segment is full. One that is created has a name, which must be synced once.
            assert_eq!(dirs, u64::from(created > 0), "directory syncs: {what}");
            assert!(round == 0 || created <= u64::from(lanes), "{what}");
        }
        let created = disk.count(Call::CreateTemp) - made;
        assert!(created <= 20 / 7 + 1 + u64::from(lanes), "{created} segments for 20 checkpoints of an eighth of one");
    }
}

#[test]
fn writes_and_descriptors_of_a_thousand_states_are_few() {
    let disk = SimDisk::new();
    let store = steady(&disk, |options| options);
    commit_merged(&store, &disk, 10, 1);
    let before = (disk.count(Call::WriteAt), disk.count(Call::Open), disk.calls());
    commit_merged(&store, &disk, 1000, 1);
    let writes = disk.count(Call::WriteAt) - before.0;
    assert_eq!(writes, 16 + 2, "one call for each 256 KiB of 4 MiB, and one for each half of the log");
    assert!(disk.count(Call::Open) - before.1 <= 3, "the identity is looked at three times");
    assert!(disk.calls() - before.2 < 50, "{} calls", disk.calls() - before.2);
}

#[test]
fn checkpoint_that_shares_a_segment_with_one_that_was_synced_meanwhile_costs_no_second_sync() {
    let disk = SimDisk::new();
    let store = steady(&disk, |options| options);
    let first = store.begin_next().unwrap();
    let second = store.begin_next().unwrap();
    let manifests = [&first, &second].map(|pending| {
        Manifest::builder().state("s", pending.write(Scope::Shared, &bytes(pending.id().get(), 5000)).unwrap())
    });
    let [of_first, of_second] = manifests;
    let before = syncs(&disk).0;
    first.commit(of_first).unwrap();
    second.commit(of_second).unwrap();
    assert_eq!(syncs(&disk).0 - before, 3, "the segment once, and the log twice");
    let store = Options::new().disk(disk.cut_power(Survival::Nothing)).open(ROOT).unwrap();
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(3, 5000));
}

#[test]
fn many_segments_of_one_checkpoint_do_not_use_up_the_descriptors() {
    let disk = SimDisk::new();
    let store = steady(&disk, |options| options.segment_size(10_000));
    let pending = store.begin_next().unwrap();
    let before = syncs(&disk).0;
    let manifest = (0..300_u64).fold(Manifest::builder(), |manifest, n| {
        let scope = if n.is_multiple_of(3) { Scope::Exclusive } else { Scope::Shared };
        manifest.state(n.to_string(), pending.write(scope, &bytes(n, 4096)).unwrap())
    });
    let early = syncs(&disk).0 - before;
    assert!((150 - 66..=150 - 60).contains(&early), "{early} of 150 segments were synced early");
    pending.commit(manifest).unwrap();
    assert_eq!(syncs(&disk).0 - before, 151, "each once");
    let store = Options::new().disk(disk.cut_power(Survival::Nothing)).open(ROOT).unwrap();
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap().len(), 300);
}
