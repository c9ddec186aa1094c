//! The promises of [`Disk`] and [`DiskFile`], as tests that every disk must pass.
//!
//! Durability cannot be tested from outside: a disk that forgets to sync passes. Everything else can.
#![expect(clippy::unwrap_used, reason = "a kit of tests: a promise that is not kept is a panic that names it")]

use std::{
    collections::BTreeSet,
    io::{ErrorKind, IoSlice},
    path::{Path, PathBuf},
    thread,
};

use crate::disk::{At, Disk, DiskFile, FileKind, Lock, layout, link::is_refused};

/// Runs every test of the kit. `dir` must not exist, and its parents neither, or be directories; each test gets a
/// directory of its own below it.
pub fn check(disk: &dyn Disk, dir: &Path) {
    for (name, test) in TESTS {
        let dir = dir.join(name);
        make_dirs(disk, &dir);
        test(disk, &dir);
    }
}

type Test = fn(&dyn Disk, &Path);

/// The tests: what each claims, and the function that panics if it is not so.
pub const TESTS: &[(&str, Test)] = &[
    ("directory_is_created_once_and_its_parent_must_exist", directory_is_created_once_and_its_parent_must_exist),
    ("list_has_every_name_with_kind_and_length", list_has_every_name_with_kind_and_length),
    ("temporary_names_are_new_and_of_the_promised_form", temporary_names_are_new_and_of_the_promised_form),
    ("written_bytes_are_read_back_and_gaps_are_zeros", written_bytes_are_read_back_and_gaps_are_zeros),
    (
        "file_that_is_there_is_written_over_and_what_is_not_written_stays",
        file_that_is_there_is_written_over_and_what_is_not_written_stays,
    ),
    ("file_is_filled_with_zeros_or_left_empty", file_is_filled_with_zeros_or_left_empty),
    ("reads_end_where_the_file_ends", reads_end_where_the_file_ends),
    ("mapping_is_exactly_the_range_and_never_beyond_the_file", mapping_is_exactly_the_range_and_never_beyond_the_file),
    ("vectored_write_is_that_of_its_parts_in_order", vectored_write_is_that_of_its_parts_in_order),
    ("mapping_stays_what_it_was_while_the_file_grows", mapping_stays_what_it_was_while_the_file_grows),
    ("file_takes_what_it_has_and_has_one_name", file_takes_what_it_has_and_has_one_name),
    ("holes_are_zeros_and_nothing_else_changes", holes_are_zeros_and_nothing_else_changes),
    ("linked_file_is_one_file_with_two_names", linked_file_is_one_file_with_two_names),
    (
        "reflinked_and_copied_bytes_are_apart_from_their_originals",
        reflinked_and_copied_bytes_are_apart_from_their_originals,
    ),
    ("directory_is_removed_only_if_it_is_empty", directory_is_removed_only_if_it_is_empty),
    ("rename_replaces_whole_files", rename_replaces_whole_files),
    ("rename_new_never_replaces_and_one_of_many_wins", rename_new_never_replaces_and_one_of_many_wins),
    ("removed_file_stays_readable_for_who_has_it_open", removed_file_stays_readable_for_who_has_it_open),
    ("missing_names_are_not_found", missing_names_are_not_found),
    ("lock_is_exclusive_and_ends_with_its_guard", lock_is_exclusive_and_ends_with_its_guard),
    ("number_is_locked_by_many_or_by_one_and_others_are_free", number_is_locked_by_many_or_by_one_and_others_are_free),
    ("syncs_succeed_on_what_exists", syncs_succeed_on_what_exists),
    ("threads_write_their_own_files_at_once", threads_write_their_own_files_at_once),
];

fn make_dirs(disk: &dyn Disk, dir: &Path) {
    let missing: Vec<_> = dir.ancestors().take_while(|dir| disk.metadata(At::new(dir)).is_err()).collect();
    missing.into_iter().rev().for_each(|dir| disk.create_dir(At::new(dir)).unwrap());
}

fn make_file(disk: &dyn Disk, dir: &Path, bytes: &[u8]) -> (PathBuf, Box<dyn DiskFile>) {
    let (name, file) = disk.create_temp(At::new(dir)).unwrap();
    write_all(&*file, bytes, 0);
    (dir.join(name), file)
}

fn write_all(file: &dyn DiskFile, bytes: &[u8], offset: u64) {
    let mut written = 0;
    while written < bytes.len() {
        written += file.write_at(&bytes[written..], offset + written as u64).unwrap();
    }
}

