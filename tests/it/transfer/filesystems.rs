//! Real file systems, across mounts, and media that are read-only: run by `tests/filesystems.sh`, which mounts them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use piton::{Claim, Exported, Imported, Manifest, Options, Scope, Store, Validation, Way};

use crate::support::{bytes, read_states};

/// What file systems need for themselves, and blocks that are not full.
const SLACK: u64 = 3 << 20;

/// How many bytes are in use where this path is.
fn used(path: &Path) -> u64 {
    assert!(Command::new("sync").status().unwrap().success());
    fs2::total_space(path).unwrap() - fs2::free_space(path).unwrap()
}

fn mount(options: &str, path: &Path) {
    let path = path.to_str().unwrap();
    assert!(Command::new("mount").args(["-o", options, path]).status().unwrap().success(), "{options} {path}");
}

/// Waits until at most so many bytes are in use: some file systems (XFS) give back what was removed a little later.
fn assert_freed(path: &Path, most: u64, what: &str) {
    let tries = (0..100).take_while(|_| used(path) > most + SLACK);
    tries.for_each(|_| std::thread::sleep(std::time::Duration::from_millis(100)));
    assert!(used(path) <= most + SLACK, "{what}: {} are in use, and not {most}", used(path));
}

/// Waits until about so many bytes more are in use: some file systems count a little later.
fn assert_used(path: &Path, before: u64, more: u64, what: &str) {
    let is_right = |now: u64| now + SLACK >= before + more && now <= before + more + SLACK;
    let tries = (0..100).take_while(|_| !is_right(used(path)));
    tries.for_each(|_| std::thread::sleep(std::time::Duration::from_millis(100)));
    let now = used(path);
    assert!(is_right(now), "{what}: {before} + {more} became {now}");
}

fn ways(files: &[piton::Transferred]) -> BTreeSet<Way> {
    files.iter().map(|file| file.way).collect()
}

/// 24 MiB of states of all kinds, of which the second checkpoint has about a half.
fn fill(dir: &Path) -> Store {
    let open = || Options::new().segment_size(4 << 20).relocation(false).open(dir).unwrap();
    let store = open();
    let pending = store.begin_next().unwrap();
    let lens = (0..200_usize).map(|n| if n % 18 == 0 { 1_500_000 } else { 500 + n * 200 });
    let write = |(n, len): (usize, usize)| {
        let scope = if n % 2 == 0 { Scope::Shared } else { Scope::Exclusive };
        (n, pending.write(scope, &bytes(n as u64, len)).unwrap())
    };
    let states: Vec<_> = lens.enumerate().map(write).collect();
    let all = states.iter().fold(Manifest::builder().timestamp_ms(1), |manifest, (n, handle)| {
        manifest.state(n.to_string(), handle.clone())
    });
    pending.commit(all).unwrap();
    let pending = store.begin_next().unwrap();
    let new = pending.write(Scope::Shared, &bytes(999, 70_000)).unwrap();
    let half = states
        .into_iter()
        .filter(|(n, _)| n % 4 < 2)
        .fold(Manifest::builder().timestamp_ms(2).state("new", new), |manifest, (n, handle)| {
            manifest.state(n.to_string(), handle)
        });
    pending.commit(half).unwrap();
    // XFS takes room behind what is appended to, and gives it back when that is closed, which would be counted.
    store.close().unwrap();
    open()
}

