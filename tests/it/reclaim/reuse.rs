//! Marking, `could_reuse`, relocation, punching, and who does them when.

use std::path::{Path, PathBuf};

use piton::{
    Maintenance, Manifest, Merging, Options, Scope, StateHandle, Store,
    disk::{At, Disk, MemoryDisk, OsDisk},
    testing::{Call, Fault, SimDisk},
};

use crate::support::{ROOT, bytes, commit_states, log, open, read_states};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Four states of 5,000 bytes fill a segment.
const SEGMENT: u64 = 64 + 4 * 5056;
const STATES: u64 = 4;

/// Nothing is punched: what can be punched need not be rewritten. No checkpoint is small.
fn options(disk: &(impl Disk + Clone)) -> Options {
    Options::new().disk(disk.clone()).segment_size(SEGMENT).punch_holes(false).redo_size(0)
}

fn names(range: std::ops::Range<u64>) -> impl Iterator<Item = (String, Vec<u8>)> {
    range.map(|n| (n.to_string(), bytes(n, 5000)))
}

/// Commits a checkpoint with these new states, and these of another.
fn commit(store: &Store, new: std::ops::Range<u64>, kept: &[StateHandle]) -> Vec<StateHandle> {
    let pending = store.begin_next().unwrap();
    let kept = pending.reuse(kept).unwrap();
    let new: Vec<_> = names(new).map(|(_, content)| pending.write(Scope::Shared, &content).unwrap()).collect();
    let all = kept.iter().chain(&new).cloned();
    pending.commit(all.enumerate().fold(Manifest::builder(), |m, (n, h)| m.state(n.to_string(), h))).unwrap();
    new
}

/// Two full segments, of each of which one state is alive, and a third one that is open.
fn two_wasteful_segments(store: &Store) -> [StateHandle; 2] {
    let first = commit(store, 0..STATES, &[]);
    let second = commit(store, STATES..2 * STATES, &[]);
    commit(store, 2 * STATES..2 * STATES + 1, &[first[0].clone(), second[0].clone()]);
    let _ = store.prune(1).unwrap();
    [first[0].clone(), second[0].clone()]
}

#[test]
fn two_files_with_equal_waste_are_both_marked() {
    let store = options(&MemoryDisk::new()).open(ROOT).unwrap();
    let states = two_wasteful_segments(&store);
    assert_eq!(store.usage().marked_files, 2);
    let pending = store.begin_next().unwrap();
    assert!(states.iter().all(|state| !pending.could_reuse(state)));
}

#[test]
fn file_with_the_most_waste_is_marked_first_and_no_other_if_that_is_enough() {
    for [few, many] in [[0, STATES], [STATES, 0]] {
        let store = options(&MemoryDisk::new()).max_space_amplification(Some(1.2)).open(ROOT).unwrap();
        let all = [commit(&store, 0..STATES, &[]), commit(&store, STATES..2 * STATES, &[])].concat();
        let at = |n: u64| all[usize::try_from(n).unwrap()].clone();
        // One of four is alive in one file, three of four in the other.
        commit(&store, 50..51, &[at(few), at(many), at(many + 1), at(many + 2)]);
        let _ = store.prune(1).unwrap();
        let pending = store.begin_next().unwrap();
        assert!(!pending.could_reuse(&at(few)), "{:?}", store.usage());
        assert!(pending.could_reuse(&at(many)), "{:?}", store.usage());
    }
}

#[test]
fn no_more_files_are_marked_than_must_go() {
    // With much that is alive beside them, two files of which little is are no harm.
    let store = options(&MemoryDisk::new()).open(ROOT).unwrap();
    let [first, second] = two_wasteful_segments(&store);
    let many = commit(&store, 100..180, &[first.clone(), second.clone()]);
    drop(store.prune(1).unwrap());
    let store = {
        store.close().unwrap();
        options(&MemoryDisk::new()).open(ROOT).unwrap()
    };
    assert_eq!(store.usage().marked_files, 0);
    assert!(!many.is_empty());
}