fn read_all(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    let mut read = 0;
    while read < bytes.len() {
        let n = file.read_at(&mut bytes[read..], read as u64).unwrap();
        assert!(n > 0, "the file ends before its length");
        read += n;
    }
    bytes
}

fn directory_is_created_once_and_its_parent_must_exist(disk: &dyn Disk, dir: &Path) {
    let child = dir.join("child");
    disk.create_dir(At::new(&child)).unwrap();
    assert_eq!(disk.create_dir(At::new(&child)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.metadata(At::new(&child)).unwrap().kind, FileKind::Dir);
    assert_eq!(disk.create_dir(At::new(&dir.join("none/child"))).unwrap_err().kind(), ErrorKind::NotFound);
}

fn list_has_every_name_with_kind_and_length(disk: &dyn Disk, dir: &Path) {
    assert_eq!(disk.list(At::new(dir)).unwrap(), []);
    disk.create_dir(At::new(&dir.join("sub"))).unwrap();
    let (path, _) = make_file(disk, dir, b"12345");
    disk.rename(At::new(&path), At::new(&dir.join("five"))).unwrap();
    make_file(disk, &dir.join("sub"), b"not listed");
    let mut entries = disk.list(At::new(dir)).unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].name.to_str(), entries[0].metadata.kind), (Some("five"), FileKind::File));
    assert_eq!(entries[0].metadata.len, 5);
    assert_eq!((entries[1].name.to_str(), entries[1].metadata.kind), (Some("sub"), FileKind::Dir));
}

fn temporary_names_are_new_and_of_the_promised_form(disk: &dyn Disk, dir: &Path) {
    let files: Vec<_> = (0..50).map(|_| disk.create_temp(At::new(dir)).unwrap()).collect();
    let names: BTreeSet<_> = files.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 50);
    assert!(names.iter().all(|name| layout::is_temp(name)), "{names:?}");
    assert!(files.iter().all(|(_, file)| file.is_empty().unwrap()));
}

fn written_bytes_are_read_back_and_gaps_are_zeros(disk: &dyn Disk, dir: &Path) {
    let (path, file) = make_file(disk, dir, b"head");
    write_all(&*file, b"tail", 100);
    write_all(&*file, b"HE", 0);
    let mut expected = vec![0; 104];
    expected[..4].copy_from_slice(b"HEad");
    expected[100..].copy_from_slice(b"tail");
    assert_eq!(read_all(&*file), expected);
    assert_eq!(read_all(&*disk.open(At::new(&path)).unwrap()), expected);
}

fn file_that_is_there_is_written_over_and_what_is_not_written_stays(disk: &dyn Disk, dir: &Path) {
    let (path, file) = make_file(disk, dir, &[1; 9000]);
    drop(file);
    let missing = disk.open_writable(At::new(&dir.join("none"))).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let file = disk.open_writable(At::new(&path)).unwrap();
    write_all(&*file, &[2; 100], 4000);
    file.sync_data().unwrap();
    let bytes = read_all(&*disk.open(At::new(&path)).unwrap());
    assert_eq!(bytes, [&[1; 4000][..], &[2; 100], &[1; 4900]].concat());
}

fn file_is_filled_with_zeros_or_left_empty(disk: &dyn Disk, dir: &Path) {
    let (_, file) = make_file(disk, dir, b"");
    let len = 3 << 20;
    match file.fill(len) {
        Ok(()) => assert_eq!((file.len().unwrap(), read_all(&*file).iter().all(|byte| *byte == 0)), (len, true)),
        Err(error) => assert_eq!((error.kind(), file.len().unwrap()), (ErrorKind::Unsupported, 0)),
    }
    write_all(&*file, b"12345", 4096);
    assert_eq!(&read_all(&*file)[4090..4101], [&[0; 6], &b"12345"[..]].concat());
}

fn reads_end_where_the_file_ends(disk: &dyn Disk, dir: &Path) {
    let (_, file) = make_file(disk, dir, b"0123456789");
    let mut buffer = [0xff; 8];
    assert_eq!(file.read_at(&mut buffer, 7).unwrap(), 3);
    assert_eq!(&buffer[..4], b"789\xff");
    assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
    assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
}

