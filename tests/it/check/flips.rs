//! Every byte of a small store, flipped in turn.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use piton::{
    CheckpointId, Issue, Manifest, Options, Scope, SinkCommitStatus, Store, Validation, ValidationReport,
    contract::Checkpointer,
    disk::{At, Disk},
    testing::SimDisk,
};

use super::{id, segment_of};
use crate::support::{ROOT, bytes, log, open};

/// What each checkpoint reads of each file: if one of these bytes is another, it is damaged.
type Covered = BTreeMap<PathBuf, Vec<(CheckpointId, Range<usize>)>>;

/// Two checkpoints that share a state and a segment, with everything that can be damaged, and nothing of it twice.
fn small() -> SimDisk {
    small_with(0)
}

/// The second one may have its states in the log as well.
fn small_with(redo: u64) -> SimDisk {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).inline_threshold(100).redo_size(redo).open(ROOT).unwrap();
    let pending = store.begin(id(1)).unwrap();
    let shared = pending.write(Scope::Shared, &bytes(1, 300)).unwrap();
    let inline = pending.write(Scope::Shared, b"inline").unwrap();
    let alone = pending.write(Scope::Exclusive, &bytes(2, 150)).unwrap();
    let manifest = Manifest::builder().state("shared", shared.clone()).state("inline", inline).sidecar(alone);
    pending.commit(manifest).unwrap();
    store.save_snapshot(id(2), "o", 0, &bytes(3, 250)).unwrap();
    store.save_delta(id(2), "o", 0, b"small").unwrap();
    let manifest = Manifest::builder().state("shared", shared).sink_status("out", SinkCommitStatus::Pending);
    store.save_manifest(&manifest.build(id(2))).unwrap();
    store.pin(id(1)).unwrap();
    store.update_manifest(&store.load_manifest(id(2)).unwrap().with_metadata("k", Some(vec![7; 20]))).unwrap();
    store.close().unwrap();
    disk
}

fn covered(disk: &SimDisk) -> Covered {
    let store = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    let mut covered = Covered::new();
    for id in store.checkpoint_ids().unwrap() {
        let checkpoint = store.checkpoint(id).unwrap();
        for handle in checkpoint.manifest().all_states().map(|state| state.handle).filter(|handle| !handle.is_inline())
        {
            let text = handle.to_string();
            let offset: usize = text.split(['@', '+']).nth(1).unwrap().parse().unwrap();
            let ranges = covered.entry(Path::new(ROOT).join(segment_of(&text))).or_default();
            // The header of the file, and the state with its trailer.
            ranges.extend([(id, 0..64), (id, offset..offset + handle.len() as usize + 48)]);
        }
    }
    covered
}

fn flip(disk: &SimDisk, path: &Path, at: usize) {
    disk.damage(path, |bytes| bytes[at] ^= 1 << (at % 8)).unwrap();
}

fn len(disk: &SimDisk, path: &Path) -> usize {
    disk.metadata(At::new(path)).unwrap().len as usize
}

/// The report names the file, if the byte is one that the checkpoint reads.
fn compare(report: &ValidationReport, covered: &Covered, path: &Path, at: usize) {
    let what = format!("byte {at} of {} and checkpoint {}: {:?}", path.display(), report.id, report.issues);
    let reads = covered[path].iter().any(|(id, range)| *id == report.id && range.contains(&at));
    assert_eq!(report.is_valid(), !reads, "{what}");
    let names = |issue: &Issue| match issue {
        Issue::State { error, .. } | Issue::Unreadable(error) => {
            error.is_corrupt() && error.path() == Some(path) && error.offset().is_some()
        }
        _ => false,
    };
    assert!(report.fatal().all(names), "{what}");
}

#[test]
fn every_flipped_byte_is_reported_with_its_file_or_is_padding() {
    let disk = small();
    let covered = covered(&disk);
    let store = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    let (mut flipped, mut padding) = (0, 0);
    for path in covered.keys() {
        for at in 0..len(&disk, path) {
            flip(&disk, path, at);
            let reports = [id(1), id(2)].map(|id| store.validate(id, Validation::Full).unwrap());
            for report in &reports {
                compare(report, &covered, path, at);
            }
            let valid = reports.iter().filter(|report| report.is_valid()).map(|report| report.id);
            assert_eq!(
                store.recover_latest_validated().unwrap().chosen,
                valid.max(),
                "byte {at} of {}",
                path.display()
            );
            if reports.iter().all(ValidationReport::is_valid) {
                // Between a trailer and the next multiple of 64, as docs/format.md has it.
                padding += 1;
                let ends = covered[path].iter().map(|(_, range)| range.end);
                assert!(
                    ends.filter(|end| *end <= at).any(|end| at < end.next_multiple_of(64)),
                    "byte {at} of {}",
                    path.display()
                );
            }
            flipped += 1;
            flip(&disk, path, at);
        }
    }
    assert!(flipped > 800 && padding < flipped / 5, "{padding} of {flipped}");
    assert_eq!(covered.len(), 2, "segments");
}