#[test]
fn could_reuse_is_true_for_what_is_alive_and_no_burden() {
    let disk = MemoryDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    let [marked, _] = two_wasteful_segments(&store);
    let latest = store.latest().unwrap().unwrap();
    let open = latest.manifest().state("2").unwrap().clone();
    let gone = commit(&store, 50..51, &[])[0].clone();
    let id = store.checkpoint_ids()[1];
    let _ = store.forget(id).unwrap();
    let pending = store.begin_next().unwrap();
    let inline = pending.write(Scope::Shared, b"inline").unwrap();
    let own = pending.write(Scope::Shared, &bytes(60, 5000)).unwrap();
    let other_pending = store.begin_next().unwrap();
    let unknown: StateHandle = format!("shared:{}:9.1.1@64+5000#01234567", store.id()).parse().unwrap();
    let ours = open.to_string();
    let foreign: StateHandle = ours.replace(&store.id().to_string(), &"a5".repeat(16)).parse().unwrap();
    let rows = [
        ("in a marked file", &marked, false),
        ("in an open file", &open, true),
        ("forgotten", &gone, false),
        ("inline", &inline, true),
        ("in a file that is not there", &unknown, false),
        ("of another store", &foreign, false),
        ("of a checkpoint that may never be committed", &own, false),
    ];
    for (what, handle, expected) in rows {
        assert_eq!(other_pending.could_reuse(handle), expected, "{what}");
    }
}

#[test]
fn reuse_relocates_out_of_marked_files_which_go_when_their_checkpoints_do() {
    let store = options(&MemoryDisk::new()).open(ROOT).unwrap();
    let old = two_wasteful_segments(&store);
    let before = store.usage();
    let pending = store.begin_next().unwrap();
    let new = pending.reuse(&old).unwrap();
    assert!(new[0] != old[0] && new[1] != old[1]);
    assert_eq!((new[0].len(), new[0].crc32()), (5000, old[0].crc32()));
    assert_eq!(store.usage().relocated_bytes, 10_000);
    // The old handle stays good: here the engine names one of each.
    let manifest = Manifest::builder().state("0", new[0].clone()).state("1", old[1].clone());
    let checkpoint = pending.commit(manifest).unwrap();
    let read = read_states(&checkpoint).unwrap();
    assert_eq!((&read[0].1, &read[1].1), (&bytes(0, 5000), &bytes(STATES, 5000)));
    let _ = store.prune(1).unwrap();
    let after = store.usage();
    assert_eq!(before.physical_files - after.physical_files, 1, "the first file is gone: {before:?}, {after:?}");
}

#[test]
fn relocation_stays_within_what_was_written_anew_or_one_mebibyte() {
    let options = |disk: &MemoryDisk| Options::new().disk(disk.clone()).segment_size(64 + 10 * 400_064).redo_size(0);
    let disk = MemoryDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    let state = bytes(1, 400_000);
    let write = |pending: &piton::PendingCheckpoint| pending.write(Scope::Shared, &state).unwrap();
    let pending = store.begin_next().unwrap();
    let first: Vec<_> = (0..10).map(|_| write(&pending)).collect();
    pending
        .commit(first.iter().enumerate().fold(Manifest::builder(), |m, (n, h)| m.state(n.to_string(), h.clone())))
        .unwrap();
    let kept = &first[..4];
    // So much is alive that nothing is marked before the last of the others goes; and the last checkpoint writes little.
    let pending = store.begin_next().unwrap();
    let kept = pending.reuse(kept).unwrap();
    let small = pending.write(Scope::Shared, &bytes(2, 5000)).unwrap();
    let named = kept.iter().chain([&small]).enumerate();
    pending.commit(named.fold(Manifest::builder(), |m, (n, h)| m.state(n.to_string(), h.clone()))).unwrap();
    let _ = store.prune(1).unwrap();
    assert_eq!(store.usage().marked_files, 1, "{:?}", store.usage());
    let pending = store.begin_next().unwrap();
    let moved = pending.reuse(&kept).unwrap();
    let count = moved.iter().zip(&kept).filter(|(new, old)| new != old).count();
    assert_eq!(count, 2, "1 MiB: the checkpoint before wrote 5,000 bytes, this one nothing yet");
    (0..5).for_each(|_| drop(write(&pending)));
    let all = pending.reuse(&kept).unwrap();
    assert!(all.iter().zip(&kept).all(|(new, old)| new != old), "2,000,000 bytes were written");
    assert!(moved.iter().zip(&all).filter(|(before, now)| before == now).count() == 2, "none is copied twice");
    assert_eq!(store.usage().relocated_bytes, 4 * 400_000);
}

