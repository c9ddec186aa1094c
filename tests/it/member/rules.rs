//! Who may do what, and when.

use piton::{
    Error, Manifest, ManifestChanges, Options, PartFault, PartitionState, Scope,
    disk::MemoryDisk,
    testing::{Call, Fault, SimDisk, Survival},
};

use super::{id, join, member_of, names, options, part};
use crate::support::{ROOT, bytes, on_every_disk, open};

#[test]
fn states_of_two_members_and_the_store_are_one_checkpoint() {
    on_every_disk(|options, root| {
        let store = options.clone().open(root).unwrap();
        let [one, two] = [1, 2].map(|_| options.clone().join(root, &store.admit().unwrap()).unwrap());
        let pending = store.begin_next().unwrap();
        let parts: Vec<_> = [&one, &two]
            .into_iter()
            .map(|member| {
                let number = member.membership().member();
                let pending = member.begin(pending.id(), None).unwrap();
                let lens = [10, 5000, 2 << 20];
                let handles = lens.map(|len| pending.write(Scope::Shared, &bytes(u64::from(number), len)).unwrap());
                let changes = handles.into_iter().enumerate().fold(ManifestChanges::new(), |changes, (n, handle)| {
                    changes.state(format!("{number}-{n}"), handle)
                });
                pending.prepare(changes).unwrap()
            })
            .collect();
        for part in &parts {
            pending.accept(part).unwrap();
        }
        let own = pending.write(Scope::Shared, &bytes(9, 5000)).unwrap();
        let checkpoint = pending.commit(Manifest::builder().state("own", own)).unwrap();
        assert_eq!(checkpoint.manifest().states().count(), 7);
        drop((checkpoint, one, two, store));

        let store = options.clone().open(root).unwrap();
        let checkpoint = store.latest().unwrap().unwrap();
        checkpoint.verify().unwrap();
        for number in [1, 2] {
            assert!(*checkpoint.get(&format!("{number}-1")).unwrap() == bytes(number, 5000));
            assert!(*checkpoint.get(&format!("{number}-2")).unwrap() == bytes(number, 2 << 20));
        }
        assert_eq!(store.usage().physical_files, 5, "two each, and one of the store");
    });
}

#[test]
fn a_checkpoint_of_small_parts_costs_one_sync_for_each_member_and_one_of_the_store() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let members = [member_of(&store, &disk), member_of(&store, &disk)];
    let mut newest = store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
    for round in 0..4 {
        let syncs = || disk.count(Call::SyncData) + disk.count(Call::SyncDir);
        let before = syncs();
        let pending = store.begin_next().unwrap();
        for (n, member) in members.iter().enumerate() {
            let begun = member.begin(pending.id(), Some(newest.id())).unwrap();
            pending.accept(&part(begun, &format!("{n}"), &bytes(round, 3000))).unwrap();
        }
        newest = pending.commit(Manifest::based_on(newest.manifest())).unwrap();
        assert!(round == 0 || syncs() - before == 3, "{} syncs", syncs() - before);
    }
}

#[test]
fn part_whose_states_travel_in_their_handles_costs_no_sync_of_its_own() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let member = options(&disk).inline_threshold(4096).join(ROOT, &store.admit().unwrap()).unwrap();
    // The first one makes a log ahead.
    store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
    let syncs = || disk.count(Call::SyncData) + disk.count(Call::SyncDir);
    let before = syncs();
    let pending = store.begin_next().unwrap();
    let one = part(member.begin(pending.id(), None).unwrap(), "a", &bytes(1, 3000));
    assert_eq!(syncs(), before);
    pending.accept(&one).unwrap();
    pending.commit(Manifest::builder()).unwrap();
    assert_eq!(syncs() - before, 1);
    drop((member, store));
    let disk = disk.cut_power(Survival::Nothing);
    let newest = open(&disk).unwrap().latest().unwrap().unwrap();
    assert!(*newest.get("a").unwrap() == bytes(1, 3000));
}

