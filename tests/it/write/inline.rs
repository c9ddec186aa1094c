//! A state is inline by its length alone.

use std::io::Write;

use piton::{
    Options, Scope,
    testing::{Call, SimDisk},
};

use crate::support::{ROOT, bytes};

#[test]
fn state_is_inline_by_its_length_alone_however_its_writes_were_cut() {
    for threshold in [0, 1, 20, 1024, 1 << 20] {
        for buffer in [0, 7, 1024, 1 << 20] {
            let store = Options::memory().inline_threshold(threshold).write_buffer(buffer).open(ROOT).unwrap();
            let pending = store.begin_next().unwrap();
            for len in [0, 1, threshold.saturating_sub(1), threshold, threshold + 1, threshold + 9] {
                for cut in [1, 7, len.max(1)] {
                    let state = bytes(len as u64, len);
                    let mut writer = pending.writer(Scope::Shared).unwrap();
                    if len / cut > 5_000 {
                        continue;
                    }
                    for piece in state.chunks(cut) {
                        writer.write_all(piece).unwrap();
                        writer.flush().unwrap();
                    }
                    assert_eq!(writer.position(), len as u64);
                    let handle = writer.finish().unwrap();
                    assert_eq!(
                        handle.is_inline(),
                        len <= threshold,
                        "{len} of {threshold}, cut {cut}, buffer {buffer}"
                    );
                    assert_eq!((handle.len(), handle.crc32()), (len as u64, crc32fast::hash(&state)));
                }
            }
        }
    }
}

#[test]
fn flush_and_sync_touch_no_file_while_a_state_may_be_inline() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).inline_threshold(100).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let before = disk.calls();
    let mut writer = pending.writer(Scope::Exclusive).unwrap();
    writer.write_all(&[1; 100]).unwrap();
    writer.flush().unwrap();
    writer.sync().unwrap();
    assert_eq!(disk.calls(), before);
    writer.write_all(&[1]).unwrap();
    writer.flush().unwrap();
    assert_eq!(disk.calls(), before, "what fits into the buffer goes to a file as a whole");
    let syncs = disk.count(Call::SyncData);
    let made = disk.count(Call::CreateTemp);
    writer.sync().unwrap();
    assert_eq!((disk.count(Call::SyncData), disk.count(Call::CreateTemp)), (syncs + 1, made + 1));
    assert!(!writer.finish().unwrap().is_inline());
}

#[test]
fn inline_threshold_above_one_mebibyte_is_refused_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let error = Options::new().inline_threshold((1 << 20) + 1).open(dir.path().join("s")).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("1048577"), "{error}");
    assert!(!dir.path().join("s").exists());
}
