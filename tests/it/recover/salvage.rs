//! What is in a segment can be told without any manifest. What is fenced off here: a state that is listed and was never
//! written, and a whole one that is missed because of something before it.

use std::path::{Path, PathBuf};

use piton::{
    Manifest, Merging, Options, Scope, StateHandle,
    disk::OsDisk,
    list_segment,
    testing::{Call, Fault, SimDisk},
};

use crate::support::{ROOT, bytes, commit_states, open};

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
        let pending = store.begin_next().unwrap();
        let handle = pending.write(Scope::Shared, &bytes(n as u64, len)).unwrap();
        if !handle.is_inline() {
            expected.push((handle.clone(), pending.id()));
        }
        // Committed or not is not known to the segment, once it is written.
        if n % 2 == 1 {
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

/// A trailer for everything that precedes it, from an offset on.
fn trailer(header_crc: u32, start: usize, at: usize, payload_crc: u32) -> Vec<u8> {
    let mut trailer = b"PITONEND".to_vec();
    trailer.extend((start as u64).to_le_bytes());
    trailer.extend(((at - start) as u64).to_le_bytes());
    trailer.extend(1_u64.to_le_bytes());
    trailer.extend(payload_crc.to_le_bytes());
    trailer.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    let mut crc = crc32fast::Hasher::new_with_initial(header_crc);
    crc.update(&trailer);
    trailer.extend(crc.finalize().to_le_bytes());
    assert_eq!(trailer.len(), 48);
    trailer
}

#[test]
fn trailer_across_the_end_of_what_is_read_at_a_time_is_found() {
    for before in [0, 1, 20, 47, 48, 49] {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().open(dir.path()).unwrap();
        let whole = commit_states(&store, &[bytes(1, (256 << 10) - before)]).unwrap();
        assert_eq!(listed(&segment(dir.path())), [whole.manifest().state("0").unwrap().clone()], "{before}");
    }
}

#[test]
fn made_up_trailers_that_each_claim_the_whole_file_do_not_take_for_ever() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let whole = commit_states(&store, &[bytes(1, 2000)]).unwrap().manifest().state("0").unwrap().clone();
    let path = Path::new(ROOT).join("shared/00000001-001-0000000001.seg");
    disk.damage(&path, |file| {
        let header_crc = u32::from_le_bytes(file[60..64].try_into().unwrap());
        // The first is even right about its payload, which is the whole state that precedes it.
        let right = crc32fast::hash(&file[64..]);
        file.extend(trailer(header_crc, 64, file.len(), right));
        let start = file.len();
        while file.len() < 4 << 20 {
            file.extend(trailer(header_crc, start, file.len(), 1));
        }
    })
    .unwrap();
    let before = disk.count(Call::ReadAt);
    let found: Vec<_> = list_segment(disk.clone(), &path).unwrap().into_iter().map(|entry| entry.handle).collect();
    assert_eq!(found, [whole]);
    // Reading everything before each of 87,000 trailers would be 700,000 pieces.
    assert!(disk.count(Call::ReadAt) - before < 10_000, "{}", disk.count(Call::ReadAt) - before);
}

#[test]
fn bad_sector_hides_only_the_states_that_it_hits() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    drop(commit_states(&store, &(0..5).map(|n| bytes(n, 2000)).collect::<Vec<_>>()).unwrap());
    let path = Path::new(ROOT).join("shared/00000001-001-0000000001.seg");
    // The header, the window, and then the third state.
    disk.fail_nth(Call::ReadAt, 5, Fault::Error(5));
    assert_eq!(list_segment(disk, &path).unwrap().len(), 4);
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