fn fault(result: Result<impl Sized, Error>) -> PartFault {
    let error = result.map(drop).unwrap_err();
    error.part_fault().unwrap_or_else(|| panic!("{error}"))
}

#[test]
fn part_for_another_checkpoint_store_or_generation_is_refused() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let early = part(member.begin(id(7), None).unwrap(), "a", &[1; 3000]);
    let pending = store.begin(id(8)).unwrap();
    assert_eq!(fault(pending.accept(&early)), PartFault::OtherCheckpoint(id(7)));

    let other = open(&MemoryDisk::new()).unwrap();
    assert_eq!(fault(other.begin(id(7)).unwrap().accept(&early)), PartFault::OtherStore);
    assert_eq!(fault(other.dismiss(member.membership())), PartFault::OtherStore);

    drop((pending, store));
    let store = open(&disk).unwrap();
    let refused = fault(store.begin(id(7)).unwrap().accept(&early));
    assert_eq!(refused, PartFault::OtherGeneration { ours: 2, found: 1 });
    assert!(member.begin(id(9), None).unwrap_err().is_fenced());
}

#[test]
fn part_that_was_prepared_when_the_store_was_opened_anew_is_refused_by_its_member() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let pending = member.begin(id(1), None).unwrap();
    let handle = pending.write(Scope::Shared, &[1; 3000]).unwrap();
    drop(store);
    let store = open(&disk).unwrap();
    let error = pending.prepare(ManifestChanges::new().state("a", handle)).unwrap_err();
    assert!(error.is_fenced() && error.needs_reopen(), "{error}");
    drop(member);
    drop(store);
    open(&disk).unwrap().close().unwrap();
    assert!(names(&disk, "shared").is_empty() && !names(&disk, "").iter().any(|name| name.contains("member")));
}

#[test]
fn dismissed_member_is_refused_at_every_step_and_leaves_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let (first, second) = (store.begin_next().unwrap(), store.begin_next().unwrap());
    let accepted = part(member.begin(first.id(), None).unwrap(), "kept", &bytes(1, 3000));
    let late = part(member.begin(second.id(), None).unwrap(), "late", &bytes(2, 3000));
    let preparing = member.begin(second.id(), None).unwrap();
    let handle = preparing.write(Scope::Exclusive, &bytes(3, 5000)).unwrap();
    first.accept(&accepted).unwrap();
    let orphans = store.dismiss(member.membership()).unwrap();
    assert_eq!((orphans.files.len(), orphans.removed), (1, true), "the exclusive one: {orphans:?}");
    assert_eq!(fault(second.accept(&late)), PartFault::Dismissed);
    let error = preparing.prepare(ManifestChanges::new().state("never", handle)).unwrap_err();
    assert!(error.is_fenced(), "{error}");
    assert!(member.begin(second.id(), None).unwrap_err().is_fenced());
    assert!(options(&disk).join(ROOT, member.membership()).unwrap_err().is_fenced());
    let checkpoint = first.commit(Manifest::builder()).unwrap();
    assert!(*checkpoint.get("kept").unwrap() == bytes(1, 3000), "what was accepted stays");

    let other = member_of(&store, &disk);
    assert_ne!(other.membership().member(), member.membership().member());
    second.accept(&part(other.begin(second.id(), Some(checkpoint.id())).unwrap(), "more", &bytes(4, 3000))).unwrap();
    let checkpoint = second.commit(Manifest::based_on(checkpoint.manifest())).unwrap();
    assert_eq!(checkpoint.manifest().states().map(|(name, _)| name).collect::<Vec<_>>(), ["kept", "more"]);
    assert!(store.dismiss(member.membership()).unwrap().files.is_empty(), "again it finds nothing");
}