fn mapping_is_exactly_the_range_and_never_beyond_the_file(disk: &dyn Disk, dir: &Path) {
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let (_, file) = make_file(disk, dir, &bytes);
    for (offset, len) in [(0, 10_000), (1, 9_999), (4_095, 2), (9_999, 1), (10_000, 0), (64, 0)] {
        let start = usize::try_from(offset).unwrap();
        let mapping = file.map(offset, len).unwrap();
        assert_eq!((mapping.len(), mapping.get(0..len)), (len, Some(&bytes[start..start + len])));
        assert_eq!((mapping.get(0..len + 1), mapping.get(len + 1..len + 1)), (None, None));
    }
    for (offset, len) in [(0, 10_001), (10_000, 1), (10_001, 0), (u64::MAX, 1), (1, usize::MAX)] {
        assert_eq!(file.map(offset, len).unwrap_err().kind(), ErrorKind::UnexpectedEof, "{offset}+{len}");
    }
}

fn vectored_write_is_that_of_its_parts_in_order(disk: &dyn Disk, dir: &Path) {
    let (_, file) = make_file(disk, dir, b"");
    let mut parts = &mut [&b""[..], b"one", b"", b"twotwo", b"three"].map(IoSlice::new)[..];
    let mut offset = 0;
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let n = file.write_vectored_at(parts, offset).unwrap();
        assert!(n > 0, "nothing was accepted");
        IoSlice::advance_slices(&mut parts, n);
        offset += n as u64;
    }
    file.start_writeback(0, offset);
    file.start_writeback(1 << 40, 0);
    assert_eq!(read_all(&*file), b"onetwotwothree");
}

fn mapping_stays_what_it_was_while_the_file_grows(disk: &dyn Disk, dir: &Path) {
    let (path, file) = make_file(disk, dir, &[1; 5_000]);
    let open = disk.open(At::new(&path)).unwrap();
    let mapping = open.map(0, 5_000).unwrap();
    write_all(&*file, &vec![2; 100_000], 5_000);
    assert_eq!(mapping.get(0..5_000), Some(&[1; 5_000][..]));
    assert_eq!(open.map(0, 105_000).unwrap().get(5_000..105_000), Some(&vec![2; 100_000][..]));
}

fn file_takes_what_it_has_and_has_one_name(disk: &dyn Disk, dir: &Path) {
    let (path, file) = make_file(disk, dir, &vec![7; 100_000]);
    // Some file systems place bytes only when they are synced.
    file.sync_data().unwrap();
    let found = disk.metadata(At::new(&path)).unwrap();
    assert_eq!((found.len, found.links), (100_000, 1));
    assert!(found.allocated > 0, "{found:?}");
}

/// Only if the disk can punch at all.
fn holes_are_zeros_and_nothing_else_changes(disk: &dyn Disk, dir: &Path) {
    const MIB: usize = 1 << 20;
    let (path, file) = make_file(disk, dir, &vec![7; 2 * MIB]);
    file.sync_data().unwrap();
    let before = disk.metadata(At::new(&path)).unwrap();
    let ranges = [64 << 10..512 << 10, 1 << 20..2 << 20];
    match disk.punch_holes(At::new(&path), &ranges) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        punched => punched.unwrap(),
    }
    let bytes = read_all(&*file);
    assert!(bytes.len() == 2 * MIB && bytes[..64 << 10].iter().chain(&bytes[512 << 10..MIB]).all(|byte| *byte == 7));
    assert!(bytes[64 << 10..512 << 10].iter().chain(&bytes[MIB..]).all(|byte| *byte == 0));
    assert!(disk.metadata(At::new(&path)).unwrap().allocated < before.allocated, "nothing was given back");
}

