//! A store that was opened before a fork. What is fenced off here: both halves committed, and the parent's states
//! overwrote the child's in their segment; a child that dropped its copy gave the parent's lock away.
//!
//! A fork copies one thread, so the process that forks here runs nothing else: it is this test binary again, with one test.

use std::{path::Path, process::Command};

use piton::{CheckpointId, Manifest, Options, Scope, Store};

use crate::support::{bytes, commit_states, read_states};

/// Runs a part of this file in a process of its own, with one thread beside the test's.
fn in_own_process(part: &str, dir: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&format!("around::forked::{part}"), "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env("PITON_DIR", dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn dir() -> std::path::PathBuf {
    std::env::var_os("PITON_DIR").unwrap().into()
}

/// Forks, and lets the child do something; it succeeds if that returns.
#[expect(unsafe_code, reason = "there is no safe way to fork")]
fn fork(child: impl FnOnce()) {
    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(status: i32) -> !;
    }
    // SAFETY: no other thread of this process holds a lock that the child needs: it has one test, and waits for it.
    match unsafe { fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends the child before it comes to the test harness.
            unsafe { _exit(i32::from(done.is_err())) }
        }
        pid => {
            let mut status = -1;
            // SAFETY: `status` is there to be written.
            assert_eq!(unsafe { waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0, "the child failed");
        }
    }
}

#[test]
fn child_can_change_nothing_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    in_own_process("part_of_a_child_that_tries_everything", dir.path());
}

#[test]
#[ignore = "the test above runs it, in a process of its own"]
fn part_of_a_child_that_tries_everything() {
    let dir = dir();
    let store = Options::new().segment_size(100_000).open(&dir).unwrap();
    for seed in 1..=2 {
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
    }
    let pending = store.begin_next().unwrap();
    let handle = pending.write(Scope::Shared, &bytes(3, 5000)).unwrap();
    let mut writer = pending.writer(Scope::Shared).unwrap();
    std::io::Write::write_all(&mut writer, &bytes(9, 3_000_000)).unwrap();
    let (in_child, writer_in_child) = (store.clone(), writer);
    fork(move || {
        let refused = |error: piton::Error| {
            assert!(error.is_fenced() && !error.is_indeterminate() && !error.is_corrupt(), "{error}");
            assert!(error.to_string().contains("child"), "{error}");
        };
        let id = CheckpointId::new(1).unwrap();
        refused(in_child.begin_next().map(drop).unwrap_err());
        refused(in_child.prune(1).map(drop).unwrap_err());
        refused(in_child.forget(id).map(drop).unwrap_err());
        refused(in_child.pin(id).unwrap_err());
        refused(in_child.rollback_to(id).unwrap_err());
        refused(in_child.cleanup_orphans(false).map(drop).unwrap_err());
        refused(in_child.maintain(u64::MAX).map(drop).unwrap_err());
        refused(in_child.clone().close().unwrap_err());
        refused(pending.write(Scope::Shared, &bytes(4, 5000)).map(drop).unwrap_err());
        refused(writer_in_child.finish().map(drop).unwrap_err());
        refused(pending.commit(Manifest::builder().state("0", handle)).unwrap_err().into_error());
        // What is there can be read.
        assert_eq!(read_states(&in_child.latest().unwrap().unwrap()).unwrap()[0].1, bytes(2, 5000));
        drop(in_child);
    });
    // The child's copies have ended. The parent still has the lock, and everything goes on.
    assert!(Store::open(&dir).unwrap_err().is_locked());
    for seed in 4..=6 {
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
    }
    let kept: Vec<_> = store.checkpoint_ids();
    drop(store);
    let store = Store::open(&dir).unwrap();
    assert_eq!(store.checkpoint_ids(), kept);
    assert_eq!(kept.len(), 5);
    for (id, seed) in kept.into_iter().zip([1, 2, 4, 5, 6]) {
        assert_eq!(read_states(&store.checkpoint(id).unwrap()).unwrap()[0].1, bytes(seed, 5000));
    }
}

#[test]
fn child_that_drops_its_copies_leaves_the_files_and_locks_of_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    in_own_process("part_of_a_child_that_drops_everything", dir.path());
}

#[test]
#[ignore = "the test above runs it, in a process of its own"]
fn part_of_a_child_that_drops_everything() {
    let (dir, parent) = (dir(), std::process::id());
    // It may wait for a lock that another thread of the parent had.
    let observer =
        move |event: &piton::observe::Event| assert_eq!(std::process::id(), parent, "told in a child: {event}");
    let store = Options::new().observer(observer).open(&dir).unwrap();
    let first = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let pending = store.begin_next().unwrap();
    let handle = pending.write(Scope::Shared, &bytes(2, 5000)).unwrap();
    let mut streamed = pending.writer(Scope::Shared).unwrap();
    std::io::Write::write_all(&mut streamed, &bytes(3, 3_000_000)).unwrap();
    let reader = Options::new().open_read_only(&dir).unwrap();
    let open = reader.latest().unwrap().unwrap();
    // An export of the child's own, from a store of its own, is its own.
    std::thread::scope(|_| {
        let all = (store, first, pending, streamed, reader, open);
        let before = names(&dir);
        let all = std::cell::Cell::new(Some(all));
        fork(|| drop(all.take()));
        assert_eq!(names(&dir), before);
        let (store, first, pending, streamed, _reader, open) = all.take().unwrap();
        assert!(Store::open(&dir).unwrap_err().is_locked());
        // What the reader locked is locked still: only another process could forget it, so this one is asked.
        drop(first);
        assert!(store.forget(open.id()).unwrap_err().is_in_use());
        let streamed = streamed.finish().unwrap();
        let second = pending.commit(Manifest::builder().state("0", handle).state("1", streamed)).unwrap();
        assert_eq!(read_states(&second).unwrap()[1].1, bytes(3, 3_000_000));
    });
}

fn names(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut names: Vec<_> =
        walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap().path().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn child_opens_the_store_for_itself_once_its_parent_has_closed_it() {
    let dir = tempfile::tempdir().unwrap();
    in_own_process("part_of_a_child_that_opens_for_itself", dir.path());
}

#[test]
#[ignore = "the test above runs it, in a process of its own"]
fn part_of_a_child_that_opens_for_itself() {
    let dir = dir();
    let store = Store::open(&dir).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    store.close().unwrap();
    fork(|| {
        let store = Store::open(&dir).unwrap();
        commit_states(&store, &[bytes(2, 5000)]).unwrap();
        store.close().unwrap();
    });
    assert_eq!(Store::open(&dir).unwrap().checkpoint_ids().len(), 2);
}
