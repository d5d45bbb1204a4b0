//! The one small database of a broker, `config/meta.redb`: topics, groups, delivery state.
//!
//! It shares its device with the log, and therefore the log's [`FlushGate`].
//!
//! A failed write (a full disk) leaves the last good state in the file; the database is opened
//! anew for the next write, so writing works again as soon as there is room.

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{
    BackendError, Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableError, WriteTransaction,
};
use store::disk::FlushGate;

/// Pages kept in memory; the default of redb would be 1 GiB.
const CACHE_BYTES: usize = 4 << 20;

/// Why the database cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("{path}: {source}")]
    Database {
        /// Which file.
        path: PathBuf,
        /// What redb said.
        source: Box<redb::Error>,
    },
    /// The folder cannot be made.
    #[error("{path}: {source}")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value cannot be understood.
    #[error("meta.redb holds something that this version cannot read: {0}")]
    Damaged(String),
}

/// The database, by its folder.
pub struct Meta {
    path: PathBuf,
    gate: Arc<FlushGate>,
    database: Mutex<Slot>,
}

enum Slot {
    Open(Database),
    /// After a failed write, until the next one opens it anew.
    Broken,
    /// For good: the file may be another process's by now.
    Closed,
}

impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meta").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Meta {
    /// Opens or creates `folder/meta.redb`, on the device that this gate belongs to.
    pub fn open(folder: &Path, gate: Arc<FlushGate>) -> Result<Self, Error> {
        std::fs::create_dir_all(folder)
            .map_err(|source| Error::Folder { path: folder.to_path_buf(), source })?;
        let path = folder.join("meta.redb");
        let database = open(&path, &gate).map_err(|source| at(&path, source))?;
        Ok(Self { path, gate, database: Mutex::new(Slot::Open(database)) })
    }

    /// One durable transaction: all of it or nothing. Blocks on the disk.
    pub fn write(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), Error> {
        let mut slot = self.database.lock();
        let outcome = (|| {
            let mut transaction = self.opened(&mut slot)?.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
        })();
        outcome.map_err(|source| {
            if matches!(*slot, Slot::Open(_)) {
                *slot = Slot::Broken;
            }
            at(&self.path, source)
        })
    }

    /// Closes the file; later writes fail.
    pub fn close(&self) {
        *self.database.lock() = Slot::Closed;
    }

    fn opened<'a>(&self, slot: &'a mut Slot) -> Result<&'a Database, redb::Error> {
        if matches!(slot, Slot::Broken) {
            *slot = Slot::Open(open(&self.path, &self.gate)?);
        }
        match slot {
            Slot::Open(database) => Ok(database),
            Slot::Broken | Slot::Closed => Err(redb::Error::DatabaseClosed),
        }
    }

    /// Every pair of a table, through `read`. A table that was never written is empty.
    pub fn read_all<T>(
        &self,
        table: TableDefinition<'static, &'static str, &'static [u8]>,
        mut read: impl FnMut(&str, &[u8]) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut slot = self.database.lock();
        let fail = |source| at(&self.path, source);
        let database = self.opened(&mut slot).map_err(fail)?;
        let transaction = database.begin_read().map_err(|error| fail(error.into()))?;
        let table = match transaction.open_table(table) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(fail(error.into())),
        };
        let mut all = Vec::new();
        for pair in table.iter().map_err(|error| fail(error.into()))? {
            let (key, value) = pair.map_err(|error| fail(error.into()))?;
            all.push(read(key.value(), value.value())?);
        }
        Ok(all)
    }
}

fn open(path: &Path, gate: &Arc<FlushGate>) -> Result<Database, redb::Error> {
    let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let gated = Gated { file: FileBackend::new(file)?, gate: Arc::clone(gate) };
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(gated)?)
}

/// The database's file; what makes it durable passes the gate.
#[derive(Debug)]
struct Gated {
    file: FileBackend,
    gate: Arc<FlushGate>,
}

impl StorageBackend for Gated {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass("a flush of meta.redb", || self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

fn at(path: &Path, source: redb::Error) -> Error {
    Error::Database { path: path.to_path_buf(), source: Box::new(source) }
}
