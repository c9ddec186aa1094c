//! G7: kinds of storage, and pointers to checkpoints.

use std::{path::Path, sync::Arc};

use piton::{
    Manifest, Options, PointerFault, Scope, Store,
    contract::{CheckpointPointer, CheckpointStorage, CustomStorage, FilesystemStorage, MemoryStorage, Storage},
    disk::{At, Disk, MemoryDisk},
};

use crate::support::{
    bytes, commit_states,
    hooked::{Hook, HookedDisk},
    log::{change_in, logs_in},
    read_states,
};

const LIMIT: usize = 5 * 1024 * 1024;

/// Each kind, with a directory of its own where it needs one.
fn kinds(dir: &Path) -> Vec<Storage> {
    vec![
        MemoryStorage::default().into(),
        MemoryStorage { directory: Some(dir.join("manifests alone")), ..MemoryStorage::default() }.into(),
        FilesystemStorage::new(dir.join("files")).into(),
        CustomStorage::new("memory", "/custom", Arc::new(MemoryDisk::new())).into(),
    ]
}

#[test]
fn every_kind_opens_a_store_and_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    for storage in kinds(dir.path()) {
        let store = storage.open().unwrap();
        assert!(store.root().ends_with(storage.root()), "{storage:?}");
        let states = [bytes(1, 3), bytes(2, 5_000), bytes(3, 300_000)];
        let checkpoint = commit_states(&store, &states).unwrap();
        let read: Vec<_> = read_states(&checkpoint).unwrap().into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(read, states, "{storage:?}");
        let json = serde_json::to_string(&storage).unwrap();
        assert_eq!(serde_json::from_str::<Storage>(&json).unwrap(), storage, "{json}");
    }
}

#[test]
fn memory_keeps_every_state_inside_the_manifest_and_refuses_a_larger_one_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for directory in [None, Some(dir.path().join("state"))] {
        let storage = MemoryStorage { directory, ..MemoryStorage::default() };
        assert_eq!(storage.max_state_size, LIMIT);
        let store = storage.open().unwrap();
        let pending = store.begin_next().unwrap();
        let largest = pending.write(Scope::Shared, &vec![7; LIMIT]).unwrap();
        assert!(largest.is_inline());
        let mut writer = pending.writer(Scope::Shared).unwrap();
        std::io::Write::write_all(&mut writer, &vec![7; LIMIT]).unwrap();
        let error = std::io::Write::write_all(&mut writer, &[7]).unwrap_err().to_string();
        assert!(error.contains("5242881") && error.contains("5242880"), "{error}");
        drop(writer);
        pending.commit(Manifest::builder().state("largest", largest)).unwrap();
        let usage = store.usage();
        assert_eq!((usage.physical_files, usage.logical_files), (0, 0), "nothing is in a file of its own");
        drop(store);
        let left = storage.open().unwrap().latest().unwrap();
        let size = left.map(|left| left.read(left.manifest().state("largest").unwrap()).unwrap().len());
        assert_eq!(size, storage.directory.as_ref().map(|_| LIMIT), "only a directory outlives the store");
    }
}

#[test]
fn sizes_that_no_memory_storage_can_have_are_refused_by_name() {
    for size in [0, (64 << 20) + 1] {
        let error = MemoryStorage { max_state_size: size, directory: None }.open().unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains("max_state_size"), "{error}");
    }
    for json in [r#"{"memory":{"max_state_siez":1}}"#, r#"{"filesystem":{}}"#, r#"{"tape":{}}"#] {
        assert!(serde_json::from_str::<Storage>(json).is_err(), "{json}");
    }
    let storage: Storage = serde_json::from_str(r#"{"memory":{}}"#).unwrap();
    assert_eq!(storage, MemoryStorage::default().into());
}

#[test]
fn filesystem_takes_its_threshold_and_its_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FilesystemStorage {
        inline_threshold: Some(10),
        write_buffer: 100,
        ..FilesystemStorage::new(dir.path().join("s"))
    };
    let store = storage.open().unwrap();
    let pending = store.begin_next().unwrap();
    assert!(pending.write(Scope::Shared, &[7; 10]).unwrap().is_inline());
    assert!(!pending.write(Scope::Shared, &[7; 11]).unwrap().is_inline());
    // What does not fit into the buffer has a segment of its own.
    let files = store.usage().physical_files;
    pending.write(Scope::Shared, &[7; 101]).unwrap();
    assert_eq!(store.usage().physical_files, files + 1);
}

