//! Databases of keys and values: a state is a value, a checkpoint a transaction that is durable when it returns.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use rusqlite::Connection;

use super::ANY;
use crate::{
    Result,
    peer::{Kind, Peer, touch},
    workload::{Changes, Workload},
};

/// A persistent savepoint for each of the checkpoints before the newest one.
pub const REDB: Kind = Kind { name: "redb", keeps: "3", most_states: ANY, verifies: "nothing", open: open_redb };
/// Its snapshots do not outlive the process.
pub const FJALL: Kind =
    Kind { name: "fjall", keeps: "1", most_states: ANY, verifies: "checksums of blocks", open: open_fjall };
/// With a log that is synced by each transaction (`journal_mode=WAL`, `synchronous=FULL`).
pub const SQLITE: Kind = Kind { name: "SQLite", keeps: "1", most_states: ANY, verifies: "nothing", open: open_sqlite };

const STATES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("states");

struct Redb(redb::Database);

fn open_redb(dir: &Path, _: &Workload) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Redb(redb::Database::create(dir.join("redb"))?)))
}

impl Peer for Redb {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        let transaction = self.0.begin_write()?;
        // Of what the checkpoint before left.
        transaction.persistent_savepoint()?;
        let savepoints: Vec<_> = transaction.list_persistent_savepoints()?.collect();
        for old in savepoints.iter().rev().skip(2) {
            transaction.delete_persistent_savepoint(*old)?;
        }
        let mut table = transaction.open_table(STATES)?;
        for (_, name, bytes) in changes.each() {
            table.insert(name, bytes)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn prune(&mut self) -> Result<bool> {
        let transaction = self.0.begin_write()?;
        let savepoints: Vec<_> = transaction.list_persistent_savepoints()?.collect();
        for old in savepoints {
            transaction.delete_persistent_savepoint(old)?;
        }
        transaction.commit()?;
        Ok(true)
    }

    fn read_all(&mut self) -> Result<u64> {
        let transaction = self.0.begin_read()?;
        let table = transaction.open_table(STATES)?;
        table.iter()?.map(|entry| Ok(touch(entry?.1.value()))).sum()
    }
}

struct Fjall {
    database: Database,
    states: Keyspace,
}

fn open_fjall(dir: &Path, _: &Workload) -> Result<Box<dyn Peer>> {
    let database = Database::builder(dir.join("fjall")).open()?;
    let states = database.keyspace("states", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall { database, states }))
}

impl Peer for Fjall {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (_, name, bytes) in changes.each() {
            batch.insert(&self.states, name, bytes);
        }
        Ok(batch.commit()?)
    }

    fn read_all(&mut self) -> Result<u64> {
        self.states.iter().map(|entry| Ok(touch(&entry.value()?))).sum()
    }
}

struct Sqlite(Connection);

fn open_sqlite(dir: &Path, _: &Workload) -> Result<Box<dyn Peer>> {
    let connection = Connection::open(dir.join("sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection
        .execute("CREATE TABLE IF NOT EXISTS states (name TEXT PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID", [])?;
    Ok(Box::new(Sqlite(connection)))
}

impl Peer for Sqlite {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        let transaction = self.0.transaction()?;
        let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO states VALUES (?1, ?2)")?;
        for (_, name, bytes) in changes.each() {
            put.execute((name, bytes))?;
        }
        drop(put);
        Ok(transaction.commit()?)
    }

    fn export(&mut self, to: &Path) -> Result<bool> {
        std::fs::create_dir(to)?;
        let to = to.join("sqlite");
        self.0.execute("VACUUM INTO ?1", [to.to_str().ok_or("a name that is no text")?])?;
        Ok(true)
    }

    fn read_all(&mut self) -> Result<u64> {
        let mut select = self.0.prepare("SELECT bytes FROM states")?;
        let mut rows = select.query([])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            read += touch(row.get_ref(0)?.as_blob()?);
        }
        Ok(read)
    }
}
