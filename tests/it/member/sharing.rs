//! Files of members that others copy, link, or clean up while the members write.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use piton::{
    Checkpoint, CheckpointId, CheckpointKind, Claim, Manifest, ManifestChanges, Member, Options, Part, Scope,
    StateHandle, Store, Way, disk::MemoryDisk, testing::SimDisk,
};

use super::{id, member_of, names, options, part};
use crate::support::{ROOT, bytes, open};

/// A part with one state in a lane, and the handle of that.
fn written(member: &Member, number: u64, seed: u64) -> (Part, StateHandle) {
    let pending = member.begin(id(number), None).unwrap();
    let handle = pending.write(Scope::Shared, &bytes(seed, 3000)).unwrap();
    (pending.prepare(ManifestChanges::new().state(format!("{seed}"), handle.clone())).unwrap(), handle)
}

/// A store on the operating system's disk, where files have links, and a member.
fn on_disk() -> (tempfile::TempDir, Store, Member) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let member = Options::new().join(store.root(), &store.admit().unwrap()).unwrap();
    (dir, store, member)
}

fn committed(store: &Store, part: &Part) -> Checkpoint {
    let pending = store.begin(part.checkpoint()).unwrap();
    pending.accept(part).unwrap();
    pending.commit(Manifest::builder()).unwrap()
}

#[test]
fn export_copies_a_file_that_a_member_appends_to_and_links_it_once_the_member_has_given_it_up() {
    let (dir, store, member) = on_disk();
    let checkpoint = committed(&store, &written(&member, 1, 1).0);
    let exported = store.export(checkpoint.id(), dir.path().join("one")).unwrap();
    assert!(exported.files.iter().all(|file| file.way != Way::Linked), "{:?}", exported.files);

    // The member goes on in the same file, and the export stays as it is.
    let more = committed(&store, &written(&member, 2, 2).0);
    let opened = Store::open(dir.path().join("one")).unwrap();
    assert!(*opened.latest().unwrap().unwrap().get("1").unwrap() == bytes(1, 3000));
    drop(opened);

    // A state that has its file for itself is given up with its part.
    let pending = member.begin(id(3), None).unwrap();
    let handle = pending.write(Scope::Shared, &bytes(3, 3 << 20)).unwrap();
    let alone = committed(&store, &pending.prepare(ManifestChanges::new().state("3", handle)).unwrap());
    let exported = store.export(alone.id(), dir.path().join("two")).unwrap();
    assert_eq!(exported.files.iter().map(|file| file.way).collect::<Vec<_>>(), [Way::Linked]);

    let _ = store.dismiss(member.membership()).unwrap();
    assert_eq!(store.usage().open_files, 0, "of a dismissed member no file is open");
    let exported = store.export(more.id(), dir.path().join("three")).unwrap();
    assert!(exported.files.iter().all(|file| file.way != Way::Linked), "it may not know yet: {:?}", exported.files);
}

#[test]
fn move_copies_the_files_of_a_member_that_lives_on() {
    let (dir, source, member) = on_disk();
    drop(committed(&source, &written(&member, 1, 1).0));
    let root = source.root().to_owned();
    drop(source);
    let store = Store::open(dir.path().join("ours")).unwrap();
    let imported = store.import(&root, Claim::Move).unwrap();
    assert!(!imported.files.is_empty() && imported.files.iter().all(|file| file.way != Way::Linked), "{imported:?}");
    assert!(member.begin(id(2), None).unwrap_err().needs_reopen(), "it finds out");
}

#[test]
fn duplicate_of_a_later_state_of_a_file_that_grows_is_no_state_of_the_earlier_copy() {
    // Of a disk with reflinks.
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let (one, a) = written(&member, 2, 1);
    let pending = store.begin(id(2)).unwrap();
    pending.accept(&one).unwrap();
    let checkpoint = pending.commit(Manifest::builder()).unwrap();
    let pending = store.begin(id(3)).unwrap();
    assert!(!pending.can_fast_duplicate(&a, Scope::Exclusive));
    let a = pending.duplicate(&[a], Scope::Exclusive).unwrap().remove(0);
    let (two, b) = written(&member, 3, 2);
    pending.accept(&two).unwrap();
    let b = pending.duplicate(&[b], Scope::Exclusive).unwrap().remove(0);
    let both = pending.commit(Manifest::builder().state("a", a).state("b", b)).unwrap();
    both.verify().unwrap();
    assert!(*both.get("a").unwrap() == bytes(1, 3000) && *both.get("b").unwrap() == bytes(2, 3000));
    drop(checkpoint);
}

/// Says so when it is dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn cleaning_up_while_parts_are_accepted_deletes_no_file_of_theirs() {
    let disk = MemoryDisk::new();
    let store = options(&disk).retain(1).open(ROOT).unwrap();
    let member = options(&disk).merging(piton::Merging::Off).join(ROOT, &store.admit().unwrap()).unwrap();
    // Many files in each part, and each part is accepted a little later after the cleaner began: so at some point the cleaner
    // is just looking at the files of the part.
    let (rounds, files) = (40, 200);
    let (begun, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                begun.fetch_add(1, Ordering::Relaxed);
                assert!(store.cleanup_orphans(false).unwrap().failures.is_empty());
            }
        });
        let _over = Over(&is_over);
        for number in 1..=rounds {
            let pending = member.begin(id(number), None).unwrap();
            let handles = (0..files).map(|n| pending.write(Scope::Shared, &bytes(number * files + n, 100)).unwrap());
            let changes =
                handles.enumerate().fold(ManifestChanges::new(), |all, (n, one)| all.state(n.to_string(), one));
            let part = pending.prepare(changes).unwrap();
            let (before, pending) = (begun.load(Ordering::Relaxed), store.begin(part.checkpoint()).unwrap());
            while begun.load(Ordering::Relaxed) == before {
                thread::yield_now();
            }
            (0..number * 600).for_each(|_| std::hint::spin_loop());
            pending.accept(&part).unwrap();
            pending.commit(Manifest::builder()).unwrap().verify().unwrap();
        }
    });
}