/// Only if the disk can link at all.
fn linked_file_is_one_file_with_two_names(disk: &dyn Disk, dir: &Path) {
    let (path, file) = make_file(disk, dir, b"one");
    let (second, taken) = (dir.join("second"), make_file(disk, dir, b"taken").0);
    match disk.link(At::new(&path), At::new(&second)) {
        Err(refused) if refused.kind() == ErrorKind::Unsupported => {
            return assert!(!disk.can_link(At::new(&path), At::new(dir)));
        }
        linked => linked.unwrap(),
    }
    assert!(disk.can_link(At::new(&path), At::new(dir)) && !disk.can_link(At::new(&dir.join("none")), At::new(dir)));
    assert_eq!(disk.link(At::new(&path), At::new(&taken)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        disk.link(At::new(&dir.join("none")), At::new(&dir.join("third"))).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(read_all(&*disk.open(At::new(&taken)).unwrap()), b"taken");
    write_all(&*file, b" more", 3);
    assert_eq!(read_all(&*disk.open(At::new(&second)).unwrap()), b"one more", "the same file");
    let links = |path: &Path| disk.metadata(At::new(path)).unwrap().links;
    assert_eq!((links(&path), links(&second), links(&taken)), (2, 2, 1), "a file with two names must not be punched");
    disk.remove(At::new(&path)).unwrap();
    assert_eq!((read_all(&*disk.open(At::new(&second)).unwrap()), links(&second)), (b"one more".to_vec(), 1));
}

/// Each only if the disk can do it at all.
fn reflinked_and_copied_bytes_are_apart_from_their_originals(disk: &dyn Disk, dir: &Path) {
    let bytes: Vec<_> = (0..=255).cycle().take(100_000).collect();
    let (path, file) = make_file(disk, dir, &bytes);
    file.sync_data().unwrap();
    let (whole, _) = make_file(disk, dir, b"");
    match disk.reflink(At::new(&path), At::new(&whole)) {
        Ok(()) => assert_eq!(read_all(&*disk.open(At::new(&whole)).unwrap()), bytes),
        Err(refused) => assert!(is_refused(&refused) && disk.metadata(At::new(&whole)).unwrap().len == 0, "{refused}"),
    }
    let (parts, copy) = make_file(disk, dir, b"");
    let ranges = [10..20, 8192..50_000, 99_999..100_000];
    match disk.copy_ranges(At::new(&path), At::new(&parts), &ranges) {
        Ok(()) => {
            let mut expected = vec![0; bytes.len()];
            for range in ranges {
                let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                expected[range.clone()].copy_from_slice(&bytes[range]);
            }
            assert_eq!(read_all(&*copy), expected);
        }
        Err(refused) => assert!(is_refused(&refused), "{refused}"),
    }
    write_all(&*file, b"changed", 0);
    let is_new = |path: &Path| read_all(&*disk.open(At::new(path)).unwrap()).starts_with(b"changed");
    assert!(is_new(&path) && !is_new(&whole) && !is_new(&parts));
}

/// Only if the disk removes directories at all.
fn directory_is_removed_only_if_it_is_empty(disk: &dyn Disk, dir: &Path) {
    let child = dir.join("child");
    disk.create_dir(At::new(&child)).unwrap();
    let (path, _) = make_file(disk, &child, b"here");
    match disk.remove_dir(At::new(&child)) {
        Err(refused) if refused.kind() == ErrorKind::Unsupported => return,
        refused => assert_eq!(refused.unwrap_err().kind(), ErrorKind::DirectoryNotEmpty),
    }
    disk.remove(At::new(&path)).unwrap();
    disk.remove_dir(At::new(&child)).unwrap();
    assert_eq!(disk.metadata(At::new(&child)).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove_dir(At::new(&child)).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(disk.list(At::new(dir)).unwrap().is_empty());
}

fn rename_replaces_whole_files(disk: &dyn Disk, dir: &Path) {
    let target = dir.join("target");
    let (first, _) = make_file(disk, dir, b"first, and longer");
    disk.rename(At::new(&first), At::new(&target)).unwrap();
    let open = disk.open(At::new(&target)).unwrap();
    let (second, second_file) = make_file(disk, dir, b"second");
    disk.rename(At::new(&second), At::new(&target)).unwrap();
    assert_eq!(read_all(&*disk.open(At::new(&target)).unwrap()), b"second");
    assert_eq!(read_all(&*open), b"first, and longer");
    assert_eq!(read_all(&*second_file), b"second");
    assert_eq!(disk.list(At::new(dir)).unwrap().len(), 1);
}

fn rename_new_never_replaces_and_one_of_many_wins(disk: &dyn Disk, dir: &Path) {
    for round in 0..20 {
        let target = dir.join(format!("target-{round}"));
        let files: Vec<_> = (0..4_u8).map(|n| make_file(disk, dir, &[n; 100])).collect();
        let race = |path: &Path| match disk.rename_new(At::new(path), At::new(&target)) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                false
            }
        };
        let won: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = files.iter().map(|(path, _)| scope.spawn(|| race(path))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let winner = u8::try_from(won.iter().position(|won| *won).unwrap()).unwrap();
        assert_eq!(read_all(&*disk.open(At::new(&target)).unwrap()), [winner; 100]);
        let losers = files.iter().zip(won).filter(|(_, won)| !won);
        losers.for_each(|((path, _), _)| disk.remove(At::new(path)).unwrap());
    }
    assert_eq!(disk.list(At::new(dir)).unwrap().len(), 20);
}

fn removed_file_stays_readable_for_who_has_it_open(disk: &dyn Disk, dir: &Path) {
    let (path, file) = make_file(disk, dir, &[7; 9_000]);
    let mapping = file.map(0, 9_000).unwrap();
    disk.remove(At::new(&path)).unwrap();
    assert_eq!(read_all(&*file), [7; 9_000]);
    assert_eq!(mapping.get(0..9_000), Some(&[7; 9_000][..]));
    assert_eq!(disk.list(At::new(dir)).unwrap(), []);
}

fn missing_names_are_not_found(disk: &dyn Disk, dir: &Path) {
    let none = dir.join("none");
    let kinds = [
        disk.open(At::new(&none)).unwrap_err().kind(),
        disk.metadata(At::new(&none)).unwrap_err().kind(),
        disk.remove(At::new(&none)).unwrap_err().kind(),
        disk.list(At::new(&none)).unwrap_err().kind(),
        disk.sync_dir(At::new(&none)).unwrap_err().kind(),
        disk.create_temp(At::new(&none)).unwrap_err().kind(),
        disk.rename(At::new(&none), At::new(&dir.join("other"))).unwrap_err().kind(),
        disk.rename_new(At::new(&none), At::new(&dir.join("other"))).unwrap_err().kind(),
    ];
    let punched = disk.punch_holes(At::new(&none), &[]).unwrap_err().kind();
    assert!([ErrorKind::NotFound, ErrorKind::Unsupported].contains(&punched));
    assert_eq!(kinds, [ErrorKind::NotFound; 8]);
}

fn lock_is_exclusive_and_ends_with_its_guard(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("lock");
    let Lock::Taken(guard) = disk.try_lock(At::new(&path), "first").unwrap() else { panic!("nobody has it") };
    match disk.try_lock(At::new(&path), "second").unwrap() {
        Lock::Held(owner) => assert_eq!(owner, "first"),
        Lock::Taken(_) => panic!("two have it"),
    }
    assert_eq!(disk.metadata(At::new(&path)).unwrap().kind, FileKind::File);
    drop(guard);
    assert!(matches!(disk.try_lock(At::new(&path), "third").unwrap(), Lock::Taken(_)));
}

/// On a disk that one process alone can use nobody is kept from anything.
fn number_is_locked_by_many_or_by_one_and_others_are_free(disk: &dyn Disk, dir: &Path) {
    let (path, _) = make_file(disk, dir, b"");
    let taken = |lock: Lock| matches!(lock, Lock::Taken(_));
    let shared = |number| disk.lock_shared(At::new(&path), number).unwrap();
    let alone = |number| disk.lock_exclusive(At::new(&path), number).unwrap();
    let (first, second) = (shared(7), shared(7));
    let locks = !taken(alone(7));
    assert!(taken(alone(8)) && taken(alone(6)), "other numbers are free");
    drop(first);
    assert_eq!(!taken(alone(7)), locks, "one reader is enough");
    drop(second);
    let only = alone(7);
    assert!(matches!(only, Lock::Taken(_)), "nobody has it any more");
    assert_eq!(!taken(shared(7)), locks);
    assert_eq!(!taken(alone(7)), locks);
    assert!(taken(shared(u64::MAX >> 1)));
    drop(only);
    assert!(taken(shared(7)));
    let Lock::Taken(mut guard) = alone(7) else { panic!("nobody has it any more") };
    if guard.unlock_all().unwrap() {
        let reader = shared(7);
        assert!(taken(alone(9)), "every number was given back");
        assert_eq!(guard.lock_more(7).unwrap(), Some(!locks), "a reader has it");
        drop(reader);
        assert_eq!(guard.lock_more(7).unwrap(), Some(true));
        assert_eq!(!taken(shared(7)), locks);
    }
    drop(guard);
    let none = dir.join("none");
    let missing = disk.lock_shared(At::new(&none), 7);
    assert!(!locks || missing.unwrap_err().kind() == ErrorKind::NotFound);
    assert!(taken(disk.lock_exclusive(At::new(&none), 7).unwrap()), "the file is created");
}

fn syncs_succeed_on_what_exists(disk: &dyn Disk, dir: &Path) {
    let (_, file) = make_file(disk, dir, b"bytes");
    file.sync_data().unwrap();
    disk.sync_dir(At::new(dir)).unwrap();
    file.sync_data().unwrap();
}

fn threads_write_their_own_files_at_once(disk: &dyn Disk, dir: &Path) {
    thread::scope(|scope| {
        for n in 0..8_u8 {
            scope.spawn(move || {
                for round in 0..20 {
                    let (path, file) = make_file(disk, dir, &[n; 5_000]);
                    assert_eq!(read_all(&*file), [n; 5_000]);
                    disk.rename_new(At::new(&path), At::new(&dir.join(format!("{n}-{round}")))).unwrap();
                }
            });
        }
    });
    assert_eq!(disk.list(At::new(dir)).unwrap().len(), 160);
}