#[test]
fn state_that_cannot_be_relocated_for_want_of_space_stays_where_it_is() {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    let old = two_wasteful_segments(&store);
    let pending = store.begin_next().unwrap();
    disk.fail_nth(Call::WriteAt, 1, Fault::Error(ENOSPC));
    assert_eq!(pending.reuse(&old).unwrap(), old, "nor is the second one tried: it would take what is left");
    let manifest = Manifest::builder().state("0", old[0].clone()).state("1", old[1].clone());
    let read = read_states(&pending.commit(manifest).unwrap()).unwrap();
    assert_eq!((&read[0].1, &read[1].1), (&bytes(0, 5000), &bytes(STATES, 5000)));
    let moved = store.begin_next().unwrap().reuse(&old).unwrap();
    assert!(moved.iter().zip(&old).all(|(new, old)| new != old), "a checkpoint was committed since");
}

/// It is in memory alone when its file is marked.
#[test]
fn state_of_the_checkpoint_itself_can_be_relocated_before_it_was_written() {
    let disk = SimDisk::new();
    let store = options(&disk).max_space_amplification(Some(1.0)).segment_size(520_000).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let wasted: Vec<_> = (0..100).map(|seed| pending.write(Scope::Shared, &bytes(seed, 5000)).unwrap()).collect();
    let named = wasted.iter().enumerate();
    drop(pending.commit(named.fold(Manifest::builder(), |m, (n, h)| m.state(n.to_string(), h.clone()))).unwrap());
    let other = store.begin_next().unwrap();
    let own = other.write(Scope::Shared, &bytes(500, 5000)).unwrap();
    drop(store.begin_next().unwrap().commit(Manifest::builder()).unwrap());
    let _ = store.prune(1).unwrap();
    let _ = store.maintain(u64::MAX).unwrap();
    assert!(store.usage().gathered_bytes > 5000 && store.usage().marked_files == 1, "{:?}", store.usage());
    let kept = other.reuse(std::slice::from_ref(&own)).unwrap().remove(0);
    assert_ne!(kept, own);
    // Below a newer one.
    let manifest = Manifest::builder().kind(piton::CheckpointKind::Savepoint).state("own", kept);
    assert_eq!(*other.commit(manifest).unwrap().get("own").unwrap(), *bytes(500, 5000));
    assert!(store.damaged().is_empty());
}

#[test]
fn state_that_cannot_be_relocated_at_all_is_as_good_as_ever() {
    let disk = SimDisk::new();
    let old = two_wasteful_segments(&options(&disk).open(ROOT).unwrap());
    // A cap for new states is none for old ones.
    let store = options(&disk).max_state_size(Some(100)).max_space_amplification(Some(1.0)).open(ROOT).unwrap();
    commit(&store, 0..0, &old);
    let pending = store.begin_next().unwrap();
    disk.fail_nth(Call::WriteAt, 1, Fault::Error(EIO));
    let kept = pending.reuse(&old).unwrap();
    assert_eq!((&kept[0], kept[1] == old[1]), (&old[0], false), "the first could not be written, the second could");
    disk.fail_nth(Call::ReadAt, 2, Fault::Error(EIO));
    let unreadable = pending.reuse(&old[..1]).unwrap_err();
    assert_eq!(unreadable.raw_os_error(), Some(EIO), "the state itself cannot be read: the engine must know");
}

#[test]
fn state_under_many_names_is_relocated_once() {
    let store = options(&MemoryDisk::new()).open(ROOT).unwrap();
    let [old, _] = two_wasteful_segments(&store);
    let pending = store.begin_next().unwrap();
    let moved = pending.reuse(&[old.clone(), old.clone()]).unwrap();
    assert_eq!(moved, [moved[0].clone(), pending.reuse(&[old]).unwrap().remove(0)]);
    assert_eq!(store.usage().relocated_bytes, 5000);
}