#[test]
fn store_that_is_opened_with_any_byte_flipped_recovers_the_newest_whole_checkpoint() {
    let reference = covered(&small());
    for (path, step) in reference.keys().flat_map(|path| [(path, 0), (path, 1)]) {
        let mut at = step * 3;
        loop {
            let disk = small();
            if at >= len(&disk, path) {
                break;
            }
            flip(&disk, path, at);
            let store: Store = open(&disk).unwrap();
            let reports = [id(1), id(2)].map(|id| store.validate(id, Validation::Full).unwrap());
            let valid =
                |id: CheckpointId| !reference[path].iter().any(|(other, range)| *other == id && range.contains(&at));
            let newest = [id(1), id(2)].into_iter().filter(|id| valid(*id)).max();
            assert!(
                reports.iter().all(|report| report.is_valid() == valid(report.id)),
                "byte {at} of {}",
                path.display()
            );
            assert_eq!(store.recover_latest_validated().unwrap().chosen, newest, "byte {at} of {}", path.display());
            match newest {
                Some(newest) => assert_eq!(store.latest().unwrap().unwrap().id(), newest),
                None => assert!(store.latest().unwrap_err().is_corrupt()),
            }
            at += 7;
        }
    }
}

#[test]
fn byte_of_a_state_that_the_log_has_as_well_is_put_right_when_the_store_is_opened() {
    let (reference, mut put_right) = (covered(&small_with(4096)), 0);
    for (path, ranges) in &reference {
        // What the second checkpoint has and the first has not.
        let Some((_, range)) = ranges.iter().rev().find(|(of, range)| *of == id(2) && range.start > 0) else {
            continue;
        };
        let both = ranges.iter().any(|(of, other)| *of == id(1) && other == range);
        for at in range.clone().step_by(5) {
            let disk = small_with(4096);
            flip(&disk, path, at);
            let store: Store = open(&disk).unwrap();
            assert_eq!(store.validate(id(2), Validation::Full).unwrap().is_valid(), !both, "byte {at} of {path:?}");
            put_right += usize::from(!both);
        }
    }
    assert!(put_right > 50, "{put_right}");
}

/// Every byte of the log and of the identity that says something.
fn twice(disk: &SimDisk) -> Vec<(PathBuf, usize)> {
    let mut said = Vec::new();
    for path in log::logs_on(disk) {
        let mut bytes = Vec::new();
        disk.damage(&path, |log| bytes.clone_from(log)).unwrap();
        let headers = (0..76).flat_map(|at| [at, 4096 + at]);
        let records = log::records(&bytes).into_iter().flat_map(|found| {
            let at = 8192 + found.offset;
            let len = found.record.len() + 40 + 4 + if found.offset == 0 { 40 } else { 0 };
            (at..at + len).chain((at..at + len).map(|at| at + log::half(&bytes)).collect::<Vec<_>>())
        });
        said.extend(headers.chain(records).map(|at| (path.clone(), at)));
    }
    let identity = Path::new(ROOT).join("piton.store");
    said.extend((0..44).flat_map(|at| [at, 4096 + at]).map(|at| (identity.clone(), at)));
    said
}

#[test]
fn no_flipped_byte_of_the_log_or_the_identity_loses_anything_and_it_is_healed_and_said() {
    let reference = small_with(4096);
    let said = twice(&reference);
    assert!(said.len() > 2500, "{}", said.len());
    for (path, at) in said {
        let what = format!("byte {at} of {}", path.display());
        let disk = small_with(4096);
        let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
        let expected = [id(1), id(2)].map(|id| reader.checkpoint(id).unwrap().manifest().clone());
        flip(&disk, &path, at);
        let store = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
        assert_eq!(store.checkpoint_ids().unwrap(), [id(1), id(2)], "{what}");
        let store = open(&disk).unwrap();
        let report = store.open_report();
        let found = [id(1), id(2)].map(|id| store.checkpoint(id).unwrap().manifest().clone());
        assert_eq!(found, expected, "{what}");
        assert_eq!((store.pinned(), report.lost.len(), report.damaged.len()), (vec![id(1)], 0, 0), "{what}");
        // The last record may just not have been finished: then nothing is said.
        let is_last = report.healed.is_empty();
        assert!(is_last || report.to_string().contains("healed: "), "{what}: {report}");
        drop(store);
        let again = open(&disk).unwrap();
        assert!(again.open_report().healed.is_empty(), "{what}: {:?}", again.open_report().healed);
    }
}