fn fault(storage: &dyn CheckpointStorage, pointer: &str) -> PointerFault {
    let error = storage.resolve(pointer.as_ref()).unwrap_err();
    assert!(!error.to_string().contains("  "), "{error}");
    let fault = error.pointer_fault();
    let (is_invalid, is_missing) = (error.is_invalid(), error.is_not_found());
    assert_eq!(
        (is_invalid, is_missing),
        match fault {
            Some(PointerFault::Missing) => (false, true),
            _ => (true, false),
        }
    );
    fault.unwrap_or_else(|| panic!("{pointer:?}: {error}"))
}

#[test]
fn pointer_resolves_from_a_directory_with_or_without_a_slash_or_from_the_path_of_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let storage = FilesystemStorage::new(&root);
    let store = storage.open().unwrap();
    let [first, second] = [1, 2].map(|n| commit_states(&store, &[bytes(n, 5_000)]).unwrap().id());
    let text = root.to_str().unwrap();
    let (old, new) =
        (CheckpointPointer { root: root.clone(), id: first }, CheckpointPointer { root: root.clone(), id: second });
    let rows = [
        (text.to_owned(), &new),
        (format!("{text}/"), &new),
        (format!("{text}//"), &new),
        (format!("{text}/./"), &new),
        (new.to_string(), &new),
        (old.to_string(), &old),
        (format!("{text}/.//{:020}", first.get()), &old),
    ];
    for (pointer, expected) in rows {
        // Whether or not somebody has it open, and from storage that puts its own elsewhere.
        for storage in [&storage as &dyn CheckpointStorage, &MemoryStorage::default()] {
            assert_eq!(storage.resolve(pointer.as_ref()).unwrap(), *expected, "{pointer}");
            let restored = storage.restore(pointer.as_ref()).unwrap();
            assert_eq!(restored.id(), expected.id);
            assert_eq!(read_states(&restored).unwrap()[0].1, bytes(expected.id.get(), 5_000));
        }
    }
    // What was rolled back does not count, and an export is a store.
    store.rollback_to(first).unwrap();
    assert_eq!(storage.resolve(&root).unwrap(), old);
    let export = dir.path().join("export");
    store.export(second, &export).unwrap();
    assert_eq!(storage.resolve(&export).unwrap().root, export);
    // And a link to the directory, which is what people keep.
    std::os::unix::fs::symlink(&root, dir.path().join("current")).unwrap();
    assert_eq!(storage.resolve(&dir.path().join("current")).unwrap().id, first);
}

#[test]
fn relative_pointer_is_relative_to_the_current_directory() {
    let storage = FilesystemStorage::new("unused");
    let error = storage.resolve("there/is/none".as_ref()).unwrap_err();
    let here = std::env::current_dir().unwrap().join("there/is/none");
    assert_eq!(error.path(), Some(here.as_path()));
}

#[test]
fn empty_malformed_and_missing_pointers_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let storage = FilesystemStorage::new(&root);
    let empty_store = dir.path().join("empty");
    drop(Store::open(&empty_store).unwrap());
    let store = storage.open().unwrap();
    let id = commit_states(&store, &[bytes(1, 5_000)]).unwrap().id();
    std::fs::write(root.join("manifests/notes.txt"), "mine").unwrap();
    // A name that is there is no path of a checkpoint: it is a store, or it is nothing.
    std::fs::create_dir(root.join(format!("{:020}", 77))).unwrap();
    std::fs::write(root.join(format!("{:020}", 78)), "mine").unwrap();
    std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let rows = [
        (String::new(), PointerFault::Empty),
        (" \t\n".to_owned(), PointerFault::Empty),
        ("with\0nul".to_owned(), PointerFault::Malformed),
        ("hdfs://host/checkpoints".to_owned(), PointerFault::Malformed),
        (path("state/piton.store"), PointerFault::Malformed),
        (path("state/manifests/notes.txt"), PointerFault::Malformed),
        (path("state/manifests/notes.txt/"), PointerFault::Malformed),
        (path("nothing"), PointerFault::Missing),
        (path("state/piton.store/below a file"), PointerFault::Missing),
        (path("elsewhere"), PointerFault::Missing),
        (path("empty"), PointerFault::Missing),
        (path("state/manifests"), PointerFault::Missing),
        (path(&format!("state/{:020}", id.get() + 1)), PointerFault::Missing),
        (path(&format!("state/{:020}", 0)), PointerFault::Missing),
        (path(&format!("state/{}", id.get())), PointerFault::Missing),
        (path(&format!("state/{:020}/", 77)), PointerFault::Missing),
        (path(&format!("state/{:020}", 78)), PointerFault::Malformed),
        (path(&format!("elsewhere/{:020}", id.get())), PointerFault::Missing),
        (path(&format!("empty/{:020}", id.get())), PointerFault::Missing),
        (path(&format!("nothing/{:020}", id.get())), PointerFault::Missing),
        (path(&format!("state/manifests/{:020}", id.get())), PointerFault::Missing),
        (path(&format!("state/{:020}/{:020}", id.get(), id.get())), PointerFault::Missing),
    ];
    for (pointer, expected) in rows {
        assert_eq!(fault(&storage, &pointer), expected, "{pointer:?}");
        let restored = storage.restore(pointer.as_ref()).unwrap_err();
        assert_eq!(restored.pointer_fault(), Some(expected), "{pointer:?}");
    }
    // A log is no checkpoint, wherever it is.
    let log = logs_in(&root).remove(0);
    assert_eq!(fault(&storage, log.to_str().unwrap()), PointerFault::Malformed);
    let astray = path(&format!("elsewhere/{:020}", id.get()));
    std::fs::copy(log, &astray).unwrap();
    assert_eq!(fault(&storage, &astray), PointerFault::Malformed);
}