/// Exports, moves, reads, verifies, imports, forgets the source, verifies again.
fn there_and_back(home: &Path, away: &Path, expected: Way, back: Way, remount: bool) {
    let what = format!("{} to {}", home.display(), away.display());
    let (state, second) = (home.join("state"), home.join("second"));
    let (target, moved) = (away.join("deep/savepoint"), away.join("moved"));
    let store = fill(&state);
    let latest = store.latest().unwrap().unwrap();
    let content = read_states(&latest).unwrap();

    let before = used(away);
    let exported: Exported = store.export(latest.id(), &target).unwrap();
    assert_eq!(ways(&exported.files), [expected].into(), "{what}");
    assert_used(away, before, exported.space(), &format!("export from {what}"));
    assert!(
        expected != Way::Copied || exported.space() < 14 << 20,
        "only what is needed is copied: {}",
        exported.space()
    );
    fs::rename(&target, &moved).unwrap();

    if remount {
        mount("remount,ro", away);
    }
    // What the log takes is not what is compared.
    let options = || Options::new().relocation(false).log_size(128 << 10);
    let reader = options().open_read_only(&moved).unwrap();
    assert!(reader.validate(latest.id(), Validation::Full).unwrap().issues.is_empty(), "{what}");
    assert_eq!(read_states(&reader.latest().unwrap().unwrap()).unwrap(), content);
    let other = options().open(&second).unwrap();
    let before = used(home);
    let imported: Imported = other.import(&moved, Claim::Copy).unwrap();
    assert_eq!(ways(&imported.files), [back].into(), "{what}, and back");
    assert_used(home, before, imported.space(), &format!("import after {what}"));
    if remount {
        mount("remount,rw", away);
    }

    drop((latest, reader, imported));
    let before = used(home);
    assert_eq!(store.prune(1).unwrap().checkpoints.len(), 1);
    store.close().unwrap();
    fs::remove_dir_all(&state).unwrap();
    fs::remove_dir_all(&moved).unwrap();
    assert_freed(home, before, &what);
    other.close().unwrap();
    let other = options().open(&second).unwrap();
    let report = other.recover_latest_validated().unwrap();
    assert!(report.chosen.is_some() && report.skipped.is_empty(), "{what}: {report:?}");
    assert_eq!(read_states(&other.latest().unwrap().unwrap()).unwrap(), content, "{what}");

    // The other way: what is moved is gone where it came from.
    let again = other.export(report.chosen.unwrap(), away.join("again")).unwrap();
    let before = used(away);
    let freed: u64 = again.files.iter().map(|file| file.space).sum();
    let taken = options().open(home.join("third")).unwrap().import(&again.root, Claim::Move).unwrap();
    assert!(taken.failures.is_empty() && !again.root.exists(), "{what}: {:?}", taken.failures);
    if !same_file_system(home, away) {
        assert_freed(away, before - freed, &what);
    }
    drop((taken, other));
    for dir in ["second", "third"] {
        fs::remove_dir_all(home.join(dir)).unwrap();
    }
    let _ = fs::remove_dir(away.join("deep"));
}

fn same_file_system(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(a).unwrap().dev() == fs::metadata(b).unwrap().dev()
}

/// Mounted are, for each kind: `<kind>-a`, another one `<kind>-b`, and `<kind>-a/inner` once more as `<kind>-bind`.
#[test]
#[ignore = "tests/filesystems.sh mounts what it needs"]
fn checkpoints_move_within_and_across_real_file_systems() {
    let Some(mounts) = std::env::var_os("PITON_MOUNTS").map(PathBuf::from) else {
        panic!("PITON_MOUNTS says where they are mounted; run tests/filesystems.sh");
    };
    let at = |name: &str| mounts.join(name);
    for (kind, without_links) in
        [("ext4", Way::Copied), ("xfs", Way::Reflinked), ("btrfs", Way::Reflinked), ("tmpfs", Way::Copied)]
    {
        let home = at(&format!("{kind}-a"));
        let store = Store::open(home.join("probe")).unwrap();
        let can = store.capabilities().unwrap();
        assert_eq!((can.hard_links, can.reflinks), (true, without_links == Way::Reflinked), "{kind}");
        drop(store);
        fs::remove_dir_all(home.join("probe")).unwrap();
        there_and_back(&home, &home.join("inner"), Way::Linked, Way::Linked, false);
        there_and_back(&home, &at(&format!("{kind}-bind")), without_links, without_links, false);
        there_and_back(&home, &at(&format!("{kind}-b")), Way::Copied, Way::Copied, true);
        if kind != "tmpfs" {
            there_and_back(&home, &at("tmpfs-a"), Way::Copied, Way::Copied, true);
            there_and_back(&at("tmpfs-a"), &home, Way::Copied, Way::Copied, true);
        }
    }
}
