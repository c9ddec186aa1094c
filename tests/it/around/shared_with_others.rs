//! Other users, and what the operating system says of this process: rights, limits, names. What is fenced off here: a
//! member of the group could not take the lock, whatever the umask said.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use piton::{
    Merging, Options, Store,
    testing::{Call, Fault, SimDisk},
};

use crate::support::{ROOT, bytes, commit_states, read_states};

const EINTR: i32 = 4;
const EACCES: Option<i32> = Some(13);
const EMFILE: Option<i32> = Some(24);

/// Runs a part of this file in a process of its own, under a shell that prepares it.
fn after(prepare: &str, part: &str, dir: &Path) -> String {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("{prepare}; exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args([
            &format!("around::shared_with_others::{part}"),
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("PITON_DIR", dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    said.into_owned()
}

fn dir() -> std::path::PathBuf {
    std::env::var_os("PITON_DIR").unwrap().into()
}

#[test]
fn umask_alone_decides_who_may_read_and_write() {
    for (umask, file, dir_mode) in
        [("002", 0o664, 0o775), ("022", 0o644, 0o755), ("077", 0o600, 0o700), ("000", 0o666, 0o777)]
    {
        let dir = tempfile::tempdir().unwrap();
        after(&format!("umask {umask}"), "part_that_writes_a_store", dir.path());
        for entry in walkdir::WalkDir::new(dir.path().join("state")) {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let expected = if entry.file_type().is_dir() { dir_mode } else { file };
            assert_eq!(mode, expected, "umask {umask}: {mode:o} of {}", entry.path().display());
        }
    }
}

#[test]
#[ignore = "the tests of this file run it, in a process of its own"]
fn part_that_writes_a_store() {
    let store = Store::open(dir().join("state")).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    store.pin(store.checkpoint_ids()[0]).unwrap();
}

#[test]
fn few_descriptors_are_enough_for_any_number_of_states() {
    let dir = tempfile::tempdir().unwrap();
    after("ulimit -n 64", "part_that_writes_many_states_in_files_of_their_own", dir.path());
    let store = Store::open(dir.path().join("state")).unwrap();
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap().len(), 500);
}

#[test]
#[ignore = "the tests of this file run it, in a process of its own"]
fn part_that_writes_many_states_in_files_of_their_own() {
    let store = Options::new().merging(Merging::Off).open(dir().join("state")).unwrap();
    // The engine has some open as well.
    let _others: Vec<_> = (0..40).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    commit_states(&store, &(0..500).map(|seed| bytes(seed, 2000)).collect::<Vec<_>>()).unwrap();
}

#[test]
fn newest_checkpoint_is_not_passed_over_for_want_of_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("state")).unwrap();
    for seed in 1..=3 {
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
    }
    store.close().unwrap();
    after("ulimit -n 32", "part_that_recovers_without_descriptors", dir.path());
}

#[test]
#[ignore = "the tests of this file run it, in a process of its own"]
fn part_that_recovers_without_descriptors() {
    let store = Store::open(dir().join("state")).unwrap();
    let reader = Options::new().open_read_only(dir().join("state")).unwrap();
    let others: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert_eq!(store.recover_latest_validated().unwrap_err().raw_os_error(), EMFILE);
    let newest = store.checkpoint_ids().last().copied();
    // What it consists of is known already.
    let latest = store.latest().unwrap().unwrap();
    assert_eq!((Some(latest.id()), latest.get("0").unwrap_err().raw_os_error()), (newest, EMFILE));
    assert_eq!(store.prune(1).unwrap_err().raw_os_error(), EMFILE);
    assert_eq!(reader.latest().unwrap_err().raw_os_error(), EMFILE);
    assert_eq!(reader.recover_latest_validated().unwrap_err().raw_os_error(), EMFILE);
    drop(others);
    assert!(store.damaged().is_empty());
    assert_eq!(*latest.get("0").unwrap(), *bytes(3, 5000));
    assert_eq!((store.checkpoint_ids().len(), store.recover_latest_validated().unwrap().chosen), (3, newest));
}

#[test]
fn newest_checkpoint_is_not_passed_over_for_want_of_rights() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let root = dir.path().join("state");
    for seed in 1..=2 {
        let store = Store::open(&root).unwrap();
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
    }
    let mut segments: Vec<_> = std::fs::read_dir(root.join("shared")).unwrap().map(|e| e.unwrap().path()).collect();
    segments.sort();
    std::fs::set_permissions(segments.last().unwrap(), PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::File::open(segments.last().unwrap()).is_err() {
        // Not the superuser: this process will do.
        return check_rights(&root);
    }
    let nobody = 65534;
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["around::shared_with_others::part_that_may_not_read_the_newest", "--exact", "--ignored"])
        .env("PITON_DIR", dir.path())
        .uid(nobody)
        .status();
    // Where that user may not even start the test there is nothing to see.
    assert!(status.is_err() || status.unwrap().success());
}

#[test]
#[ignore = "the tests of this file run it, in a process of its own"]
fn part_that_may_not_read_the_newest() {
    check_rights(&dir().join("state"));
}

fn check_rights(root: &Path) {
    let reader = Options::new().open_read_only(root).unwrap();
    let newest = reader.checkpoint_ids().unwrap().last().copied().unwrap();
    assert_eq!(reader.recover_latest_validated().unwrap_err().raw_os_error(), EACCES);
    let read = reader.checkpoint(newest).and_then(|found| read_states(&found));
    assert_eq!(read.unwrap_err().raw_os_error(), EACCES);
}

#[test]
fn limit_on_the_size_of_files_is_an_error_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // In blocks of 1 KiB or of 512 bytes, as the shell has it: a log fits, and the state does not.
    after("ulimit -f 10000; trap '' XFSZ", "part_that_writes_too_much_into_one_file", dir.path());
    let store = Store::open(dir.path().join("state")).unwrap();
    assert_eq!(store.checkpoint_ids().len(), 2);
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(2, 5000));
}

#[test]
#[ignore = "the tests of this file run it, in a process of its own"]
fn part_that_writes_too_much_into_one_file() {
    let store = Store::open(dir().join("state")).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let error = commit_states(&store, &[bytes(9, 12_000_000)]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(27), "EFBIG: {error}");
    commit_states(&store, &[bytes(2, 5000)]).unwrap();
}

#[test]
fn writes_that_a_signal_interrupts_are_repeated() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    for nth in 1..=4 {
        disk.fail_nth(Call::WriteAt, nth, Fault::Error(EINTR));
        commit_states(&store, &[bytes(nth, 5000), bytes(nth, 3_000_000)]).unwrap();
    }
    assert_eq!(store.checkpoint_ids().len(), 4);
    read_states(&store.latest().unwrap().unwrap()).unwrap();
}