#[test]
fn what_is_neither_file_nor_directory_is_malformed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let storage = FilesystemStorage::new(&root);
    commit_states(&storage.open().unwrap(), &[bytes(1, 5_000)]).unwrap();
    let log = logs_in(&root).remove(0);
    for (from, to) in [(log.clone(), "to a log"), (root.join("piton.store"), "to a file")] {
        std::os::unix::fs::symlink(from, dir.path().join(to)).unwrap();
        assert_eq!(fault(&storage, dir.path().join(to).to_str().unwrap()), PointerFault::Malformed, "{to}");
    }
    std::os::unix::fs::symlink("nowhere", dir.path().join("to nothing")).unwrap();
    assert_eq!(fault(&storage, dir.path().join("to nothing").to_str().unwrap()), PointerFault::Missing);
    let alias = root.join(format!("{:020}", 77));
    std::os::unix::fs::symlink(&log, &alias).unwrap();
    assert_eq!(fault(&storage, alias.to_str().unwrap()), PointerFault::Malformed);
    assert_eq!(fault(&storage, "/dev/null"), PointerFault::Malformed);
}

#[test]
fn path_that_is_no_text_is_a_path() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(std::ffi::OsStr::from_bytes(b"state \xff"));
    let storage = FilesystemStorage::new(&root);
    let id = commit_states(&storage.open().unwrap(), &[bytes(1, 5_000)]).unwrap().id();
    let found = storage.resolve(&root).unwrap();
    assert_eq!((&found.root, found.id), (&root, id));
    assert_eq!(storage.resolve(&found.path()).unwrap(), found);
}

#[test]
fn store_that_has_lost_something_is_damaged_and_not_missing() {
    type Lose = fn(&Path);
    let rows: [(&str, Lose); 2] = [
        ("piton.store", |root| std::fs::remove_file(root.join("piton.store")).unwrap()),
        ("manifests", |root| std::fs::remove_dir_all(root.join("manifests")).unwrap()),
    ];
    for (what, lose) in rows {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let storage = FilesystemStorage::new(&root);
        commit_states(&storage.open().unwrap(), &[bytes(1, 5_000)]).unwrap();
        lose(&root);
        let errors = [storage.resolve(&root).unwrap_err(), Options::new().open_read_only(&root).unwrap_err()];
        for error in errors {
            assert!(error.is_corrupt() && error.to_string().contains(what), "{error}");
        }
        let error = storage.restore(&root.join(format!("{:020}", 1))).unwrap_err();
        assert!(error.is_corrupt() && error.to_string().contains(what), "{error}");
    }
    // A log, which has the checkpoint.
    let dir = tempfile::tempdir().unwrap();
    let storage = FilesystemStorage::new(dir.path());
    commit_states(&storage.open().unwrap(), &[bytes(1, 5_000)]).unwrap();
    let log = logs_in(dir.path()).remove(0);
    std::fs::remove_file(&log).unwrap();
    for pointer in [dir.path().to_owned(), dir.path().join(format!("{:020}", 1))] {
        for error in
            [storage.resolve(&pointer).map(drop).unwrap_err(), storage.restore(&pointer).map(drop).unwrap_err()]
        {
            assert!(error.is_corrupt() && error.path() == Some(&log), "{}: {error}", pointer.display());
        }
    }
    // What has become something else is named.
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    std::fs::remove_dir_all(dir.path().join("manifests")).unwrap();
    std::fs::write(dir.path().join("manifests"), b"").unwrap();
    let error = FilesystemStorage::new("unused").resolve(dir.path()).unwrap_err();
    assert!(error.pointer_fault().is_none() && error.path().unwrap().ends_with("manifests"), "{error}");
    // Nor is an export that was not completed a store.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("piton.partial"), b"").unwrap();
    assert!(FilesystemStorage::new("unused").resolve(dir.path()).unwrap_err().is_corrupt());
}

