//! A disk without a free byte. What is fenced off here: a process is killed while it fills the disk, and its store can
//! neither be opened nor pruned, because opening writes the identity.

use piton::{
    CheckpointId, Options, Scope, Store,
    testing::{Call, Fault, SimDisk},
};

use crate::support::{ROOT, bytes, commit_states, read_states};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

fn open(disk: &SimDisk) -> piton::Result<Store> {
    Options::new().disk(disk.clone()).open(ROOT)
}

/// Four checkpoints, the second of them pinned and with an update of its own, and what a process leaves that is killed
/// while it writes a fifth until the disk is full.
fn full() -> SimDisk {
    let disk = SimDisk::new();
    disk.set_capacity(Some(8 << 20));
    let store = Options::new().disk(disk.clone()).segment_size(100_000).open(ROOT).unwrap();
    for seed in 1..=4 {
        commit_states(&store, &[bytes(seed, 200_000)]).unwrap();
    }
    let changed = store.checkpoint(id(2)).unwrap().manifest().clone().with_metadata("n", Some(vec![7; 100]));
    store.update_manifest(&changed).unwrap();
    store.pin(id(2)).unwrap();
    let pending = store.begin_next().unwrap();
    let refused = (0..).find_map(|seed| pending.write(Scope::Shared, &bytes(seed, 50_000)).err()).unwrap();
    assert!(refused.is_no_space(), "{refused}");
    // To the last block.
    disk.set_capacity(Some(disk.used()));
    // It is killed before it can clean up.
    std::mem::forget(pending);
    let disk = disk.kill();
    disk.set_capacity(Some(disk.used()));
    disk
}

#[test]
fn store_opens_without_a_free_byte_and_its_own_leftovers_go_first() {
    let disk = full();
    let before = disk.used();
    let store = open(&disk).unwrap();
    assert!(!store.open_report().removed.is_empty() && disk.used() < before - 1_000_000, "{:?}", store.open_report());
    assert_eq!(store.checkpoint_ids(), [1, 2, 3, 4].map(id));
    for (number, checkpoint) in (1..).zip(store.checkpoint_ids()) {
        assert_eq!(read_states(&store.checkpoint(checkpoint).unwrap()).unwrap()[0].1, bytes(number, 200_000));
    }
    commit_states(&store, &[bytes(5, 200_000)]).unwrap();
}

#[test]
fn record_that_gives_room_back_has_it_also_where_overwriting_takes_some() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(64 << 20));
    let store = open(&disk).unwrap();
    (1..=2).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    disk.fail_nth(Call::WriteAt, 1, Fault::Error(28));
    assert_eq!(store.forget(id(1)).unwrap().checkpoints, [id(1)]);
    disk.fail_nth(Call::WriteAt, 1, Fault::Error(28));
    assert!(store.pin(id(2)).unwrap_err().is_no_space(), "and no other record has");
    assert!(store.pinned().is_empty());
}

/// A verb that gives space back, or must not need any.
type Verb = fn(Store) -> piton::Result<()>;

const VERBS: [(&str, Verb); 6] = [
    ("prune", |store| store.prune(1).map(drop)),
    ("forget the oldest", |store| store.forget(id(1)).map(drop)),
    ("forget the newest", |store| store.forget(id(4)).map(drop)),
    ("unpin", |store| store.unpin(id(2))),
    ("unpin and prune", |store| store.unpin(id(2)).and_then(|()| store.prune(1)).map(drop)),
    ("close", Store::close),
];

#[test]
fn verbs_that_give_space_back_work_without_a_free_byte() {
    for (verb, act) in VERBS {
        let disk = full();
        let store = open(&disk).unwrap();
        disk.set_capacity(Some(disk.used()));
        act(store.clone()).unwrap_or_else(|error| panic!("{verb}: {error}"));
        let gone: Vec<_> = (1..=4).map(id).filter(|id| !store.checkpoint_ids().contains(id)).collect();
        drop(store);
        disk.set_capacity(Some(disk.used()));
        let store = open(&disk).unwrap_or_else(|error| panic!("opened after {verb}: {error}"));
        assert!(gone.iter().all(|id| !store.checkpoint_ids().contains(id)), "{verb}: {gone:?} came back");
        assert!(store.next_id().unwrap() > id(4), "{verb}: {}", store.next_id().unwrap());
        if verb.starts_with("unpin") {
            assert_eq!(store.pinned(), [], "{verb}");
        } else {
            assert_eq!(store.pinned(), [id(2)], "{verb}");
        }
    }
}

