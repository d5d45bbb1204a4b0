//! The one small database of a broker, `config/meta.redb`: topics, groups, delivery state.
//!
//! It shares its device with the log, and therefore the log's [`FlushGate`].
//!
//! A failed write (a full disk) leaves the last good state in the file; the database is opened
//! anew for the next write, so writing works again as soon as there is room.
//!
//! The primary of a broker group keeps a [`journal`] of what it writes, for its replicas.

pub(crate) mod journal;

use std::cell::RefCell;
use std::io;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::{Change, Journal};
use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{
    BackendError, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, TableError, TableHandle, WriteTransaction,
};
use store::disk::FlushGate;

/// A table: each has text for keys.
pub(crate) type Definition = TableDefinition<'static, &'static str, &'static [u8]>;

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
    /// It is written here, and may or may not outlive this member.
    #[error(transparent)]
    NotReplicated(#[from] journal::NotReplicated),
    /// A value cannot be understood.
    #[error("meta.redb holds something that this version cannot read: {0}")]
    Damaged(String),
}

/// The database, by its folder.
pub struct Meta {
    path: PathBuf,
    gate: Arc<FlushGate>,
    database: Mutex<Slot>,
    journal: Mutex<Option<Arc<Journal>>>,
}

/// A write under way; see [`Meta::write`].
pub(crate) struct Transaction {
    inner: WriteTransaction,
    /// What it does, if there is a journal.
    changes: Option<RefCell<Vec<Change>>>,
}

/// A table within a write.
pub(crate) struct Table<'t> {
    inner: redb::Table<'t, &'static str, &'static [u8]>,
    name: &'static str,
    changes: Option<&'t RefCell<Vec<Change>>>,
}

impl Transaction {
    /// The table; made if it is not there. One at a time.
    pub(crate) fn open_table(&self, definition: Definition) -> Result<Table<'_>, redb::Error> {
        let name = table_name(definition.name()).expect("every table is listed");
        Ok(Table { inner: self.inner.open_table(definition)?, name, changes: self.changes.as_ref() })
    }
}

impl Table<'_> {
    /// Puts the value there, whatever was before.
    pub(crate) fn insert(&mut self, key: &str, value: &[u8]) -> Result<(), redb::Error> {
        self.inner.insert(key, value)?;
        self.note(key, Some(value));
        Ok(())
    }

    /// Removes the value, if there is one.
    pub(crate) fn remove(&mut self, key: &str) -> Result<(), redb::Error> {
        let there = self.inner.remove(key)?.is_some();
        if there {
            self.note(key, None);
        }
        Ok(())
    }

    /// Removes the values in this range whose keys are not kept.
    pub(crate) fn retain_in(
        &mut self,
        range: Range<&str>,
        keep: impl Fn(&str) -> bool,
    ) -> Result<(), redb::Error> {
        let (name, changes) = (self.name, self.changes);
        self.inner.retain_in(range, |key, _| keep_or_note(key, &keep, name, changes))?;
        Ok(())
    }

    /// Removes the values whose keys are not kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Result<(), redb::Error> {
        let (name, changes) = (self.name, self.changes);
        self.inner.retain(|key, _| keep_or_note(key, &keep, name, changes))?;
        Ok(())
    }

    fn note(&self, key: &str, value: Option<&[u8]>) {
        if let Some(changes) = self.changes {
            changes.borrow_mut().push(Change::new(self.name, key, value));
        }
    }
}

fn keep_or_note(
    key: &str,
    keep: &impl Fn(&str) -> bool,
    table: &'static str,
    changes: Option<&RefCell<Vec<Change>>>,
) -> bool {
    let kept = keep(key);
    if !kept && let Some(changes) = changes {
        changes.borrow_mut().push(Change::new(table, key, None));
    }
    kept
}

/// The tables that there are: a replica takes no others.
const TABLES: [&str; 8] = [
    "topics",
    "groups",
    "delivery",
    "delivery_notes",
    "lite_subscriptions",
    "transactions",
    "transaction_checks",
    "takenOver",
];