#[test]
fn state_that_is_being_streamed_is_no_garbage() {
    let store = Options::new().disk(MemoryDisk::new()).open(ROOT).unwrap();
    let reader = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let pending = store.begin_next().unwrap();
    let mut writer = pending.writer(Scope::Shared).unwrap();
    std::io::Write::write_all(&mut writer, &vec![7; 20 << 20]).unwrap();
    drop(reader);
    assert_eq!(store.usage().marked_files, 0);
    let handle = writer.finish().unwrap();
    drop(pending.commit(Manifest::builder().state("s", handle.clone())).unwrap());
    assert!(store.begin_next().unwrap().could_reuse(&handle));
}

#[test]
fn nothing_that_is_wholly_alive_is_ever_rewritten() {
    for merging in [Merging::Off, Merging::WithinCheckpoint, Merging::AcrossCheckpoints] {
        for (alignment, len) in [(64, 10), (64, 4048), (4096, 4048), (4096, 4049), (4096, 10)] {
            let options = Options::new().disk(MemoryDisk::new()).merging(merging).alignment(alignment);
            let options = options.inline_threshold(0).segment_size(40_000).max_space_amplification(Some(1.0));
            let store = options.open(ROOT).unwrap();
            let mut kept = commit_states(&store, &(0..40).map(|n| bytes(n, len)).collect::<Vec<_>>());
            for _ in 0..5 {
                let handles: Vec<_> = kept.unwrap().manifest().states().map(|(_, handle)| handle.clone()).collect();
                let pending = store.begin_next().unwrap();
                assert!(handles.iter().all(|handle| pending.could_reuse(handle)), "{merging:?}, {alignment}, {len}");
                let named = pending.reuse(&handles).unwrap().into_iter().enumerate();
                let manifest = named.fold(Manifest::builder(), |m, (n, h)| m.state(n.to_string(), h));
                kept = pending.commit(manifest).map_err(piton::Error::from);
            }
            assert_eq!(store.usage().relocated_bytes, 0);
        }
    }
}

#[test]
fn aborted_checkpoint_gives_its_space_back_though_a_writer_of_it_is_stuck() {
    for (merging, left) in [(Merging::Off, 0), (Merging::WithinCheckpoint, 0), (Merging::AcrossCheckpoints, 1)] {
        let store = options(&MemoryDisk::new()).merging(merging).open(ROOT).unwrap();
        let pending = store.begin_next().unwrap();
        names(0..20).for_each(|(_, content)| drop(pending.write(Scope::Shared, &content).unwrap()));
        let stuck = pending.writer(Scope::Shared).unwrap();
        drop(pending);
        let usage = store.usage();
        assert_eq!((usage.logical_files, usage.physical_files), (0, left), "{merging:?}: the store's lane alone");
        assert!(stuck.finish().unwrap_err().is_invalid());
    }
}

#[test]
fn damaged_state_is_not_relocated_but_found() {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    let old = two_wasteful_segments(&store);
    let file = Path::new(ROOT).join("shared/00000001-001-0000000001.seg");
    disk.damage(&file, |bytes| bytes[100] ^= 1).unwrap();
    let pending = store.begin_next().unwrap();
    let before = store.usage().relocated_bytes;
    let error = pending.reuse(&old).unwrap_err();
    assert!(error.is_corrupt() && error.path() == Some(&file), "{error}");
    assert_eq!(store.usage().relocated_bytes, before, "a copy with wrong bytes is no state");
    assert!(pending.reuse(&old[..1]).unwrap_err().is_not_found(), "write it anew");
    assert_eq!(store.damaged().len(), 1);
    pending.reuse(&old[1..]).unwrap();
}