#[test]
fn room_that_was_given_up_is_kept_again_once_there_is_some() {
    let disk = full();
    for round in 0..5 {
        let store = open(&disk).unwrap_or_else(|error| panic!("round {round}: {error}"));
        // As full as can be once more, behind the room that is kept.
        disk.set_capacity(Some(disk.used()));
        drop(store);
    }
    let spare = std::path::Path::new(ROOT).join("piton.spare");
    let has_spare = || piton::disk::Disk::metadata(&disk, (&spare).into()).is_ok();
    disk.set_capacity(None);
    disk.set_capacity(Some(disk.used() + (4 << 20)));
    drop(open(&disk).unwrap());
    assert!(has_spare());
}

/// Some file systems give blocks back only when the removal is durable.
#[test]
fn room_is_kept_again_although_what_was_freed_for_it_is_free_only_after_a_sync() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(64 << 20));
    disk.fail_nth(Call::Reserve, 1, Fault::Error(28));
    drop(open(&disk).unwrap());
    let spare = std::path::Path::new(ROOT).join("piton.spare");
    assert!(piton::disk::Disk::metadata(&disk, (&spare).into()).is_ok());
}

/// The write that uses the room may keep a block of it.
#[test]
fn less_room_is_kept_where_there_is_not_enough_for_all_of_it_and_all_once_there_is() {
    let disk = full();
    drop(open(&disk).unwrap());
    let spare = std::path::Path::new(ROOT).join("piton.spare");
    let kept = || piton::disk::Disk::metadata(&disk, (&spare).into()).map_or(0, |found| found.len);
    assert_eq!(kept(), 1 << 20);
    for _ in 0..3 {
        // Another process takes a block.
        disk.set_capacity(Some(disk.used() - 4096));
        drop(open(&disk).unwrap());
        assert!((1 << 18..1 << 20).contains(&kept()), "{}", kept());
        // It takes the rest as well.
        disk.set_capacity(Some(disk.used()));
        drop(open(&disk).unwrap());
    }
    disk.set_capacity(Some(disk.used() + (4 << 20)));
    drop(open(&disk).unwrap());
    assert_eq!(kept(), 1 << 20);
}

#[test]
fn owner_that_cannot_be_written_into_the_lock_file_is_no_reason_not_to_lock() {
    // In memory the lock file takes a block like any other; there is none.
    let disk = full();
    disk.fail_nth(Call::TryLock, 1, Fault::Error(5));
    assert!(open(&disk).is_err(), "a lock that fails is an error");
    drop(open(&disk).unwrap());
}

/// How many bytes a state has on a real file system: more than the room that a store keeps there.
const STATE: usize = 5_000_000;

/// Real file systems of 64 MiB, which `tests/filesystems.sh` mounts: `full-ext4` and so on, below `PITON_MOUNTS`.
fn mounts() -> Vec<std::path::PathBuf> {
    let below = std::path::PathBuf::from(std::env::var_os("PITON_MOUNTS").unwrap());
    ["full-ext4", "full-xfs", "full-btrfs", "full-btrfs-mixed"].map(|name| below.join(name)).to_vec()
}

/// Takes every byte that is free, data and metadata, in ever smaller pieces.
fn fill(mount: &std::path::Path) {
    use std::{fs, io::Write};
    let rest = mount.join("rest");
    fs::create_dir_all(&rest).unwrap_or_default();
    for attempt in 0..2 {
        let Ok(mut file) = fs::OpenOptions::new().append(true).create(true).open(mount.join("fill")) else { continue };
        for piece in [1 << 20, 1 << 16, 4096, 512, 1] {
            while file.write(&vec![7; piece]).is_ok_and(|written| written > 0) {}
        }
        let _ = file.sync_all();
        let more = |number: u32| {
            let mut file = fs::File::create(rest.join(format!("{attempt}-{number}")))?;
            file.write_all(&[7; 4000])?;
            file.sync_all()
        };
        (0..10_000).take_while(|number| more(*number).is_ok()).for_each(drop);
    }
}

