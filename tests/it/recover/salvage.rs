//! What is in a segment can be told without any manifest. What is fenced off here: a state that is listed and was never
//! written, and a whole one that is missed because of something before it.

use std::path::{Path, PathBuf};

use piton::{Manifest, Merging, Options, Scope, StateHandle, disk::OsDisk, list_segment};

use crate::support::{bytes, commit_states};

fn segment(root: &Path) -> PathBuf {
    std::fs::read_dir(root.join("shared")).unwrap().next().unwrap().unwrap().path()
}

fn listed(path: &Path) -> Vec<StateHandle> {
    list_segment(OsDisk, path).unwrap().into_iter().map(|entry| entry.handle).collect()
}

#[test]
fn every_whole_state_is_listed_in_order_with_its_checkpoint_whatever_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().inline_threshold(0).open(dir.path()).unwrap();
    let lens = [1, 0, 63, 64, 65, 5000, 262_144 - 64 - 48, 262_144, 262_143, 1_048_576, 300_000, 17];
    let mut expected = Vec::new();
    for (n, len) in lens.into_iter().enumerate() {
        let pending = store.begin(store.next_id()).unwrap();
        let handle = pending.write(Scope::Shared, &bytes(n as u64, len)).unwrap();
        if !handle.is_inline() {
            expected.push((handle.clone(), pending.id()));
        }
        // Committed or not is not known to the segment.
        if n % 2 == 0 {
            pending.commit(Manifest::builder().state("s", handle)).unwrap();
        }
    }
    let found = list_segment(OsDisk, segment(dir.path())).unwrap();
    let file = std::fs::read(segment(dir.path())).unwrap();
    for entry in &found {
        let start = entry.offset as usize;
        let payload = &file[start..start + entry.handle.len() as usize];
        assert_eq!(crc32fast::hash(payload), entry.handle.crc32());
    }
    assert_eq!(found.into_iter().map(|entry| (entry.handle, entry.checkpoint)).collect::<Vec<_>>(), expected);
}

#[test]
fn damage_hides_only_the_states_that_it_hits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().open(dir.path()).unwrap();
    let states: Vec<_> = (0..10).map(|n| bytes(n, 2000)).collect();
    drop(commit_states(&store, &states).unwrap());
    let path = segment(dir.path());
    let whole = listed(&path);
    let file = std::fs::read(&path).unwrap();
    let entry = 2048;
    for (n, hit) in [(0, 64), (3, 64 + 3 * entry + 1000), (5, 64 + 5 * entry + 2000 + 20), (9, 64 + 9 * entry + 1999)] {
        let mut damaged = file.clone();
        damaged[hit] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        let mut expected = whole.clone();
        expected.remove(n);
        assert_eq!(listed(&path), expected, "byte {hit}");
    }
    for len in [64, 100, 64 + 2000, 64 + 2000 + 47, 64 + 2000 + 48, 64 + 5 * entry] {
        std::fs::write(&path, &file[..len]).unwrap();
        assert_eq!(listed(&path), whole[..(len - 64 + 48).saturating_sub(48) / entry], "cut after {len}");
    }
    std::fs::write(&path, &file[..63]).unwrap();
    let error = list_segment(OsDisk, &path).unwrap_err();
    assert!(error.is_corrupt() && error.path() == Some(&path), "{error}");
    assert!(list_segment(OsDisk, dir.path().join("none")).unwrap_err().is_not_found());
}

#[test]
fn segment_that_is_the_payload_of_a_state_is_not_listed_as_states_of_its_own() {
    let (inner, outer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Options::new().open(inner.path()).unwrap();
    drop(commit_states(&store, &(0..20).map(|n| bytes(n, 2000)).collect::<Vec<_>>()).unwrap());
    let segment_inside = std::fs::read(segment(inner.path())).unwrap();
    // At the same offsets as in its own file, so that every trailer in it is where it says it is.
    let payload = [&segment_inside[64..], &bytes(1, 7)].concat();
    let store = Options::new().merging(Merging::Off).open(outer.path()).unwrap();
    let checkpoint = commit_states(&store, std::slice::from_ref(&payload)).unwrap();
    assert_eq!(listed(&segment(outer.path())), [checkpoint.manifest().state("0").unwrap().clone()]);
}
