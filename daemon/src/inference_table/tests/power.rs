//! A file system that loses what was not synced when the power is cut.
//!
//! Names and contents are kept apart, as a disk does: a content survives when its file was synced,
//! a name when its directory was. What was not synced may survive or not; a coin decides.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use edgeward_base::durable::{DurableFile, DurableFs, RealFs, Space, parent};
use edgeward_base::units::ByteCount;

#[derive(Debug, Default)]
struct Disk {
    next_file: u64,
    /// Names as the process sees them.
    names: BTreeMap<PathBuf, u64>,
    /// Names that survive.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Contents that survive.
    durable: BTreeMap<u64, Vec<u8>>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct PowerCutFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug)]
struct PowerCutFile {
    inner: Box<dyn DurableFile>,
    path: PathBuf,
    file: u64,
    disk: Arc<Mutex<Disk>>,
}

impl PowerCutFile {
    fn synced(&self) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        // A file is never written after it is renamed or removed.
        let content = std::fs::read(&self.path)?;
        disk.durable.insert(self.file, content);
        Ok(())
    }
}

impl DurableFile for PowerCutFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append(bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn preallocate(&mut self, length: u64) -> io::Result<()> {
        self.inner.preallocate(length)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.inner.set_len(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.inner.sync_data()?;
        self.synced()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.inner.sync_all()?;
        self.synced()
    }
}

impl PowerCutFs {
    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flips a bit of a file, also of what survives a power cut.
    pub(super) fn flip(&self, path: &Path, at: usize, bit: u8) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 1 << bit;
        std::fs::write(path, bytes).unwrap();
        let mut disk = self.disk();
        let disk = &mut *disk;
        let file = disk
            .names
            .get(path)
            .and_then(|file| disk.durable.get_mut(file));
        if let Some(byte) = file.and_then(|durable| durable.get_mut(at)) {
            *byte ^= 1 << bit;
        }
    }

    /// Cuts the power: `survives` says of each thing that was not synced whether it is there.
    pub(super) fn cut(&self, mut survives: impl FnMut() -> bool) {
        let mut disk = self.disk();
        let disk = &mut *disk;
        let paths: std::collections::BTreeSet<PathBuf> = disk
            .names
            .keys()
            .chain(disk.durable_names.keys())
            .cloned()
            .collect();
        let mut after = BTreeMap::new();
        for path in paths {
            let (now, synced) = (disk.names.get(&path), disk.durable_names.get(&path));
            let file = if now == synced || !survives() {
                synced
            } else {
                now
            };
            let Some(file) = file.copied() else { continue };
            let seen = disk
                .names
                .iter()
                .find(|(_, seen)| **seen == file)
                .map(|(path, _)| path);
            let written = seen.map(|path| std::fs::read(path).unwrap());
            let durable = disk.durable.get(&file).cloned().unwrap_or_default();
            let content = match written {
                Some(written) if written != durable && survives() => written,
                _ => durable,
            };
            after.insert(path, (file, content));
        }
        for path in disk.names.keys() {
            std::fs::remove_file(path).unwrap();
        }
        for (path, (_, content)) in &after {
            std::fs::create_dir_all(parent(path)).unwrap();
            std::fs::write(path, content).unwrap();
        }
        disk.durable = after.values().cloned().collect();
        disk.names = after
            .into_iter()
            .map(|(path, (file, _))| (path, file))
            .collect();
        disk.durable_names.clone_from(&disk.names);
    }
}

impl DurableFs for PowerCutFs {
    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        RealFs.create_dir_all(directory)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        let inner = RealFs.create_new(path)?;
        let mut disk = self.disk();
        disk.next_file += 1;
        let file = disk.next_file;
        disk.names.insert(path.to_owned(), file);
        drop(disk);
        let disk = Arc::clone(&self.disk);
        Ok(Box::new(PowerCutFile {
            inner,
            path: path.to_owned(),
            file,
            disk,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        let inner = RealFs.open(path)?;
        let file = self
            .disk()
            .names
            .get(path)
            .copied()
            .ok_or(io::ErrorKind::NotFound)?;
        let disk = Arc::clone(&self.disk);
        Ok(Box::new(PowerCutFile {
            inner,
            path: path.to_owned(),
            file,
            disk,
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealFs.read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)?;
        let mut disk = self.disk();
        if let Some(file) = disk.names.remove(from) {
            disk.names.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFs.remove(path)?;
        self.disk().names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        RealFs.sync_dir(directory)?;
        let mut disk = self.disk();
        let names = disk.names.clone();
        disk.durable_names
            .retain(|path, _| parent(path) != directory);
        disk.durable_names.extend(
            names
                .into_iter()
                .filter(|(path, _)| parent(path) == directory),
        );
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        RealFs.list(directory)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        RealFs.space(directory)
    }

    fn size(&self, path: &Path) -> io::Result<ByteCount> {
        RealFs.size(path)
    }
}

#[test]
fn what_is_not_synced_is_gone_and_what_is_stays() {
    let folder = super::world::quick_folder();
    let fs = PowerCutFs::default();
    let path = |name: &str| folder.path().join(name);
    let mut file = fs.create_new(&path("a")).unwrap();
    file.append(b"kept").unwrap();
    file.sync_all().unwrap();
    fs.sync_dir(folder.path()).unwrap();
    file.append(b" lost").unwrap();
    fs.create_new(&path("b")).unwrap().sync_all().unwrap();
    fs.cut(|| false);
    assert_eq!(fs.read(&path("a")).unwrap(), b"kept");
    assert!(fs.read(&path("b")).is_err());
    fs.rename(&path("a"), &path("c")).unwrap();
    fs.cut(|| false);
    assert_eq!(fs.read(&path("a")).unwrap(), b"kept");
    assert!(fs.read(&path("c")).is_err());
}
