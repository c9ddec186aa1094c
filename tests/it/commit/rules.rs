//! Which ids and handles a commit takes, and what it holds on to.

use piton::{
    CheckpointId, Error, Manifest, Merging, Scope, Store,
    disk::MemoryDisk,
    testing::{Call, Fault, SimDisk, Survival},
};

use crate::support::{bytes, commit_states, on_every_disk, open, open_unmerged, read_states};

const EIO: i32 = 5;

#[test]
fn id_is_committed_once_and_ids_only_grow() {
    let store = open(&MemoryDisk::new()).unwrap();
    let (five, six) = (CheckpointId::new(5).unwrap(), CheckpointId::new(6).unwrap());
    let first = store.begin(five).unwrap();
    let second = store.begin(six).unwrap();
    assert!(store.begin(five).unwrap_err().is_conflict(), "it is pending");
    second.commit(Manifest::builder()).unwrap();
    let late = first.commit(Manifest::builder()).unwrap_err();
    assert!(late.is_invalid() && late.to_string().contains("checkpoint 6"), "{late}");
    assert!(store.begin(six).unwrap_err().is_conflict());
    assert_eq!(store.checkpoint_ids(), [six]);
    assert_eq!(store.next_id().unwrap(), six.next().unwrap());
}

#[test]
fn id_below_a_committed_one_is_refused_also_when_that_was_forgotten() {
    let store = open(&MemoryDisk::new()).unwrap();
    let lower = store.begin_next().unwrap();
    let higher = commit_states(&store, &[]).unwrap().id();
    let _ = store.forget(higher).unwrap();
    assert!(lower.commit(Manifest::builder()).unwrap_err().is_invalid());
}

#[test]
fn id_of_the_newest_checkpoint_does_not_come_back_after_it_was_forgotten() {
    on_every_disk(|options, root| {
        let store = options.clone().open(root).unwrap();
        let newest = commit_states(&store, &[]).unwrap().id();
        let _ = store.forget(newest).unwrap();
        assert_eq!(store.next_id().unwrap(), newest.next().unwrap());
        drop(store);
        assert_eq!(options.open(root).unwrap().next_id().unwrap(), newest.next().unwrap(), "nor after a restart");
    });
}

#[test]
fn id_of_a_forgotten_checkpoint_does_not_come_back_after_a_power_cut() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let newest = commit_states(&store, &[]).unwrap().id();
    let _ = store.forget(newest).unwrap();
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    assert_eq!((store.checkpoint_ids(), store.next_id().unwrap()), (vec![], newest.next().unwrap()));
}

#[test]
fn commit_waits_for_no_open_writer_but_refuses() {
    let store = open(&MemoryDisk::new()).unwrap();
    let pending = store.begin_next().unwrap();
    let _writer = pending.writer(Scope::Shared).unwrap();
    let error = pending.commit(Manifest::builder()).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("1 of its writers"), "{error}");
    assert!(store.latest().unwrap().is_none());
}

#[test]
fn state_of_another_pending_checkpoint_cannot_be_reused_or_named() {
    let store = open(&SimDisk::new()).unwrap();
    let first = store.begin_next().unwrap();
    let handle = first.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let second = store.begin_next().unwrap();
    let refused = second.reuse(std::slice::from_ref(&handle)).unwrap_err();
    assert!(refused.is_not_found() && refused.to_string().contains(&handle.to_string()), "{refused}");
    assert!(second.commit(Manifest::builder().state("s", handle)).unwrap_err().is_not_found());
    assert!(store.latest().unwrap().is_none(), "its data would never have been synced");
}

#[test]
fn named_state_counts_as_reused_and_an_unnamed_one_is_let_go() {
    on_every_disk(|options, root| {
        let store = options.clone().merging(Merging::Off).open(root).unwrap();
        let first = commit_states(&store, &[bytes(1, 5000), bytes(2, 6000)]).unwrap();
        let (named, unnamed) = (first.manifest().state("0").unwrap(), first.manifest().state("1").unwrap());
        let pending = store.begin_next().unwrap();
        pending.reuse(std::slice::from_ref(unnamed)).unwrap();
        pending.write(Scope::Exclusive, &bytes(3, 7000)).unwrap();
        let second = pending.commit(Manifest::builder().state("kept", named.clone())).unwrap();
        let reclaimed = {
            let id = first.id();
            drop(first);
            store.forget(id).unwrap()
        };
        assert_eq!(reclaimed.files, 1, "nobody names the second state");
        assert_eq!(read_states(&second).unwrap(), [("kept".to_owned(), bytes(1, 5000))]);
        drop((second, store));
        let report = options.open(root).unwrap().open_report().clone();
        assert!(report.removed.is_empty(), "the state that was written and not named was removed at the commit");
    });
}

#[test]
fn handle_of_a_forgotten_state_is_refused_at_the_commit() {
    let store = open(&MemoryDisk::new()).unwrap();
    let first = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let handle = first.manifest().state("0").unwrap().clone();
    let id = first.id();
    drop(first);
    commit_states(&store, &[]).unwrap();
    let _ = store.forget(id).unwrap();
    let pending = store.begin_next().unwrap();
    assert!(pending.reuse(std::slice::from_ref(&handle)).unwrap_err().is_not_found());
    assert!(pending.commit(Manifest::builder().state("s", handle)).unwrap_err().is_not_found());
}