/// What a member writes for a checkpoint.
fn of(checkpoint: CheckpointId, slot: u64) -> Vec<u8> {
    bytes(checkpoint.get() * 2 + slot, 5000)
}

#[test]
fn readers_and_savepoints_while_members_write_have_whole_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().segment_size(40_000).retain(1).open(dir.path()).unwrap();
    let members = [(); 2].map(|()| Options::new().join(dir.path(), &store.admit().unwrap()).unwrap());
    let check = |checkpoint: &Checkpoint| {
        for slot in 0..2 {
            assert!(*checkpoint.get(&slot.to_string()).unwrap() == of(checkpoint.id(), slot), "{}", checkpoint.id());
        }
    };
    let (seen, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let reader = Options::new().open_read_only(dir.path()).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                if let Some(newest) = reader.latest().unwrap() {
                    check(&newest);
                    seen.fetch_max(newest.id().get(), Ordering::Relaxed);
                }
            }
        });
        let _over = Over(&is_over);
        for round in 1..=60_u64 {
            let pending = store.begin_next().unwrap();
            let (id, slots) = (pending.id(), members.iter().zip(0..));
            let parts = slots.map(|(member, slot)| {
                scope.spawn(move || part(member.begin(id, None).unwrap(), &slot.to_string(), &of(id, slot)))
            });
            for part in parts.collect::<Vec<_>>() {
                pending.accept(&part.join().unwrap()).unwrap();
            }
            let kind = if round % 10 == 5 { CheckpointKind::Savepoint } else { CheckpointKind::Checkpoint };
            pending.commit(Manifest::builder().kind(kind)).unwrap();
            if round % 20 == 0 {
                while seen.load(Ordering::Relaxed) < id.get() {
                    thread::yield_now();
                }
            }
        }
    });
    // One that was just being read may have stayed.
    let _ = store.prune(1).unwrap();
    let ids = store.checkpoint_ids();
    assert_eq!(ids.iter().map(|id| id.get()).collect::<Vec<_>>(), [5, 15, 25, 35, 45, 55, 60]);
    for id in ids {
        check(&store.checkpoint(id).unwrap());
    }
}

#[test]
fn part_that_two_threads_accept_at_once_is_accepted_by_both() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    for number in 1..=200 {
        let one = part(member.begin(id(number), None).unwrap(), "a", &bytes(number, 3000));
        let pending = store.begin(id(number)).unwrap();
        thread::scope(|scope| {
            let threads = [(); 3].map(|()| scope.spawn(|| pending.accept(&one)));
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        });
        assert_eq!(pending.commit(Manifest::builder()).unwrap().manifest().states().count(), 1);
    }
}

#[test]
fn what_a_member_abandons_is_deleted_at_once_and_what_it_handed_over_is_not() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let long = |seed| bytes(seed, 3 << 20);
    let pending = member.begin(id(1), None).unwrap();
    let named = pending.write(Scope::Shared, &long(1)).unwrap();
    pending.write(Scope::Shared, &long(2)).unwrap();
    let abandoned = member.begin(id(1), None).unwrap();
    abandoned.write(Scope::Shared, &long(3)).unwrap();
    assert_eq!(names(&disk, "shared").len(), 3);
    drop(abandoned);
    assert_eq!(names(&disk, "shared").len(), 2);
    let prepared = pending.prepare(ManifestChanges::new().state("a", named)).unwrap();
    assert_eq!(names(&disk, "shared").len(), 1, "nothing names the second one");
    drop(member);
    assert_eq!(names(&disk, "shared").len(), 1, "the part may be on its way");
    committed(&store, &prepared).verify().unwrap();
}

#[test]
fn waste_behind_the_last_accepted_state_of_a_file_is_counted_once_the_file_is_given_up() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = options(&disk).lanes(1).join(ROOT, &store.admit().unwrap()).unwrap();
    let kept = committed(&store, &written(&member, 1, 1).0);
    let abandoned = member.begin(id(2), None).unwrap();
    for n in 0..200 {
        abandoned.write(Scope::Shared, &bytes(n, 20_000)).unwrap();
    }
    drop(abandoned);
    let before = store.usage();
    assert!(before.dead_bytes < 10_000, "{before:?}");
    // A new lane's file follows the one that is shed.
    let worn = serde_json::json!({ "files": [{ "scope": "Shared", "generation": 1, "lane": 1, "sequence": (1_u64 << 40) + 1 }] });
    member.shed(&serde_json::from_value(worn).unwrap());
    let pending = store.begin(id(3)).unwrap();
    pending.accept(&written(&member, 3, 3).0).unwrap();
    let usage = store.usage();
    let files = names(&disk, "shared");
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(usage.dead_bytes > 3_900_000, "{usage:?}");
    drop(pending);
    drop(kept);
}
