//! The operating system's file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::{DurableFile, DurableFs, SharedFs, Space, parent};
use crate::units::ByteCount;

/// Files hold requests, answers and models: nobody but the owner reads them.
const FILE_MODE: u32 = 0o600;
/// Directories: the owner, and the group to look.
const DIRECTORY_MODE: u32 = 0o750;

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl RealFs {
    /// The operating system's file system behind the shared pointer that stores take.
    #[must_use]
    pub fn shared() -> SharedFs {
        Arc::new(Self)
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Where the next append goes: not the file's length, which preallocation moves.
    end: u64,
}

impl DurableFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(bytes)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn preallocate(&mut self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            // Some file systems cannot reserve: being that long is then all there is to have.
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(length),
            done => Ok(done?),
        }
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.end = self.end.min(length);
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl DurableFs for RealFs {
    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        if directory.try_exists()? {
            return Ok(());
        }
        let above = parent(directory);
        if above != directory {
            self.create_dir_all(above)?;
        }
        match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            // One that may not be durable is not left for the next call to trust.
            Ok(()) => self
                .sync_dir(above)
                .inspect_err(|_| drop(fs::remove_dir(directory))),
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Box::new(RealFile { file, end: 0 }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        let file = OpenOptions::new().write(true).open(path)?;
        let end = file.metadata()?.len();
        Ok(Box::new(RealFile { file, end }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let answer = rustix::fs::statvfs(directory)?;
        Ok(Space {
            total: ByteCount(answer.f_blocks.saturating_mul(answer.f_frsize)),
            free: ByteCount(answer.f_bavail.saturating_mul(answer.f_frsize)),
            // A file system that makes its inodes as it goes has none in all.
            free_files: if answer.f_files == 0 {
                u64::MAX
            } else {
                answer.f_favail
            },
        })
    }

    fn size(&self, path: &Path) -> io::Result<ByteCount> {
        // POSIX counts st_blocks in units of 512 bytes, whatever the file system's own blocks are.
        let blocks = fs::metadata(path)?.blocks();
        Ok(ByteCount(blocks.saturating_mul(512)))
    }
}