#[test]
#[ignore = "tests/filesystems.sh runs it, with file systems to fill"]
fn store_on_a_full_file_system_opens_gives_space_back_and_closes() {
    for mount in mounts() {
        let root = mount.join("state");
        let killed = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["around::full::part_that_is_killed_while_it_fills_the_disk", "--exact", "--ignored"])
            .env("PITON_DIR", &root)
            .output()
            .unwrap();
        assert!(!killed.status.success(), "it was to be killed");
        fill(&mount);
        let what = mount.display();
        let options = || Options::new().must_exist(true);
        let open = || options().open(&root).unwrap_or_else(|error| panic!("{what}: {error}"));
        let store = open();
        assert!(!store.open_report().removed.is_empty(), "{what}: {:?}", store.open_report());
        assert_eq!(store.checkpoint_ids(), [1, 2, 3, 4, 5].map(id), "{what}");
        for (number, checkpoint) in (1..).zip(store.checkpoint_ids()) {
            assert_eq!(read_states(&store.checkpoint(checkpoint).unwrap()).unwrap()[0].1, bytes(number, STATE));
        }
        drop(store);
        // On the smallest btrfs, which has data and metadata mixed, to open takes more than it gives back: something has to
        // be freed before the disk is full again.
        let is_mixed = mount.ends_with("full-btrfs-mixed");
        let verbs: [(&str, Verb); 6] = [
            ("open", |_| Ok(())),
            ("forget the oldest", |store| store.forget(id(1)).map(drop)),
            ("unpin", |store| store.unpin(id(2))),
            ("prune", |store| store.unpin(id(2)).and_then(|()| store.prune(2)).map(drop)),
            ("forget the newest", |store| store.forget(id(5)).map(drop)),
            ("close", Store::close),
        ];
        let gives_back = |verb: &str| !["open", "unpin"].contains(&verb);
        for (verb, act) in verbs.into_iter().filter(|(verb, _)| !is_mixed || gives_back(verb)) {
            fill(&mount);
            let store = open();
            if !is_mixed {
                fill(&mount);
            }
            act(store).unwrap_or_else(|error| panic!("{what}: {verb}: {error}"));
        }
        let store = open();
        assert_eq!(store.checkpoint_ids(), [id(4)], "{what}");
        assert!(store.next_id().unwrap() > id(5), "{what}");
        std::fs::remove_file(mount.join("fill")).unwrap();
        commit_states(&store, &[bytes(9, 200_000)]).unwrap_or_else(|error| panic!("{what}: {error}"));
        drop(store);
        // There is room for all of the spare again.
        drop(open());
        let spare = std::fs::metadata(root.join("piton.spare")).unwrap();
        let blocks = std::os::unix::fs::MetadataExt::blocks(&spare) * 512;
        let kept = if what.to_string().contains("btrfs") { 4 << 20 } else { 1 << 20 };
        assert!(spare.len() == 1 << 20 && blocks >= kept, "{what}: {} bytes in {blocks}", spare.len());
    }
}

#[test]
#[ignore = "the test above runs it, in a process of its own"]
fn part_that_is_killed_while_it_fills_the_disk() {
    let store = Options::new().segment_size(1 << 20).open(std::env::var_os("PITON_DIR").unwrap()).unwrap();
    for seed in 1..=5 {
        commit_states(&store, &[bytes(seed, STATE)]).unwrap();
    }
    store.pin(id(2)).unwrap();
    let pending = store.begin_next().unwrap();
    let refused = (0..).find_map(|seed| pending.write(Scope::Shared, &bytes(seed, 100_000)).err()).unwrap();
    assert!(refused.is_no_space(), "{refused}");
    std::process::abort();
}