#[test]
fn member_that_does_not_exist_cannot_be_dismissed_or_accepted() {
    let (disk, other) = (MemoryDisk::new(), MemoryDisk::new());
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let forged = part(member.begin(id(1), None).unwrap(), "a", &[1; 3000]);
    let mut text = serde_json::to_value(&forged).unwrap();
    text["membership"]["member"] = 7.into();
    let forged = serde_json::from_value(text).unwrap();
    let pending = store.begin(id(1)).unwrap();
    assert_eq!(fault(pending.accept(&forged)), PartFault::NotAdmitted);
    assert_eq!(fault(store.dismiss(forged.membership())), PartFault::NotAdmitted);
    drop(other);
}

#[test]
fn membership_is_for_one_process_and_for_once() {
    on_every_disk(|options, root| {
        let store = options.clone().open(root).unwrap();
        let membership = store.admit().unwrap();
        let member = options.clone().join(root, &membership).unwrap();
        let error = options.clone().join(root, &membership).unwrap_err();
        assert!(error.is_locked() && error.to_string().contains("process "), "{error}");
        let pending = member.begin(id(1), None).unwrap();
        drop(member);
        assert!(options.clone().join(root, &membership).unwrap_err().is_locked(), "a part keeps it");
        drop(pending);
        let error = options.clone().join(root, &membership).unwrap_err();
        assert!(error.is_fenced(), "{error}");
    });
}

#[test]
fn membership_of_a_process_that_was_killed_is_not_joined_again() {
    let disk = SimDisk::new();
    let membership = {
        let store = open(&disk).unwrap();
        let member = member_of(&store, &disk);
        let membership = *member.membership();
        std::mem::forget((store, member));
        membership
    };
    let disk = disk.kill();
    let error = options(&disk).join(ROOT, &membership).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("admit another"), "{error}");
    let store = open(&disk).unwrap();
    assert!(store.open_report().removed.iter().any(|name| name.to_string_lossy().contains("member")));
    assert!(options(&disk).join(ROOT, &membership).unwrap_err().is_fenced());
}

#[test]
fn part_that_is_accepted_twice_counts_once_and_one_that_comes_late_is_refused() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let (first, second) = (store.begin_next().unwrap(), store.begin_next().unwrap());
    let one = part(member.begin(first.id(), None).unwrap(), "a", &bytes(1, 3000));
    let two = part(member.begin(second.id(), None).unwrap(), "a", &bytes(2, 3000));
    second.accept(&two).unwrap();
    second.accept(&two).unwrap();
    assert_eq!(store.usage().logical_files, 1);
    assert_eq!(fault(first.accept(&one)), PartFault::Late { number: 1, last: 2 });
    assert_eq!(store.usage().logical_files, 1, "nothing of it was taken");
    drop(first);
    second.commit(Manifest::builder()).unwrap();
}

#[test]
fn two_parts_that_change_one_name_are_refused_by_that_name() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let members = [member_of(&store, &disk), member_of(&store, &disk)];
    let both = [
        ("state \"a\"", ManifestChanges::new().remove_state("a")),
        ("partition 3 of operator \"op\"", ManifestChanges::new().partition("op", 3, PartitionState::default())),
        ("source \"s\"", ManifestChanges::new().remove_source_offset("s")),
        ("metadata \"m\"", ManifestChanges::new().metadata("m", b"1")),
    ];
    for (name, changes) in both {
        let pending = store.begin_next().unwrap();
        let [one, two] =
            [0, 1].map(|n: usize| members[n].begin(pending.id(), None).unwrap().prepare(changes.clone()).unwrap());
        pending.accept(&one).unwrap();
        let error = pending.accept(&two).unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(name), "{error}");
        pending.commit(Manifest::builder()).unwrap();
    }
}

