//! What pruning keeps, under every combination of what may be in its way. What is fenced off: damaged checkpoints that
//! count as kept while the valid ones go, and data that somebody still needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use piton::{
    Checkpoint, CheckpointId, CheckpointKind, Manifest, Merging, Options, Scope, StateHandle, Store, Validation,
    contract::CheckpointStore,
    testing::{Call, Fault, SimDisk},
};

use crate::support::{ROOT, bytes, commit_states, log, open, open_unmerged};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// Every data file of the store and its length.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "seg"));
    files.map(|entry| (entry.path().strip_prefix(dir).unwrap().to_owned(), entry.metadata().unwrap().len())).collect()
}

/// The data files that only this checkpoint and its successor name.
fn data(store: &Store, number: u64) -> Vec<PathBuf> {
    let checkpoint = store.checkpoint(id(number)).unwrap();
    let own = [checkpoint.manifest().state("own").unwrap(), checkpoint.manifest().state("passed on").unwrap()];
    own.into_iter().map(path).collect()
}

/// Where the data of a handle is.
fn path(handle: &StateHandle) -> PathBuf {
    let text = handle.to_string();
    let (scope, rest) = text.split_once(':').unwrap();
    let rest = rest.split_once(':').unwrap().1;
    let mut numbers = rest.split('@').next().unwrap().split('.').map(|number| number.parse::<u64>().unwrap());
    let [generation, lane, sequence] = std::array::from_fn(|_| numbers.next().unwrap());
    format!("{scope}/{generation:08}-{lane:03}-{sequence:010}.seg").into()
}

/// Eight checkpoints, each with a state of its own, one that the next one has as well, and one that all have.
fn fill(store: &Store) {
    let mut shared: Option<(StateHandle, StateHandle)> = None;
    for number in 1..=8 {
        let pending = store.begin(id(number)).unwrap();
        let own = pending.write(Scope::Exclusive, &bytes(number, 3000 + number as usize)).unwrap();
        let passed_on = pending.write(Scope::Shared, &bytes(100 + number, 4000 + number as usize)).unwrap();
        let all = shared
            .as_ref()
            .map_or_else(|| pending.write(Scope::Shared, &bytes(99, 5000)).unwrap(), |(_, all)| all.clone());
        let mut content =
            Manifest::builder().state("own", own).state("passed on", passed_on.clone()).state("all", all.clone());
        if let Some((before, _)) = shared {
            content = content.state("from before", before);
        }
        pending.commit(content).unwrap();
        shared = Some((passed_on, all));
    }
}

/// How the two newest are damaged.
const DAMAGES: [&str; 6] = ["no", "spoil record", "cut data", "remove data", "flip data", "cut data while open"];

struct Case {
    damage: &'static str,
    orphans: bool,
    pinned: bool,
    reader: bool,
}

