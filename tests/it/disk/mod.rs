//! Every disk keeps the promises of the trait; and the simulated one loses exactly what was not synced.

use std::{collections::BTreeSet, ffi::OsStr, path::Path};

use piton::{
    disk::{At, Disk, MemoryDisk, OsDisk},
    testing::{Fault, SimDisk, Survival, conformance},
};

const EIO: i32 = 5;

#[test]
fn real_disk_keeps_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    conformance::check(&OsDisk, &dir.path().join("deep/er"));
}

#[test]
fn memory_disk_keeps_every_promise() {
    conformance::check(&MemoryDisk::new(), Path::new("/deep/er"));
}

#[test]
fn simulated_disk_keeps_every_promise() {
    conformance::check(&SimDisk::new(), Path::new("/deep/er"));
}

#[test]
fn files_of_the_real_disk_can_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (name, _) = OsDisk.create_temp(At::new(dir.path())).unwrap();
    let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "a checkpoint that only its writer can read is no use to others");
}

#[test]
fn errors_of_the_real_disk_keep_their_code() {
    let dir = tempfile::tempdir().unwrap();
    let enoent = OsDisk.create_temp(At::new(&dir.path().join("none"))).unwrap_err();
    assert_eq!(enoent.raw_os_error(), Some(2));
    std::fs::write(dir.path().join("a"), b"a").unwrap();
    std::fs::write(dir.path().join("b"), b"b").unwrap();
    let eexist = OsDisk.rename_new(At::new(&dir.path().join("a")), At::new(&dir.path().join("b"))).unwrap_err();
    assert_eq!(eexist.raw_os_error(), Some(17));
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"a", "a refused rename leaves the first name");
}

/// A file `/f` with synced and unsynced bytes, whose name is durable.
fn half_synced() -> SimDisk {
    let disk = SimDisk::new();
    let (name, file) = disk.create_temp(At::new(Path::new("/"))).unwrap();
    disk.rename_new(At::new(&Path::new("/").join(name)), At::new(Path::new("/f"))).unwrap();
    file.write_at(b"synced", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(At::new(Path::new("/"))).unwrap();
    file.write_at(b"unsynced", 6).unwrap();
    disk
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(At::new(Path::new(path))).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn power_cut_loses_unsynced_bytes_and_keeps_synced_ones() {
    assert_eq!(content(&half_synced().cut_power(Survival::Nothing), "/f").unwrap(), b"synced");
    assert_eq!(content(&half_synced().cut_power(Survival::Everything), "/f").unwrap(), b"syncedunsynced");
    let random: BTreeSet<_> =
        (0..100).map(|seed| content(&half_synced().cut_power(Survival::Random(seed)), "/f").unwrap()).collect();
    assert!(random.iter().all(|bytes| b"syncedunsynced".starts_with(bytes) && bytes.len() >= 6));
    assert!(random.len() > 5, "lost, kept and torn writes all happen: {random:?}");
}

#[test]
fn power_cut_loses_unsynced_names_each_for_itself() {
    let outcomes: BTreeSet<_> = (0..200)
        .map(|seed| {
            let disk = half_synced();
            disk.rename(At::new(Path::new("/f")), At::new(Path::new("/g"))).unwrap();
            let disk = disk.cut_power(Survival::Random(seed));
            (content(&disk, "/f").is_some(), content(&disk, "/g").is_some())
        })
        .collect();
    assert_eq!(outcomes.len(), 4, "neither, both, old, new: {outcomes:?}");
    let disk = half_synced();
    disk.remove(At::new(Path::new("/f"))).unwrap();
    assert!(content(&disk, "/f").is_none());
    assert!(content(&disk.cut_power(Survival::Nothing), "/f").is_some(), "an unsynced removal comes back");
}

#[test]
fn bytes_of_a_failed_sync_are_not_made_durable_by_the_next_one() {
    let disk = half_synced();
    let file = disk.open(At::new(Path::new("/f"))).unwrap();
    disk.fail(disk.calls() + 1, Fault::Error(EIO));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
    file.sync_data().unwrap();
    assert_eq!(content(&disk.cut_power(Survival::Nothing), "/f").unwrap(), b"synced");
}

#[test]
fn faults_hit_the_call_they_were_meant_for_and_after_a_power_cut_nothing_works() {
    let disk = half_synced();
    let file = disk.open(At::new(Path::new("/f"))).unwrap();
    disk.fail(disk.calls() + 1, Fault::ShortWrite);
    assert_eq!(file.write_at(b"12345", 0).unwrap(), 3);
    disk.fail(disk.calls() + 1, Fault::ErrorAfter(EIO));
    assert!(disk.remove(At::new(Path::new("/f"))).is_err());
    assert!(content(&disk, "/f").is_none(), "it took effect nevertheless");
    disk.fail(disk.calls() + 2, Fault::PowerCut);
    assert!(file.write_at(b"1", 0).is_ok());
    assert!(file.write_at(b"1", 0).is_err() && disk.list(At::new(Path::new("/"))).is_err());
}

#[test]
fn killed_process_leaves_what_was_visible_and_its_names_still_unsynced() {
    let disk = half_synced();
    disk.rename(At::new(Path::new("/f")), At::new(Path::new("/g"))).unwrap();
    let after = disk.kill();
    assert_eq!(content(&after, "/g").unwrap(), b"syncedunsynced");
    assert!(disk.list(At::new(Path::new("/"))).is_err(), "the killed process does nothing more");
    let after = after.cut_power(Survival::Nothing);
    assert_eq!(content(&after, "/f").unwrap(), b"synced");
    assert_eq!(after.list(At::new(Path::new("/"))).unwrap()[0].name, OsStr::new("f"));
}
