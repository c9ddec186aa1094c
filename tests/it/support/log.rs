//! The manifest log of a store, read and changed by hand, as `docs/format.md` describes it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use piton::{
    disk::{At, Disk},
    testing::SimDisk,
};

use super::ROOT;

const HEADERS: usize = 2 * 4096;
const HEADER_LEN: usize = 76;
const HEAD_LEN: usize = 40;
const LINK_LEN: usize = 40;
/// The header of a note.
const FRAME_LEN: usize = 28;

/// A record, and where its head begins in each half.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) offset: usize,
    pub(crate) record: Vec<u8>,
    record_at: usize,
}

impl Found {
    /// The checkpoint that it publishes.
    pub(crate) fn publishes(&self) -> Option<u64> {
        (self.record[0] == 1).then(|| u64::from_le_bytes(self.record[1..9].try_into().unwrap()))
    }
}

fn number(log: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(log[at..at + 8].try_into().unwrap())
}

/// The length of each half.
pub(crate) fn half(log: &[u8]) -> usize {
    number(log, 56) as usize
}

/// Every record of a log, from its first half.
pub(crate) fn records(log: &[u8]) -> Vec<Found> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while offset < half(log) && log.get(HEADERS + offset..).is_some_and(|head| head.starts_with(b"PITONREC")) {
        let head = HEADERS + offset;
        let word = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        let (len, first) = (word(head + 32), word(head + 36));
        let record_at = head + HEAD_LEN + first * LINK_LEN;
        found.push(Found { offset, record: log[record_at..record_at + len].to_vec(), record_at });
        offset = (record_at + len + 4 - HEADERS).next_multiple_of(4096);
    }
    found
}

/// Writes another record of the same length in place of one, in both halves, with the right checksum.
fn write(log: &mut [u8], found: &Found) {
    let mut tag = crc32fast::Hasher::new();
    tag.update(&log[..HEADER_LEN - 4]);
    for half in [0, half(log)] {
        let (head, at) = (HEADERS + half + found.offset, half + found.record_at);
        log[at..at + found.record.len()].copy_from_slice(&found.record);
        let mut crc = crc32fast::Hasher::new_with_initial(tag.clone().finalize());
        crc.update(&log[head..at + found.record.len()]);
        let end = at + found.record.len();
        log[end..end + 4].copy_from_slice(&crc.finalize().to_le_bytes());
    }
}

/// Changes the record that publishes a checkpoint; false if it is in another log.
pub(crate) fn change(log: &mut [u8], id: u64, change: impl FnOnce(&mut Vec<u8>)) -> bool {
    let Some(mut found) = records(log).into_iter().find(|found| found.publishes() == Some(id)) else { return false };
    let len = found.record.len();
    change(&mut found.record);
    assert_eq!(found.record.len(), len);
    write(log, &found);
    true
}

/// Destroys the record that publishes a checkpoint, in both halves; false if it is in another log.
pub(crate) fn lose(log: &mut [u8], id: u64) -> bool {
    let found = records(log).into_iter().find(|found| found.publishes() == Some(id));
    found.map(|found| destroy(log, &found)).is_some()
}

/// Destroys a record, in both halves.
fn destroy(log: &mut [u8], found: &Found) {
    for half in [0, half(log)] {
        log[half + found.record_at] ^= 0x40;
    }
}

/// The names of the logs in a directory, in order.
pub(crate) fn logs_in(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("manifests")).unwrap();
    let mut logs: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| is_log(path)).collect();
    logs.sort();
    logs
}

/// The names of the logs on a disk, in order.
pub(crate) fn logs_on(disk: &SimDisk) -> Vec<PathBuf> {
    logs_under(disk, ROOT.as_ref())
}

/// The names of the logs of a store on a disk, in order.
pub(crate) fn logs_under(disk: &SimDisk, root: &Path) -> Vec<PathBuf> {
    let dir = root.join("manifests");
    let entries = disk.list(At::new(&dir)).unwrap();
    let mut logs: Vec<_> = entries.iter().map(|entry| dir.join(&entry.name)).filter(|path| is_log(path)).collect();
    logs.sort();
    logs
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "log")
}