fn damage(dir: &Path, how: &str, data: &[Vec<PathBuf>]) {
    if how == "spoil record" {
        // The next one is known only by what differs from it.
        log::change_in(dir, 7, |record| *record.last_mut().unwrap() ^= 0x80);
    }
    for data in data.iter().map(|data| dir.join(&data[0])) {
        let change = |path: &Path, change: fn(&mut Vec<u8>)| {
            let mut bytes = std::fs::read(path).unwrap();
            change(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        };
        match how {
            "cut data" | "cut data while open" => change(&data, |bytes| bytes.truncate(200)),
            "remove data" => std::fs::remove_file(&data).unwrap(),
            "flip data" => change(&data, |bytes| bytes[100] ^= 1),
            _ => {}
        }
    }
}

#[test]
fn prune_keeps_the_newest_two_valid_ones_and_what_somebody_needs_and_says_exactly_what_it_freed() {
    for damage in DAMAGES {
        for case in 0..8 {
            prune_two(&Case { damage, orphans: case & 1 > 0, pinned: case & 2 > 0, reader: case & 4 > 0 });
        }
    }
}

fn prune_two(case: &Case) {
    let what =
        format!("{} damage, orphans {}, pinned {}, reader {}", case.damage, case.orphans, case.pinned, case.reader);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let options = || Options::new().merging(Merging::Off).punch_holes(false).durability(piton::Durability::None);
    let store = options().open(dir).unwrap();
    fill(&store);
    let data: Vec<_> = (1..=8).map(|number| data(&store, number)).collect();
    if case.pinned {
        store.pin(id(1)).unwrap();
    }
    let foreign = ["exclusive/00000000000000000099", "manifests/00000000000000000099.manifests", "checkpoint-99"];
    for name in foreign.iter().filter(|_| case.orphans) {
        std::fs::create_dir(dir.join(name)).unwrap();
        std::fs::write(dir.join(name).join("x"), b"somebody else's").unwrap();
    }
    if case.damage == "cut data while open" {
        // As long as the store knows them.
        let before = files(dir);
        damage(dir, case.damage, &data[6..]);
        return prune_and_compare(case, &what, dir, &store, &data, &before);
    }
    store.close().unwrap();
    damage(dir, case.damage, &data[6..]);
    if case.damage == "spoil record" {
        drop(options().accept_loss(true).open(dir).unwrap());
    }
    prune_and_compare(case, &what, dir, &options().open(dir).unwrap(), &data, &files(dir));
}

fn prune_and_compare(
    case: &Case,
    what: &str,
    dir: &Path,
    store: &Store,
    data: &[Vec<PathBuf>],
    before: &BTreeMap<PathBuf, u64>,
) {
    if case.damage == "flip data" {
        (7..=8).for_each(|number| assert!(!store.validate(id(number), Validation::Full).unwrap().is_valid()));
    }
    let held: Option<Checkpoint> = case.reader.then(|| store.checkpoint(id(2)).unwrap());
    let elsewhere = case.reader.then(|| Options::new().open_read_only(dir).unwrap().checkpoint(id(3)).unwrap());
    let report = store.prune(2).unwrap();
    let after = files(dir);

    let mut stay: BTreeSet<u64> = if case.damage == "no" { [7, 8].into() } else { [5, 6].into() };
    stay.extend(case.pinned.then_some(1));
    stay.extend(case.reader.then_some(3));
    let ids: Vec<_> = store.checkpoint_ids().into_iter().map(CheckpointId::get).collect();
    assert_eq!(ids, stay.iter().copied().collect::<Vec<_>>(), "{what}");
    let gone: Vec<_> = (1..=8).filter(|number| !stay.contains(number)).map(id).collect();
    assert_eq!((report.checkpoints, report.failures.len()), (gone, 0), "{what}");
    assert_eq!(report.in_use, case.reader.then_some(id(3)).into_iter().collect::<Vec<_>>(), "{what}");

    let freed: u64 = before.values().sum::<u64>() - after.values().sum::<u64>();
    assert_eq!(report.bytes, freed, "{what}");
    let expected = needed(case, &stay, data);
    assert_eq!(after.into_keys().collect::<BTreeSet<_>>(), expected, "{what}");
    for checkpoint in stay.iter().map(|number| store.checkpoint(id(*number)).unwrap()).chain(held).chain(elsewhere) {
        let own = checkpoint.manifest().state("own").unwrap();
        let number = checkpoint.id().get();
        assert_eq!(*checkpoint.read(own).unwrap(), bytes(number, 3000 + number as usize), "{what}");
        assert_eq!(*checkpoint.read(checkpoint.manifest().state("all").unwrap()).unwrap(), bytes(99, 5000), "{what}");
    }
    assert!(!store.cleanup_orphans(true).unwrap().files.iter().any(|(name, _)| expected.contains(name)), "{what}");
}

/// The data files that must be left.
fn needed(case: &Case, stay: &BTreeSet<u64>, data: &[Vec<PathBuf>]) -> BTreeSet<PathBuf> {
    let mut needed = BTreeSet::new();
    for number in stay.iter().copied().chain(case.reader.then_some(2)) {
        let number = number as usize;
        needed.extend(data[number - 1].iter().cloned());
        needed.extend(data.get(number.wrapping_sub(2)).map(|before| before[1].clone()));
    }
    // The state that all have is the third file that was written.
    needed.insert("shared/00000001-000-0000000003.seg".into());
    needed
}

#[test]
fn savepoints_and_pinned_checkpoints_survive_pruning_and_retention_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let commit = |store: &Store, kind| {
        drop(store.begin_next().unwrap().commit(Manifest::builder().kind(kind)).unwrap());
    };
    let store = Options::new().retain(2).open(dir.path()).unwrap();
    commit(&store, CheckpointKind::Savepoint);
    commit(&store, CheckpointKind::Checkpoint);
    store.pin(id(2)).unwrap();
    drop(store);
    let store = Options::new().retain(2).open(dir.path()).unwrap();
    assert_eq!(store.pinned(), [id(2)]);
    (0..5).for_each(|_| commit(&store, CheckpointKind::Checkpoint));
    assert_eq!(store.checkpoint_ids(), [1, 2, 6, 7].map(id));
    assert_eq!(store.prune(1).unwrap().checkpoints, [id(6)]);
    store.unpin(id(2)).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.prune(1).unwrap().checkpoints, [id(2)]);
    let _ = store.forget(id(1)).unwrap();
    assert_eq!(store.checkpoint_ids(), [id(7)]);
    assert!(store.pin(id(1)).unwrap_err().is_not_found());
}