#[test]
fn open_file_full_of_garbage_is_sealed_and_goes() {
    let disk = MemoryDisk::new();
    let store = Options::new().disk(disk).segment_size(1 << 20).open(ROOT).unwrap();
    commit(&store, 0..1, &[]);
    let mut sealed = 0;
    for _ in 0..30 {
        let pending = store.begin_next().unwrap();
        names(0..10).for_each(|(_, content)| drop(pending.write(Scope::Shared, &content).unwrap()));
        drop(pending);
        let usage = store.usage();
        assert!(usage.physical_bytes < (1 << 18) + 60_000, "about a quarter of a segment: {usage:?}");
        sealed += usage.marked_files;
        let latest = store.latest().unwrap().unwrap();
        commit(&store, 0..0, &[latest.manifest().state("0").unwrap().clone()]);
        drop(latest);
        let _ = store.prune(1).unwrap();
    }
    assert!(sealed >= 4, "30 times 50,000 bytes: {sealed}");
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(0, 5000));
}

fn punched_store(disk: &(impl Disk + Clone), root: &Path) -> (Store, StateHandle) {
    // What may lie fallow is unbounded, so that nothing is marked.
    let options = Options::new().disk(disk.clone()).max_space_amplification(None).segment_size(1 << 20);
    let store = options.open(root).unwrap();
    let states = commit(&store, 0..200, &[]);
    commit(&store, 500..510, &[states[77].clone()]);
    (store, states[77].clone())
}

fn first_segment(disk: &impl Disk, root: &Path) -> (PathBuf, piton::disk::Metadata) {
    let path = root.join("shared/00000001-001-0000000001.seg");
    let metadata = disk.metadata(At::new(&path)).unwrap();
    (path, metadata)
}

#[test]
fn dead_ranges_are_punched_out_and_what_is_alive_stays() {
    let dir = tempfile::tempdir().unwrap();
    dead_ranges_are_punched(&OsDisk, dir.path());
    dead_ranges_are_punched(&SimDisk::new(), ROOT.as_ref());
}

fn dead_ranges_are_punched(disk: &(impl Disk + Clone), root: &Path) {
    let (store, kept) = punched_store(disk, root);
    let reclaimed = store.prune(1).unwrap();
    let (path, metadata) = first_segment(disk, root);
    assert!(metadata.len > 200 * 5056, "{} keeps its length", path.display());
    assert!(metadata.allocated < 60_000, "{metadata:?}: a state, and what the second checkpoint wrote here");
    assert!(reclaimed.punched_bytes > 950_000, "{reclaimed:?}");
    let checkpoint = store.latest().unwrap().unwrap();
    assert_eq!(*checkpoint.read(&kept).unwrap(), *bytes(77, 5000));
    drop((checkpoint, store));
    let store = Options::new().disk(disk.clone()).open(root).unwrap();
    let usage = store.usage();
    assert!(usage.allocated_bytes < 100_000 && usage.physical_bytes > 1_000_000, "known after a restart: {usage:?}");
    read_states(&store.latest().unwrap().unwrap()).unwrap();
}

#[test]
fn file_that_somebody_has_linked_elsewhere_is_not_punched() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = punched_store(&OsDisk, dir.path());
    let backup = dir.path().join("backup.seg");
    let (path, _) = first_segment(&OsDisk, dir.path());
    std::fs::hard_link(&path, &backup).unwrap();
    let before = std::fs::read(&backup).unwrap();
    assert_eq!(store.prune(1).unwrap().punched_bytes, 0);
    assert!(std::fs::read(&backup).unwrap() == before);
}

#[test]
fn nothing_outside_of_the_store_is_punched_through_a_link() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = punched_store(&OsDisk, dir.path());
    let (path, _) = first_segment(&OsDisk, dir.path());
    let theirs = outside.path().join("theirs");
    std::fs::rename(&path, &theirs).unwrap();
    std::os::unix::fs::symlink(&theirs, &path).unwrap();
    let before = std::fs::read(&theirs).unwrap();
    assert_eq!(store.prune(1).unwrap().punched_bytes, 0);
    assert!(std::fs::read(&theirs).unwrap() == before);
    let link = OsDisk.punch_holes(At::new(&path), std::slice::from_ref(&(0..4096))).unwrap_err();
    assert_eq!(link.kind(), std::io::ErrorKind::InvalidData, "not even if the disk is asked to: {link}");
}

