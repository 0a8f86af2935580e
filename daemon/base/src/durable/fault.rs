//! A file system that fails when a test says so.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{DurableFile, DurableFs, SharedFs, Space, TEMPORARY_SUFFIX};
use crate::units::ByteCount;

/// What the fault does to the operations after the one that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// They work again: a passing error.
    Recover,
    /// They all fail: a dead disk, or a process that is as good as killed.
    Dead,
}

/// What an operation would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named as the operation of the trait")]
pub enum Change {
    CreateDirectory,
    Create,
    Open,
    Append,
    WriteAt,
    Preallocate,
    SetLength,
    SyncData,
    SyncAll,
    Rename,
    Remove,
    SyncDirectory,
}

/// A changing operation that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What it would change.
    pub change: Change,
    /// In which file or directory; of a rename, the old name.
    pub path: PathBuf,
    /// Whether the fault kept it from happening.
    pub failed: bool,
}

#[derive(Debug)]
struct Plan {
    /// Changing operations seen so far.
    seen: AtomicU64,
    /// The same, one by one.
    log: Mutex<Vec<Operation>>,
    /// The operation that fails, counted from 1; 0 for none.
    fail_at: AtomicU64,
    dead: AtomicBool,
    after: After,
    kind: io::ErrorKind,
    /// What `space` answers instead of the disk's own.
    space: Mutex<Option<Space>>,
    /// No file below it takes a byte.
    full: Mutex<Option<PathBuf>>,
    /// Reads seen so far, and the one that fails, counted from 1; 0 for none.
    reads: AtomicU64,
    fail_read_at: AtomicU64,
}

impl Plan {
    /// Counts one changing operation and says whether it may happen.
    fn admit(&self, change: Change, path: &Path) -> io::Result<()> {
        let admitted = self.decide().and_then(|()| self.has_room(change, path));
        let operation = Operation {
            change,
            path: path.to_owned(),
            failed: admitted.is_err(),
        };
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(operation);
        admitted
    }