#[test]
fn retention_by_age_goes_by_the_times_of_the_manifests() {
    let store = Options::memory().retain_for(std::time::Duration::from_mins(1)).open("state").unwrap();
    let commit = |seconds: u64| {
        let manifest = Manifest::builder().timestamp_ms(seconds * 1000).build(store.next_id().unwrap());
        store.save(&manifest).unwrap();
        store.checkpoint_ids().into_iter().map(CheckpointId::get).collect::<Vec<_>>()
    };
    assert_eq!(commit(1000), [1]);
    assert_eq!(commit(1059), [1, 2]);
    assert_eq!(commit(1060), [2, 3], "a minute old");
    assert_eq!(commit(0), [2, 3, 4], "what time it is is not known");
    assert_eq!(commit(5000), [4, 5], "nor how old this one is");
    assert_eq!(commit(4000), [4, 5, 6], "a clock that was set back makes nothing old");
}

#[test]
fn checkpoint_on_a_bad_medium_neither_counts_nor_goes() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    (1..=4).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    // Two looks at the data file of the newest.
    (1..=2).for_each(|nth| disk.fail_nth(Call::Open, nth, Fault::Error(5)));
    assert_eq!(store.prune(1).unwrap().checkpoints, [1, 2].map(id));
    assert_eq!(store.latest().unwrap().unwrap().id(), id(4));
    assert_eq!(store.prune(1).unwrap().checkpoints, [id(3)]);
}

#[test]
fn nothing_goes_while_the_newest_cannot_be_looked_at() {
    for code in [24, 13, 12] {
        let disk = SimDisk::new();
        let store = open(&disk).unwrap();
        (1..=4).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
        disk.fail_nth(Call::Open, 1, Fault::Error(code));
        assert_eq!(store.prune(1).unwrap_err().raw_os_error(), Some(code));
        assert_eq!(store.checkpoint_ids().len(), 4);
        assert_eq!(store.prune(1).unwrap().checkpoints, [1, 2, 3].map(id));
    }
}

#[test]
fn checkpoint_that_was_pinned_or_rolled_back_to_while_others_prune_is_there_or_was_gone_before() {
    for round in 0..200 {
        let store = Options::memory().open("state").unwrap();
        (1..=6).for_each(|n| drop(commit_states(&store, &[bytes(n, 100)]).unwrap()));
        let (pinned, rolled_back) = std::thread::scope(|scope| {
            let pruned = scope.spawn(|| store.prune(1).unwrap());
            let pinned = scope.spawn(|| store.pin(id(2)));
            let rolled_back = store.rollback_to(id(4));
            let _ = pruned.join().unwrap();
            (pinned.join().unwrap(), rolled_back)
        });
        for (done, number) in [(pinned, 2), (rolled_back, 4)] {
            match done {
                Ok(()) => assert!(store.checkpoint_ids().contains(&id(number)), "round {round}: {number}"),
                Err(error) => assert!(error.is_not_found() && !store.checkpoint_ids().contains(&id(number)), "{error}"),
            }
        }
        assert!(store.latest().unwrap().is_some());
    }
}

#[test]
fn full_disk_keeps_pruning_from_nothing_as_long_as_there_is_room_kept() {
    // The first record of an open store takes a new log.
    for (full, is_refused) in [(1, false), (20, true)] {
        let disk = SimDisk::new();
        let store = open_unmerged(&disk).unwrap();
        (1..=5).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
        store.rollback_to(id(3)).unwrap();
        drop(store);
        let store = open_unmerged(&disk).unwrap();
        (1..=full).for_each(|nth| disk.fail_nth(Call::CreateTemp, nth, Fault::Error(28)));
        if is_refused {
            assert!(store.prune(1).unwrap_err().is_no_space());
            assert_eq!(store.checkpoint_ids(), [1, 2, 3, 4, 5].map(id));
            // Also of those that are asked for while the disk is full still.
            while let Err(error) = store.prune(1) {
                assert!(error.is_no_space(), "{error}");
            }
        } else {
            let report = store.prune(1).unwrap();
            assert_eq!((&report.checkpoints[..], report.files), (&[1, 2, 4, 5].map(id)[..], 4));
            assert!(report.failures.is_empty(), "{report:?}");
        }
        assert_eq!(store.checkpoint_ids(), [id(3)]);
        drop(store);
        let store = open(&disk).unwrap();
        assert_eq!((store.checkpoint_ids(), store.next_id().unwrap()), (vec![id(3)], id(6)));
    }
}

#[test]
fn checkpoint_that_was_rolled_back_stays_if_the_only_one_that_counts_is_lost() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    (1..=2).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    store.rollback_to(id(1)).unwrap();
    disk.damage(&Path::new(ROOT).join("shared/00000001-000-0000000001.seg"), Vec::clear).unwrap();
    assert!(store.prune(1).unwrap().checkpoints.is_empty());
    assert_eq!(store.checkpoint(id(2)).unwrap().id(), id(2));
}
