//! The ways in which a store could lose what a member has written.

use piton::{Manifest, ManifestChanges, PartFault, Scope, disk::MemoryDisk, testing::SimDisk};

use super::{id, member_of, names, options, part};
use crate::support::{ROOT, bytes, open};

/// Parts of two checkpoints lie between each other in one file; the later one is accepted and forgotten while the earlier one
/// is on its way.
#[test]
fn state_that_lies_between_accepted_ones_and_is_not_accepted_yet_stays() {
    for wait in [false, true] {
        let disk = MemoryDisk::new();
        let open = || options(&disk).segment_size(60_000).open(ROOT).unwrap();
        let store = open();
        let member = member_of(&store, &disk);
        let (kept, gone) = (store.begin(id(1)).unwrap(), store.begin(id(2)).unwrap());
        let (one, two) = (member.begin(id(1), None).unwrap(), member.begin(id(2), None).unwrap());
        let states = [0, 1, 2, 3].map(|n| [&one, &two][n % 2].write(Scope::Shared, &bytes(n as u64, 9000)).unwrap());
        let [a, b, c, d] = states;
        // A newer file of the same lane turns up, and the first one is full.
        let more = [5, 6, 7].map(|n| two.write(Scope::Shared, &bytes(n, 9000)).unwrap());
        let changes = ManifestChanges::new().state("b", b).state("d", d);
        let changes = more.into_iter().enumerate().fold(changes, |all, (n, state)| all.state(format!("{n}"), state));
        let one = one.prepare(ManifestChanges::new().state("a", a).state("c", c)).unwrap();
        if wait {
            kept.accept(&one).unwrap();
        }
        let two = two.prepare(changes).unwrap();
        if !wait {
            kept.accept(&one).unwrap();
        }
        gone.accept(&two).unwrap();
        drop(gone);
        let _ = store.maintain(u64::MAX).unwrap();
        assert!(store.cleanup_orphans(false).unwrap().failures.is_empty());
        let checkpoint = kept.commit(Manifest::builder()).unwrap();
        checkpoint.verify().unwrap();
        drop((checkpoint, member, store));
        open().latest().unwrap().unwrap().verify().unwrap();
    }
}

/// The store does not know the file of a part that was prepared and is not accepted.
#[test]
fn file_of_a_part_that_is_on_its_way_is_no_orphan() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let pending = store.begin_next().unwrap();
    let begun = member.begin(pending.id(), None).unwrap();
    // In a lane, and in a file of its own.
    let (a, b) = (begun.write(Scope::Shared, &bytes(1, 3000)), begun.write(Scope::Shared, &bytes(2, 3 << 20)));
    let prepared = begun.prepare(ManifestChanges::new().state("a", a.unwrap()).state("b", b.unwrap())).unwrap();
    let found = store.cleanup_orphans(false).unwrap();
    assert!(found.files.is_empty(), "{found:?}");
    pending.accept(&prepared).unwrap();
    pending.commit(Manifest::builder()).unwrap().verify().unwrap();
}

/// Files that an abandoned part left are found once a later part says that they are given up.
#[test]
fn file_of_an_abandoned_part_is_an_orphan_once_a_later_part_was_accepted() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    drop(part(member.begin(id(1), None).unwrap(), "lost on the way", &bytes(1, 3 << 20)));
    let abandoned = member.begin(id(1), None).unwrap();
    abandoned.write(Scope::Shared, &bytes(2, 3 << 20)).unwrap();
    drop(abandoned);
    // One that is in the making meanwhile has its file still.
    let later = member.begin(id(3), None).unwrap();
    let handle = later.write(Scope::Shared, &bytes(3, 3 << 20)).unwrap();
    let pending = store.begin(id(2)).unwrap();
    pending.accept(&part(member.begin(id(2), None).unwrap(), "a", &bytes(4, 3000))).unwrap();
    assert_eq!(store.cleanup_orphans(false).unwrap().files.len(), 1, "the member deleted the other one");
    let base = pending.commit(Manifest::builder()).unwrap();
    let later = later.prepare(ManifestChanges::new().state("b", handle)).unwrap();
    let pending = store.begin(id(3)).unwrap();
    pending.accept(&later).unwrap();
    pending.commit(Manifest::builder()).unwrap().verify().unwrap();
    drop(base);
}

/// Accepted after a later part, its file may have been punched.
#[test]
fn part_that_comes_after_a_later_one_is_refused() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let late = part(member.begin(id(1), None).unwrap(), "a", &bytes(1, 3 << 20));
    let pending = store.begin(id(2)).unwrap();
    pending.accept(&part(member.begin(id(2), None).unwrap(), "b", &bytes(2, 3000))).unwrap();
    assert_eq!(store.cleanup_orphans(false).unwrap().files.len(), 1, "the file of the late one is gone");
    let refused = store.begin(id(1)).unwrap().accept(&late).unwrap_err();
    assert_eq!(refused.part_fault(), Some(PartFault::Late { number: 1, last: 2 }), "{refused}");
}

/// A store that moves states out of a file, and a member that goes on to append to it, would move them again and again.
#[test]
fn member_that_sheds_worn_files_lets_the_store_stay_small() {
    let sizes = [false, true].map(|sheds| {
        let disk = SimDisk::new();
        let store =
            options(&disk).segment_size(1 << 20).retain(2).max_space_amplification(Some(1.5)).open(ROOT).unwrap();
        let member = member_of(&store, &disk);
        let mut newest = store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
        for round in 0..250_u64 {
            let pending = store.begin_next().unwrap();
            if sheds {
                member.shed(&store.worn());
            }
            let begun = member.begin(pending.id(), Some(newest.id())).unwrap();
            let changes = (0..3).fold(ManifestChanges::new(), |changes, n| {
                let handle = begun.write(Scope::Shared, &bytes(round * 3 + n, 2500)).unwrap();
                // Some names are rewritten often, some seldom.
                changes.state(format!("{}", if n == 0 { round % 40 } else { 40 + n }), handle)
            });
            pending.accept(&begun.prepare(changes).unwrap()).unwrap();
            newest = pending.commit(Manifest::based_on(newest.manifest())).unwrap();
            newest.verify().unwrap();
        }
        (store.usage().relocated_bytes, store.usage().space_amplification())
    });
    let [(moved, large), (moved_less, small)] = sizes;
    assert!(moved_less < moved && 2.0 * small < large, "{sizes:?}");
}

#[test]
fn names_of_data_files_are_used_once_however_often_processes_take_each_other_s_place() {
    let disk = SimDisk::new();
    let mut all = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let store = open(&disk).unwrap();
        for round in 0..3 {
            let member = member_of(&store, &disk);
            let prepared = part(member.begin(store.next_id().unwrap(), None).unwrap(), "a", &bytes(round, 3000));
            let made = names(&disk, "shared");
            all.extend(made);
            drop(prepared);
            let orphans = store.dismiss(member.membership()).unwrap();
            assert_eq!(orphans.files.len(), 1);
        }
    }
    assert_eq!(all.len(), 9, "{all:?}");
}