#[test]
fn changes_are_made_in_the_manifest_of_the_checkpoint_that_they_are_relative_to_and_in_no_other() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let pending = store.begin_next().unwrap();
    pending.accept(&part(member.begin(pending.id(), None).unwrap(), "a", &bytes(1, 3000))).unwrap();
    let first = pending.commit(Manifest::builder()).unwrap();

    let pending = store.begin_next().unwrap();
    let begun = member.begin(pending.id(), Some(first.id())).unwrap();
    let handle = begun.write(Scope::Shared, &bytes(2, 3000)).unwrap();
    let changes = ManifestChanges::new().state("b", handle.clone()).remove_state("a").delta("op", 5, handle);
    pending.accept(&begun.prepare(changes).unwrap()).unwrap();
    let refused = pending.commit(Manifest::builder()).unwrap_err();
    let wrong = PartFault::OtherBase { since: Some(first.id()), base: None };
    assert_eq!(refused.part_fault(), Some(wrong), "{}", *refused);
    let pending = refused.into_pending().unwrap();
    let second = pending.commit(Manifest::based_on(first.manifest())).unwrap();
    assert!(second.manifest().state("a").is_none() && *second.get("b").unwrap() == bytes(2, 3000));
    assert_eq!(second.manifest().operator("op").unwrap().partitions[&5].deltas.len(), 1);

    let pending = store.begin_next().unwrap();
    pending.accept(&part(member.begin(pending.id(), None).unwrap(), "c", &bytes(3, 3000))).unwrap();
    let refused = pending.commit(Manifest::based_on(second.manifest())).unwrap_err();
    assert_eq!(refused.part_fault(), Some(PartFault::OtherBase { since: None, base: Some(second.id()) }));
}

#[test]
fn parts_of_checkpoints_that_are_in_flight_at_once_go_on_from_each_other() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let (first, second) = (store.begin_next().unwrap(), store.begin_next().unwrap());
    let one = member.begin(first.id(), None).unwrap();
    let two = member.begin(second.id(), Some(first.id())).unwrap();
    let a = one.write(Scope::Shared, &bytes(1, 3000)).unwrap();
    let b = two.write(Scope::Shared, &bytes(2, 3000)).unwrap();
    let one = one.prepare(ManifestChanges::new().state("a", a.clone())).unwrap();
    // It keeps what is not committed yet, under another name.
    let two = two.prepare(ManifestChanges::new().state("b", b).state("also a", a)).unwrap();
    first.accept(&one).unwrap();
    second.accept(&two).unwrap();
    let first = first.commit(Manifest::builder()).unwrap();
    let second = second.commit(Manifest::based_on(first.manifest())).unwrap();
    assert_eq!(second.manifest().states().count(), 3);
    second.verify().unwrap();
}

#[test]
fn part_with_states_that_cannot_be_there_is_refused_and_takes_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let pending = store.begin_next().unwrap();
    let good = part(member.begin(pending.id(), None).unwrap(), "a", &bytes(1, 3000));
    let text = serde_json::to_string(&good).unwrap();
    let forged = [
        text.replace("@64+", "@0+"),
        text.replace("@64+", "@9223372036854775000+"),
        text.replace("+3000#", "+3001#"),
        text.replace("+3000#", "+9223372036854775000#"),
        text.replace("1099511627777", "1099511627778"),
        text.replace("1099511627777", "1"),
        text.replace("1099511627777", "2199023255553"),
    ];
    for forged in forged {
        assert_ne!(forged, text, "the message has another form by now");
        let part = serde_json::from_str(&forged).unwrap();
        let error = pending.accept(&part).unwrap_err();
        assert!(error.is_not_found() || error.is_corrupt() || error.is_invalid(), "{error}");
        assert_eq!(store.usage().logical_files, 0);
    }
    pending.accept(&good).unwrap();
    pending.commit(Manifest::builder()).unwrap().verify().unwrap();
}