/// Changes the record that publishes a checkpoint, in the directory of its store.
pub(crate) fn change_in(root: &Path, id: u64, with: impl Fn(&mut Vec<u8>)) {
    let done = logs_in(root).iter().any(|path| {
        let mut log = std::fs::read(path).unwrap();
        let done = change(&mut log, id, &with);
        std::fs::write(path, log).unwrap();
        done
    });
    assert!(done, "no log publishes checkpoint {id}");
}

/// Changes the record that publishes a checkpoint, on a disk.
pub(crate) fn change_on(disk: &SimDisk, id: u64, with: impl Fn(&mut Vec<u8>)) {
    let mut done = false;
    for path in logs_on(disk) {
        disk.damage(&path, |log| done |= change(log, id, &with)).unwrap();
    }
    assert!(done, "no log publishes checkpoint {id}");
}

/// Destroys the record that publishes a checkpoint.
pub(crate) fn lose_on(disk: &SimDisk, id: u64) {
    let mut done = false;
    for path in logs_on(disk) {
        disk.damage(&path, |log| done |= lose(log, id)).unwrap();
    }
    assert!(done, "no log publishes checkpoint {id}");
}

/// Destroys the record that publishes a checkpoint, in the directory of its store.
pub(crate) fn lose_in(root: &Path, id: u64) {
    let done = logs_in(root).iter().any(|path| {
        let mut log = std::fs::read(path).unwrap();
        let done = lose(&mut log, id);
        std::fs::write(path, log).unwrap();
        done
    });
    assert!(done, "no log publishes checkpoint {id}");
}

/// Makes the content of a checkpoint one that makes no sense: the checkpoint is there, and nothing is known of it.
pub(crate) fn spoil_on(disk: &SimDisk, id: u64) {
    change_on(disk, id, |record| *record.last_mut().unwrap() ^= 0x80);
}

/// The record that publishes a checkpoint, in the directory of its store.
pub(crate) fn published_in(root: &Path, id: u64) -> Vec<u8> {
    let logs = logs_in(root).into_iter().map(|path| std::fs::read(path).unwrap());
    let mut found = logs.flat_map(|log| records(&log)).filter(|found| found.publishes() == Some(id));
    found.next().unwrap_or_else(|| panic!("no log publishes checkpoint {id}")).record
}

/// Which checkpoints are noted to be taken over from stores that are to go: those of a store without a base, by the bytes of
/// its logs in their order.
pub(crate) fn departing<'a>(logs: impl IntoIterator<Item = &'a [u8]>) -> BTreeSet<u64> {
    let mut counted: Vec<(&[u8], Vec<Found>)> = Vec::new();
    for log in logs {
        let records = records(log);
        if !records.is_empty() {
            // Generation, sequence, salt and end of the log before.
            let link = HEADERS + HEAD_LEN;
            let before = counted.iter_mut().find(|(before, _)| before[32..56] == log[link..link + 24]);
            if let Some((_, before)) = before {
                before.retain(|found| found.offset < number(log, link + 24) as usize);
            }
        }
        counted.push((log, records));
    }
    let mut departing = BTreeSet::new();
    for found in counted.into_iter().flat_map(|(_, records)| records) {
        match found.record[0] {
            7 => drop(departing.insert(number(&found.record, 1 + FRAME_LEN + 16))),
            8 => drop(departing.remove(&number(&found.record, 1))),
            _ => {}
        }
    }
    departing
}

/// Changes the body of each note that a store is to go, with the right checksums.
pub(crate) fn change_notes(log: &mut [u8], change: impl Fn(&mut [u8])) {
    for mut found in records(log).into_iter().filter(|found| found.record[0] == 7) {
        change_frame(&mut found.record[1..], &change);
        write(log, &found);
    }
}

/// Changes the body of a frame, with the right checksum.
pub(crate) fn change_frame(frame: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let end = frame.len() - 4;
    change(&mut frame[FRAME_LEN..end]);
    let crc = crc32fast::hash(&frame[FRAME_LEN..end]);
    frame[end..].copy_from_slice(&crc.to_le_bytes());
}

/// Destroys each record of a kind, in both halves; returns how many there were.
pub(crate) fn lose_kind(log: &mut [u8], kind: u8) -> usize {
    let of_kind: Vec<_> = records(log).into_iter().filter(|found| found.record[0] == kind).collect();
    for found in &of_kind {
        destroy(log, found);
    }
    of_kind.len()
}
