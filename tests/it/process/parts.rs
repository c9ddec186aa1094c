//! What the other processes do.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use piton::{
    Checkpoint, CheckpointId, Durability, Manifest, Merging, Options, Result, Scope, Store, contract::CheckpointStore,
};

use super::stopping::StoppingDisk;
use crate::support::bytes;

#[test]
#[ignore = "the other tests of this folder run it, in processes of its own"]
fn part_of_another_process() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let dir = PathBuf::from(variable("PITON_DIR"));
    let argument = variable("PITON_ARGUMENT");
    match variable("PITON_PART").as_str() {
        "saver" => saver(&dir),
        "writer" => writer(&dir, argument == "synced"),
        "reader" => reader(&dir, argument.parse().unwrap()),
        "holder" => holder(&dir, CheckpointId::new(argument.parse().unwrap()).unwrap()),
        "stalled" => stalled(&dir, &argument),
        "coordinator" => super::members::coordinator(&dir),
        "member" => super::members::member(&dir, argument.parse().unwrap()),
        part => panic!("there is no part of {part}"),
    }
}

#[expect(clippy::print_stdout, reason = "the process that started this one listens")]
pub(super) fn say(what: impl std::fmt::Display) {
    println!("@{what}");
}

pub(super) fn hear() -> Option<String> {
    let mut line = String::new();
    let n = std::io::stdin().read_line(&mut line).unwrap();
    (n > 0).then(|| line.trim().to_owned())
}

/// Nothing here is about power cuts, and it opens a store thousands of times.
pub(super) fn open_unsynced(dir: &Path) -> Result<Store> {
    Options::new().durability(Durability::None).merging(Merging::Off).open(dir)
}

/// Saves what it is told to, as soon as it gets the store.
fn saver(dir: &Path) {
    while let Some(line) = hear() {
        let (round, content) = line.split_once(' ').unwrap();
        let (round, content): (u64, u64) = (round.parse().unwrap(), content.parse().unwrap());
        let store = loop {
            match open_unsynced(dir) {
                Ok(store) => break store,
                Err(error) if error.is_locked() => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        let manifest = Manifest::builder().epoch(1 + content).build(CheckpointId::new(round).unwrap());
        let saved = store.save_with_state(&manifest, Some(&[&bytes(content, 2000)]));
        store.close().unwrap();
        match saved {
            Ok(()) => say("saved"),
            Err(error) if error.is_conflict() => say("conflict"),
            Err(error) => say(error),
        }
    }
}

/// Commits, and prunes all but two, until it is killed. Half of the states are reused. Logs and bases follow each other
/// every few checkpoints.
fn writer(dir: &Path, synced: bool) {
    let durability = if synced { Durability::PerCheckpoint } else { Durability::None };
    let options = Options::new().segment_size(100_000).log_size(128 << 10).durability(durability);
    let store = options.open(dir).unwrap();
    say("open");
    for round in 0_u64.. {
        let pending = store.begin_next().unwrap();
        let mut manifest = Manifest::builder();
        let latest = store.latest().unwrap();
        let old: Vec<_> = latest.iter().flat_map(|latest| latest.manifest().states()).collect();
        for n in 0..40 {
            let kept = old.get(n).filter(|_| (n as u64 + round).is_multiple_of(2));
            manifest = if let Some((name, handle)) = kept {
                let handle = pending.reuse(std::slice::from_ref(*handle)).unwrap().remove(0);
                manifest.state(*name, handle)
            } else {
                let (seed, len) = (round * 100 + n as u64, 1100 + (n * 701) % 5000);
                manifest.state(format!("{n:02}-{seed}-{len}"), pending.write(Scope::Shared, &bytes(seed, len)).unwrap())
            };
        }
        pending.commit(manifest).unwrap();
        let report = store.prune(2).unwrap();
        assert!(report.failures.is_empty(), "{:?}", report.failures);
    }
}

/// Every state is what its name says.
pub(super) fn check(checkpoint: &Checkpoint) {
    for (name, handle) in checkpoint.manifest().states() {
        let mut parts = name.split('-').skip(1).map(|number| number.parse::<u64>().unwrap());
        let expected = bytes(parts.next().unwrap(), usize::try_from(parts.next().unwrap()).unwrap());
        assert!(*checkpoint.read(handle).unwrap() == *expected, "{name} of {}", checkpoint.id());
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut checkpoint.reader(handle).unwrap(), &mut read).unwrap();
        assert!(read == expected, "{name} of {}", checkpoint.id());
    }
}

/// Reads the newest checkpoint again and again, and holds some of them for a while.
fn reader(dir: &Path, millis: u64) {
    let end = Instant::now() + Duration::from_millis(millis);
    let store = Options::new().open_read_only(dir).unwrap();
    let mut held: Vec<Checkpoint> = Vec::new();
    let (mut seen, mut last) = (0_u64, 0);
    while Instant::now() < end {
        let Some(latest) = store.latest().unwrap() else { continue };
        assert!(latest.id().get() >= last, "{} after {last}", latest.id());
        if latest.id().get() > last {
            seen += 1;
        }
        last = latest.id().get();
        check(&latest);
        if seen % 3 == 0 {
            held.push(latest);
        }
        if held.len() > 3 {
            let oldest = held.remove(0);
            // A fresh checkpoint reads anew what the writer has let go of long ago.
            check(&store.checkpoint(oldest.id()).unwrap());
            check(&oldest);
        }
        held.iter().for_each(check);
    }
    say(seen);
}

/// Has one checkpoint open until it is told that this is enough.
fn holder(dir: &Path, id: CheckpointId) {
    let store = Options::new().open_read_only(dir).unwrap();
    let checkpoint = store.checkpoint(id).unwrap();
    say("open");
    hear();
    let handle = checkpoint.manifest().state("0").unwrap();
    say(if *checkpoint.read(handle).unwrap() == *bytes(id.get(), 5000) { "whole" } else { "wrong" });
}

/// Stops itself at a call while it commits its second checkpoint: the first one of its open if that makes a log.
fn stalled(dir: &Path, at: &str) {
    let disk = StoppingDisk::default();
    let open = || Options::new().disk(disk.clone()).redo_size(0).open(dir).unwrap();
    let commit = |store: &Store, seed| {
        let pending = store.begin_next().unwrap();
        let handle = pending.write(Scope::Shared, &bytes(seed, 5000)).unwrap();
        pending.commit(Manifest::builder().state("0", handle)).map(drop)
    };
    let mut store = open();
    commit(&store, 1).unwrap();
    if at == "name log" {
        drop(store);
        store = open();
    }
    disk.stop_at(at);
    match commit(&store, 2) {
        Err(error) if error.is_fenced() && !error.is_indeterminate() => say("fenced"),
        Err(error) if error.is_indeterminate() => say("indeterminate"),
        Err(error) => say(error),
        Ok(()) => say("committed"),
    }
}