#[test]
fn store_that_is_made_or_taken_away_just_now_is_not_damaged() {
    let (root, identity) = (Path::new(crate::support::ROOT), Path::new("/state/piton.store"));
    let disk = HookedDisk::new();
    commit_states(&disk.open(), &[bytes(1, 5_000)]).unwrap();
    let open = || Options::new().disk(disk.clone()).open_read_only(root);
    // It gets its identity, which comes last, after that was looked for.
    let away = Path::new("/state/away");
    disk.disk.rename(At::new(identity), At::new(away)).unwrap();
    assert!(open().unwrap_err().is_corrupt());
    let sim = disk.disk.clone();
    *disk.during_list_of_manifests.lock().unwrap() =
        Some(Box::new(move || sim.rename(At::new(away), At::new(identity)).unwrap()));
    assert_eq!(open().unwrap().checkpoint_ids().unwrap().len(), 1);
    // It goes, its identity first, after that was read.
    let sim = disk.disk.clone();
    *disk.after_open_of_the_identity.lock().unwrap() = Some(Box::new(move || {
        sim.rename(At::new(identity), At::new(away)).unwrap();
        let manifests = Path::new("/state/manifests");
        sim.list(At::new(manifests))
            .unwrap()
            .iter()
            .for_each(|entry| sim.remove(At::new(&manifests.join(&entry.name))).unwrap());
        sim.remove_dir(At::new(manifests)).unwrap();
    }));
    assert!(open().unwrap_err().is_not_found());
}

#[test]
fn only_rolled_back_checkpoints_are_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FilesystemStorage::new(dir.path());
    let store = storage.open().unwrap();
    let [first, _] = [1, 2].map(|n| commit_states(&store, &[bytes(n, 5_000)]).unwrap().id());
    store.rollback_to(first).unwrap();
    let _ = store.forget(first).unwrap();
    let error = storage.resolve(dir.path()).unwrap_err();
    assert!(
        error.is_not_found() && error.pointer_fault().is_none() && error.to_string().contains("rolled back"),
        "{error}"
    );
}

/// Runs an act the n-th time that a hook is.
fn at_the_nth(hook: &Hook, n: usize, act: Box<dyn FnOnce() + Send>) {
    let again = Arc::clone(hook);
    *hook.lock().unwrap() = Some(if n == 1 { act } else { Box::new(move || at_the_nth(&again, n - 1, act)) });
}

#[test]
fn newest_checkpoint_is_restored_whenever_a_writer_forgets_it_for_a_newer_one() {
    for n in 1..10 {
        let disk = HookedDisk::new();
        let store = Options::new().disk(disk.clone()).retain(1).open(crate::support::ROOT).unwrap();
        commit_states(&store, &[bytes(1, 5_000)]).unwrap();
        let storage = CustomStorage::new("hooked", crate::support::ROOT, Arc::new(disk.clone()));
        let commit = move || drop(commit_states(&store, &[bytes(2, 5_000)]).unwrap());
        at_the_nth(&disk.after_open_of_the_identity, n, Box::new(commit));
        let restored = storage.restore(crate::support::ROOT.as_ref()).unwrap();
        assert_eq!(read_states(&restored).unwrap()[0].1, bytes(restored.id().get(), 5_000), "at the {n}th look");
    }
}

#[test]
fn damage_is_not_a_missing_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let store = Options::new().open(&root).unwrap();
    let id = commit_states(&store, &[bytes(1, 5_000)]).unwrap().id();
    drop(store);
    // Its record makes no sense.
    change_in(&root, id.get(), |record| *record.last_mut().unwrap() ^= 0x80);
    let storage = FilesystemStorage::new(&root);
    assert!(storage.resolve(&root).unwrap_err().is_corrupt());
    // It is there. What it consists of a caller learns that opens it.
    let path = CheckpointPointer { root, id }.path();
    assert_eq!(storage.resolve(&path).unwrap().id, id);
    assert!(storage.restore(&path).unwrap_err().is_corrupt());
}

#[test]
fn custom_disk_is_where_its_pointers_are_resolved() {
    let disk = Arc::new(MemoryDisk::new());
    let storage = CustomStorage::new("memory", "/custom/state", disk);
    let store = storage.open().unwrap();
    let id = commit_states(&store, &[bytes(1, 5_000)]).unwrap().id();
    assert_eq!(storage.resolve("/custom/state/".as_ref()).unwrap().id, id);
    assert_eq!(fault(&storage, "/custom"), PointerFault::Missing);
    assert_eq!(fault(&MemoryStorage::default(), "/custom/state"), PointerFault::Missing);
}