/// What a commit with one new state answers when one of its calls goes wrong, after a first commit that went well.
fn commit_with(call: Call, nth: u64, fault: Fault) -> (SimDisk, Store, Error) {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    disk.fail_nth(call, nth, fault);
    let error = commit_states(&store, &[bytes(2, 5000)]).unwrap_err();
    (disk, store, error)
}

fn is_poisoned(store: &Store) -> bool {
    store.begin_next().is_err_and(|error| error.is_poisoned())
}

#[test]
fn failed_data_sync_fails_the_checkpoint_alone_and_is_not_repeated() {
    let (disk, store, error) = commit_with(Call::SyncData, 1, Fault::Error(EIO));
    let syncs = disk.count(Call::SyncData);
    assert!(!error.is_indeterminate() && error.raw_os_error() == Some(EIO));
    assert!(error.path().unwrap().starts_with("/state/shared"), "{error}");
    assert!(!is_poisoned(&store));
    assert_eq!(disk.count(Call::SyncData), syncs, "never again for the same bytes");
    commit_states(&store, &[bytes(3, 5000)]).unwrap();
    assert_eq!(store.checkpoint_ids().len(), 2);
}

#[test]
fn failed_directory_sync_poisons_the_store_before_anything_is_published() {
    for fault in [Fault::Error(EIO), Fault::Error(28)] {
        let (disk, store, error) = commit_with(Call::SyncDir, 1, fault);
        assert!(!error.is_indeterminate() && error.path().unwrap().ends_with("shared"), "{error}");
        assert!(is_poisoned(&store), "the names of other pending checkpoints are in doubt, too");
        assert_eq!(store.latest().unwrap().unwrap().id().get(), 1, "reading goes on");
        drop(store);
        assert_eq!(commit_states(&open(&disk).unwrap(), &[]).unwrap().id().get(), 2);
    }
}

#[test]
fn want_of_descriptors_poisons_nothing_before_the_record_is_appended() {
    let (_, store, error) = commit_with(Call::SyncDir, 1, Fault::Error(24));
    assert!(!error.is_indeterminate() && !is_poisoned(&store), "{error}");
    commit_states(&store, &[bytes(3, 5000)]).unwrap();
}

#[test]
fn record_that_could_not_be_synced_is_made_void_and_the_store_goes_on() {
    for fault in [Fault::Error(EIO), Fault::ErrorAfter(EIO), Fault::Error(28)] {
        // The first sync is that of the state.
        let (disk, store, error) = commit_with(Call::SyncData, 2, fault);
        assert!(!error.is_indeterminate() && error.path().unwrap().starts_with("/state/manifests"), "{error}");
        assert!(!is_poisoned(&store));
        assert_eq!(store.checkpoint_ids().len(), 1);
        commit_states(&store, &[bytes(3, 5000)]).unwrap();
        let store = open(&disk.cut_power(Survival::Everything)).unwrap();
        assert_eq!(store.checkpoint_ids().len(), 2, "what failed is not there, although its bytes are");
        assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(3, 5000));
    }
}

#[test]
fn record_that_cannot_be_made_void_is_indeterminate_and_poisons_and_its_data_stays() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    (2..9).for_each(|nth| disk.fail_nth(Call::SyncData, nth, Fault::Error(EIO)));
    let error = commit_states(&store, &[bytes(2, 5000)]).unwrap_err();
    assert!(error.is_indeterminate() && error.to_string().contains("reopen"), "{error}");
    assert!(is_poisoned(&store));
    let poisoned = store.begin_next().unwrap_err();
    assert!(poisoned.to_string().contains("Input/output error"), "the first cause is kept: {poisoned}");
    assert!(store.forget(store.checkpoint_ids()[0]).unwrap_err().is_poisoned());
    assert!(store.prune(1).unwrap_err().is_poisoned());
    drop(store);
    let disk = disk.kill();
    let store = open(&disk).unwrap();
    let seen = store.checkpoint_ids();
    read_states(&store.latest().unwrap().unwrap()).unwrap();
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    assert_eq!(store.checkpoint_ids(), seen, "what was seen once stays so");
    read_states(&store.latest().unwrap().unwrap()).unwrap();
}

#[test]
fn full_disk_at_any_step_before_the_commit_point_poisons_nothing() {
    for (call, most) in [(Call::CreateTemp, 1), (Call::WriteAt, 4), (Call::SyncData, 2), (Call::RenameNew, 1)] {
        for nth in 1..=most {
            let (disk, store, error) = commit_with(call, nth, Fault::Error(28));
            assert!(error.is_no_space() && !error.is_indeterminate(), "{call:?} {nth}: {error}");
            commit_states(&store, &[bytes(3, 5000)]).unwrap();
            drop(store);
            let removed = open(&disk).unwrap().open_report().removed.clone();
            assert!(removed.is_empty(), "{call:?} {nth}: the failed checkpoint left {removed:?}");
        }
    }
}
