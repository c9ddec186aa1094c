//! A database with a log, as engines embed it: a checkpoint is a batch that is synced.

use std::path::Path;

use rocksdb::{DB, Options, WriteBatch, WriteOptions, checkpoint::Checkpoint};

use super::ANY;
use crate::{
    Result,
    peer::{Kind, Peer, touch},
    workload::{Changes, Workload},
};

/// Its snapshots do not outlive the process.
pub const ROCKSDB: Kind = Kind { name: "RocksDB", keeps: "1", most_states: ANY, verifies: "checksums of blocks", open };

struct RocksDb(DB);

fn open(dir: &Path, _: &Workload) -> Result<Box<dyn Peer>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    Ok(Box::new(RocksDb(DB::open(&options, dir.join("rocksdb"))?)))
}

impl Peer for RocksDb {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        let (mut batch, mut options) = (WriteBatch::default(), WriteOptions::default());
        for (_, name, bytes) in changes.each() {
            batch.put(name, bytes);
        }
        options.set_sync(true);
        Ok(self.0.write_opt(batch, &options)?)
    }

    fn read_all(&mut self) -> Result<u64> {
        self.0.iterator(rocksdb::IteratorMode::Start).map(|entry| Ok(touch(&entry?.1))).sum()
    }

    /// Links to its files, and a copy of its log.
    fn export(&mut self, to: &Path) -> Result<bool> {
        Checkpoint::new(&self.0)?.create_checkpoint(to)?;
        Ok(true)
    }
}