/// The table of this name.
pub(crate) fn table_name(name: &str) -> Option<&'static str> {
    TABLES.into_iter().find(|table| *table == name)
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
        Ok(Self { path, gate, database: Mutex::new(Slot::Open(database)), journal: Mutex::default() })
    }

    /// One durable transaction: all of it or nothing. Blocks on the disk.
    pub(crate) fn write(
        &self,
        change: impl FnOnce(&Transaction) -> Result<(), redb::Error>,
    ) -> Result<(), Error> {
        let mut slot = self.database.lock();
        let journal = self.journal.lock().clone();
        let outcome = (|| {
            let mut inner = self.opened(&mut slot)?.begin_write()?;
            inner.set_durability(Durability::Immediate)?;
            let transaction = Transaction { inner, changes: journal.is_some().then(RefCell::default) };
            change(&transaction)?;
            let Transaction { inner, changes } = transaction;
            inner.commit()?;
            // While the database is locked: the journal has the order of the commits.
            if let (Some(journal), Some(changes)) = (&journal, changes) {
                journal.add(changes.into_inner());
            }
            Ok(())
        })();
        outcome.map_err(|source| {
            if matches!(*slot, Slot::Open(_)) {
                *slot = Slot::Broken;
            }
            at(&self.path, source)
        })
    }

    /// From now on what is written is kept for replicas as well.
    pub(crate) fn begin_journal(&self) -> Arc<Journal> {
        let _slot = self.database.lock();
        Arc::clone(self.journal.lock().insert(Arc::default()))
    }

    /// Waits until what was written before is on all in-sync members, where there are any; see [`Journal::settled`].
    pub(crate) fn settled(&self) -> Result<(), Error> {
        let journal = self.journal.lock().clone();
        journal.map_or(Ok(()), |journal| journal.settled().map_err(Error::from))
    }

    /// All that there is, and how much of the journal that includes.
    pub(crate) fn snapshot(&self) -> Result<(u64, Snapshot), Error> {
        let mut slot = self.database.lock();
        let fail = |source| at(&self.path, source);
        let transaction =
            self.opened(&mut slot).map_err(fail)?.begin_read().map_err(|error| fail(error.into()))?;
        let seq = self.journal.lock().as_ref().map_or(0, |journal| journal.last());
        Ok((seq, Snapshot { path: self.path.clone(), transaction }))
    }

    /// As a replica: makes the changes of a primary. Blocks on the disk.
    pub(crate) fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        self.write(|transaction| put_all(transaction, changes))
    }

    /// As a replica: what these chunks hold is all that there is from now on, or, after an error, nothing changed.
    pub(crate) fn replace(
        &self,
        mut next: impl FnMut() -> Option<Result<Vec<Change>, io::Error>>,
    ) -> Result<(), Error> {
        self.write(|transaction| {
            for table in TABLES {
                transaction.open_table(Definition::new(table))?.retain(|_| false)?;
            }
            while let Some(chunk) = next() {
                put_all(transaction, &chunk.map_err(redb::Error::Io)?)?;
            }
            Ok(())
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
        table: Definition,
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

fn put_all(transaction: &Transaction, changes: &[Change]) -> Result<(), redb::Error> {
    for Change { table, key, value } in changes {
        let mut table = transaction.open_table(Definition::new(table))?;
        match value {
            Some(value) => table.insert(key, value)?,
            None => table.remove(key)?,
        }
    }
    Ok(())
}

/// The database as it was at a time.
pub(crate) struct Snapshot {
    path: PathBuf,
    transaction: ReadTransaction,
}

impl Snapshot {
    /// Shows every value, in chunks of about this many bytes, while `take` wants more. Blocks on the disk.
    pub(crate) fn read(
        &self,
        chunk_bytes: usize,
        mut take: impl FnMut(Vec<Change>) -> bool,
    ) -> Result<(), Error> {
        let fail = |source| at(&self.path, source);
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for name in TABLES {
            let table = match self.transaction.open_table(Definition::new(name)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(fail(error.into())),
            };
            for pair in table.iter().map_err(|error| fail(error.into()))? {
                let (key, value) = pair.map_err(|error| fail(error.into()))?;
                let change = Change::new(name, key.value(), Some(value.value()));
                bytes += change.bytes();
                chunk.push(change);
                if bytes >= chunk_bytes {
                    bytes = 0;
                    if !take(std::mem::take(&mut chunk)) {
                        return Ok(());
                    }
                }
            }
        }
        take(chunk);
        Ok(())
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