    fn has_room(&self, change: Change, path: &Path) -> io::Result<()> {
        let full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let grows = matches!(change, Change::Append | Change::Preallocate);
        match full.as_ref() {
            Some(folder) if grows && path.starts_with(folder) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn decide(&self) -> io::Result<()> {
        let number = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if self.dead.load(Ordering::SeqCst) {
            return Err(self.error(number));
        }
        if number == self.fail_at.load(Ordering::SeqCst) {
            self.dead.store(self.after == After::Dead, Ordering::SeqCst);
            return Err(self.error(number));
        }
        Ok(())
    }

    fn error(&self, number: u64) -> io::Error {
        io::Error::new(self.kind, format!("injected fault at operation {number}"))
    }
}

/// Passes every operation on to another file system, and fails the one that it is told to.
///
/// Only operations that change something are counted. A failing append writes the first half of
/// its bytes before it fails, as a full disk does.
#[derive(Debug, Clone)]
pub struct FaultFs {
    inner: SharedFs,
    plan: Arc<Plan>,
}

impl FaultFs {
    /// The `operation`-th change (from 1; 0 for none) fails with `kind`; later ones work again.
    #[must_use]
    pub fn failing_once(inner: SharedFs, operation: u64, kind: io::ErrorKind) -> Self {
        Self::new(inner, operation, After::Recover, kind)
    }

    /// The `operation`-th change (from 1; 0 for none) and all later ones fail.
    #[must_use]
    pub fn dying(inner: SharedFs, operation: u64) -> Self {
        Self::new(inner, operation, After::Dead, io::ErrorKind::Other)
    }

    fn new(inner: SharedFs, operation: u64, after: After, kind: io::ErrorKind) -> Self {
        let plan = Plan {
            seen: AtomicU64::new(0),
            log: Mutex::default(),
            fail_at: AtomicU64::new(operation),
            dead: AtomicBool::new(false),
            after,
            kind,
            space: Mutex::new(None),
            full: Mutex::new(None),
            reads: AtomicU64::new(0),
            fail_read_at: AtomicU64::new(0),
        };
        Self {
            inner,
            plan: Arc::new(plan),
        }
    }

    /// How many changing operations were asked for so far: run once without a fault to learn how
    /// many places there are to fail at.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.plan.seen.load(Ordering::SeqCst)
    }

    /// Every changing operation that was asked for so far, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Operation> {
        let log = self.plan.log.lock();
        log.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first operation that trusts a file after a write or a sync of it failed: nobody knows
    /// what such a file holds, and a repeated sync reports success for pages that were dropped. A
    /// temporary file may be written on, but neither be synced nor take its name.
    #[must_use]
    pub fn trusted_after_failure(&self) -> Option<Operation> {
        let mut spoilt: BTreeSet<PathBuf> = BTreeSet::new();
        self.log().into_iter().find(|operation| {
            let path = &operation.path;
            let temporary = path.to_string_lossy().ends_with(TEMPORARY_SUFFIX);
            let known = spoilt.contains(path);
            match operation.change {
                Change::Create | Change::Remove if !operation.failed => {
                    spoilt.remove(path);
                    false
                }
                Change::Rename => known && temporary,
                Change::Append | Change::WriteAt | Change::SyncData | Change::SyncAll => {
                    if operation.failed {
                        spoilt.insert(path.clone());
                    }
                    let writes = matches!(operation.change, Change::Append | Change::WriteAt);
                    known && !(writes && temporary)
                }
                _ => false,
            }
        })
    }

    /// Makes the next `count`-th change from now fail.
    pub fn fail_in(&self, count: u64) {
        self.plan
            .fail_at
            .store(self.operations() + count, Ordering::SeqCst);
    }

    /// Makes the next `count`-th read from now answer that its sector is bad (`EIO`).
    pub fn fail_read_in(&self, count: u64) {
        let seen = self.plan.reads.load(Ordering::SeqCst);
        self.plan.fail_read_at.store(seen + count, Ordering::SeqCst);
    }

    /// No file below `folder` takes a byte any more.
    pub fn fill(&self, folder: &Path) {
        *self
            .plan
            .full
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
    }

    /// Makes every later [`DurableFs::space`] answer this; `None` for what the disk says.
    pub fn set_space(&self, space: Option<Space>) {
        *self
            .plan
            .space
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = space;
    }

    fn wrap(&self, inner: Box<dyn DurableFile>, path: &Path) -> Box<dyn DurableFile> {
        Box::new(FaultFile {
            inner,
            path: path.to_owned(),
            plan: Arc::clone(&self.plan),
        })
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Box<dyn DurableFile>,
    path: PathBuf,
    plan: Arc<Plan>,
}

impl FaultFile {
    fn admit(&self, change: Change) -> io::Result<()> {
        self.plan.admit(change, &self.path)
    }
}

impl DurableFile for FaultFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.admit(Change::Append).or_else(|fault| {
            self.inner
                .append(bytes.get(..bytes.len() / 2).unwrap_or_default())?;
            Err(fault)
        })?;
        self.inner.append(bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.admit(Change::WriteAt)?;
        self.inner.write_at(offset, bytes)
    }

    fn preallocate(&mut self, length: u64) -> io::Result<()> {
        self.admit(Change::Preallocate)?;
        self.inner.preallocate(length)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.admit(Change::SetLength)?;
        self.inner.set_len(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.admit(Change::SyncData)?;
        self.inner.sync_data()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.admit(Change::SyncAll)?;
        self.inner.sync_all()
    }
}

impl DurableFs for FaultFs {
    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.plan.admit(Change::CreateDirectory, directory)?;
        self.inner.create_dir_all(directory)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        self.plan.admit(Change::Create, path)?;
        Ok(self.wrap(self.inner.create_new(path)?, path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        self.plan.admit(Change::Open, path)?;
        Ok(self.wrap(self.inner.open(path)?, path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let number = self.plan.reads.fetch_add(1, Ordering::SeqCst) + 1;
        if number == self.plan.fail_read_at.load(Ordering::SeqCst) {
            return Err(rustix::io::Errno::IO.into());
        }
        self.inner.read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.admit(Change::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.plan.admit(Change::Remove, path)?;
        self.inner.remove(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.plan.admit(Change::SyncDirectory, directory)?;
        self.inner.sync_dir(directory)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.list(directory)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let told = *self
            .plan
            .space
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        told.map_or_else(|| self.inner.space(directory), Ok)
    }

    fn size(&self, path: &Path) -> io::Result<ByteCount> {
        self.inner.size(path)
    }
}