#[test]
fn disk_that_cannot_punch_is_asked_once_and_one_that_fails_is_reported_and_asked_again() {
    for (fault, failures, calls) in [(Fault::Error(95), 0, 1), (Fault::Error(EIO), 1, 2)] {
        let disk = SimDisk::new();
        let (store, _) = punched_store(&disk, ROOT.as_ref());
        disk.fail_nth(Call::PunchHoles, 1, fault);
        let reclaimed = store.prune(1).unwrap();
        assert_eq!((reclaimed.punched_bytes, reclaimed.failures.len()), (0, failures), "{reclaimed:?}");
        let _ = store.prune(1).unwrap();
        assert_eq!(disk.count(Call::PunchHoles), calls);
        read_states(&store.latest().unwrap().unwrap()).unwrap();
        // Another file worth punching.
        let more = commit(&store, 0..400, &[]);
        commit(&store, 500..510, &[more[0].clone(), more[399].clone()]);
        let _ = store.prune(1).unwrap();
        assert_eq!(disk.count(Call::PunchHoles) > calls, failures > 0, "one that cannot is not asked again");
        read_states(&store.latest().unwrap().unwrap()).unwrap();
    }
}

#[test]
fn nothing_is_punched_while_a_record_that_cannot_be_read_may_name_it() {
    let disk = SimDisk::new();
    let (store, _) = punched_store(&disk, ROOT.as_ref());
    drop(store);
    log::spoil_on(&disk, 1);
    let store = open(&disk).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let _ = store.forget(store.checkpoint_ids()[1]).unwrap();
    assert!(!store.maintain(u64::MAX).unwrap().more, "nothing that may be done is left");
    assert!(!store.maintain(0).unwrap().more);
    assert_eq!(disk.count(Call::PunchHoles), 0);
    drop(store);
    // What was done to it is undone.
    log::spoil_on(&disk, 1);
    let store = open(&disk).unwrap();
    assert_eq!(read_states(&store.checkpoint(store.checkpoint_ids()[0]).unwrap()).unwrap().len(), 200);
}

#[test]
fn manual_maintenance_does_nothing_by_itself_and_all_of_it_when_called() {
    let disk = SimDisk::new();
    let manual = Options::new().disk(disk.clone()).maintenance(Maintenance::Manual).segment_size(SEGMENT);
    let store = manual.open(ROOT).unwrap();
    commit(&store, 0..80, &[]);
    commit(&store, 80..81, &[]);
    let removed = disk.count(Call::Remove);
    let reclaimed = store.prune(1).unwrap();
    assert_eq!((reclaimed.files, disk.count(Call::Remove)), (0, removed));
    assert_eq!(store.usage().orphan_bytes, 20 * SEGMENT - 20 * 8);
    assert!(store.maintain(0).unwrap().more);
    let part = store.maintain(5 * SEGMENT).unwrap();
    assert!(part.more && (5..=6).contains(&part.files), "{part:?}");
    let rest = store.maintain(u64::MAX).unwrap();
    assert!(!rest.more && part.files + rest.files == 20, "{rest:?}");
    assert_eq!(store.usage().orphan_bytes, 0);
    read_states(&store.latest().unwrap().unwrap()).unwrap();
    commit(&store, 0..8, &[]);
    commit(&store, 8..16, &[]);
    let _ = store.prune(1).unwrap();
    assert!(store.usage().orphan_bytes > 0);
    store.close().unwrap();
    let store = open(&disk).unwrap();
    assert!(store.open_report().removed.is_empty(), "closing is the last chance: {:?}", store.open_report());
}

#[test]
fn file_that_resists_removal_is_an_orphan_in_the_gauges_until_it_goes() {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    commit(&store, 0..STATES, &[]);
    commit(&store, 10..11, &[]);
    disk.fail_nth(Call::Remove, 1, Fault::Error(EIO));
    assert_eq!(store.prune(1).unwrap().failures.len(), 1);
    assert_eq!(store.usage().orphan_bytes, SEGMENT - 8);
    assert_eq!(store.maintain(u64::MAX).unwrap().files, 1);
    assert_eq!(store.usage().orphan_bytes, 0);
}
