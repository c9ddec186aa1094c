//! Other users, and what the operating system says of this process: rights, limits, names. What is fenced off here: a
//! member of the group could not take the lock, whatever the umask said.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

use piton::Store;

use crate::support::{bytes, commit_states};

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