#[test]
fn state_of_a_part_that_came_to_nothing_is_gone_whatever_lane_the_next_part_writes_to() {
    for scope in [Scope::Shared, Scope::Exclusive] {
        let disk = MemoryDisk::new();
        let store = open(&disk).unwrap();
        let member = member_of(&store, &disk);
        let pending = store.begin(id(1)).unwrap();
        let begun = member.begin(id(1), None).unwrap();
        let lost = begun.write(Scope::Shared, &bytes(1, 3000)).unwrap();
        pending.accept(&begun.prepare(ManifestChanges::new().state("a", lost.clone())).unwrap()).unwrap();
        drop(pending);
        let begun = member.begin(id(2), None).unwrap();
        let new = begun.write(scope, &bytes(2, 3000)).unwrap();
        let next = begun.prepare(ManifestChanges::new().state("a", lost).state("b", new)).unwrap();
        let pending = store.begin(id(2)).unwrap();
        match pending.accept(&next) {
            // Its file takes more states: it is as good as new.
            Ok(()) => pending.commit(Manifest::builder()).unwrap().verify().unwrap(),
            Err(error) => assert!(error.is_not_found(), "{error}"),
        }
    }
}

#[test]
fn state_that_overlaps_another_one_is_refused_whichever_of_them_is_known() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let pending = store.begin_next().unwrap();
    pending.accept(&part(member.begin(pending.id(), None).unwrap(), "a", &bytes(1, 3000))).unwrap();
    let good = part(member.begin(pending.id(), None).unwrap(), "b", &bytes(2, 3000));
    let text = serde_json::to_string(&good).unwrap();
    let (before, after) = text.split_once('@').unwrap();
    let (_, after) = after.split_once('+').unwrap();
    for offset in [64, 128, 3008, 3072] {
        let forged = serde_json::from_str(&format!("{before}@{offset}+{after}")).unwrap();
        let error = pending.accept(&forged).unwrap_err();
        assert!(error.is_invalid(), "at {offset}: {error}");
        assert_eq!(store.usage().logical_files, 1);
    }
    pending.accept(&good).unwrap();
    pending.commit(Manifest::builder()).unwrap().verify().unwrap();
}

#[test]
fn member_is_dismissed_although_its_files_cannot_be_listed() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let member = member_of(&store, &disk);
    let pending = store.begin_next().unwrap();
    pending.accept(&part(member.begin(pending.id(), None).unwrap(), "a", &bytes(1, 3000))).unwrap();
    assert_eq!(store.usage().open_files, 1);
    disk.fail_nth(Call::List, 1, Fault::Error(5));
    assert!(store.dismiss(member.membership()).is_err());
    assert_eq!(store.usage().open_files, 0, "nothing is appended to its files any more");
    assert!(member.begin(pending.id(), None).unwrap_err().is_fenced());
    assert!(store.dismiss(member.membership()).unwrap().failures.is_empty());
    pending.commit(Manifest::builder()).unwrap().verify().unwrap();
}

#[test]
fn membership_of_another_version_is_refused_by_name() {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let mut value = serde_json::to_value(store.admit().unwrap()).unwrap();
    value["protocol"] = 99.into();
    let error = options(&disk).join(ROOT, &serde_json::from_value(value).unwrap()).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("version 99"), "{error}");
}

#[test]
fn members_write_as_the_store_says_whatever_their_own_options() {
    let disk = SimDisk::new();
    let store = options(&disk).alignment(4096).segment_size(10_000).open(ROOT).unwrap();
    let member = Options::new()
        .disk(disk.clone())
        .durability(piton::Durability::None)
        .join(ROOT, &store.admit().unwrap())
        .unwrap();
    let pending = member.begin(id(1), None).unwrap();
    let handles = [1, 2, 3].map(|n| pending.write(Scope::Shared, &bytes(n, 4000)).unwrap());
    let before = disk.count(Call::SyncData);
    let [a, b, c] = handles;
    let part = pending.prepare(ManifestChanges::new().state("a", a).state("b", b).state("c", c)).unwrap();
    assert_eq!(disk.count(Call::SyncData) - before, 3, "one state fits into each segment");
    let pending = store.begin(id(1)).unwrap();
    pending.accept(&part).unwrap();
    pending.commit(Manifest::builder()).unwrap().verify().unwrap();
    let _ = join(&disk, &store.admit().unwrap());
}
