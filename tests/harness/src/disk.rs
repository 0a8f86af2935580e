//! Disks that a test may cut from power and fill: ext4 on a loop device, and a small tmpfs.
//!
//! Both need root. A developer who is not root sees the case skipped; root without loop devices
//! fails. The loop device frees itself when its file system is unmounted, and a disk unmounts when
//! it is dropped, so a test that panics leaves nothing behind.
//!
//! What a cut of [`LoopDisk`] loses is what the kernel had not yet written to the device: file
//! data, names and the journal's open transaction. It does not lose what the device acknowledged,
//! and does not reorder it, as a drive without a flushed cache may.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use edgeward_base::units::ByteCount;
use rustix::ioctl::{Setter, ioctl, opcode};
use tempfile::TempDir;

use crate::report::skip;
use crate::wait;

/// `EXT4_IOC_SHUTDOWN`: `_IOR('X', 125, __u32)`.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: at once, the journal is not written out.
const AT_ONCE: u32 = 2;
/// What one write of [`FullDisk::fill`] takes.
const FILL_STEP: usize = 4096;

/// Whether this process may mount; says so where it may not.
fn may_mount(case: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(case, "only root can mount a disk of its own");
    }
    root
}

/// Runs a program of the system to its end.
///
/// # Panics
/// When it fails.
fn system(program: &str, arguments: &[&OsStr]) {
    let ran = crate::process::run(Path::new(program), arguments);
    assert_eq!(ran.code, Some(0), "{program} {arguments:?}: {ran:?}");
}

/// Unmounts, also what is still in use: whoever holds it keeps the rest of it alone.
fn unmount(folder: &Path) {
    drop(Command::new("umount").arg("--lazy").arg(folder).output());
}

/// An ext4 file system on a loop device, whose power can be cut.
#[derive(Debug)]
pub struct LoopDisk {
    folder: TempDir,
}

impl LoopDisk {
    /// Makes and mounts one; `None` where this process is not root.
    ///
    /// # Panics
    /// When root cannot: there are no loop devices, or no `mkfs.ext4`.
    #[must_use]
    pub fn ext4(case: &str, size: ByteCount) -> Option<Self> {
        if !may_mount(case) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let disk = Self { folder };
        File::create(disk.image())
            .and_then(|image| image.set_len(size.0))
            .and_then(|()| fs::create_dir(disk.path()))
            .unwrap_or_else(|error| panic!("no image: {error}"));
        // Without blocks that are kept for root, a full disk is full for the tests, too.
        let image = disk.image();
        let options = ["-q", "-F", "-m", "0"].map(OsStr::new);
        system("mkfs.ext4", &[&options[..], &[image.as_os_str()]].concat());
        disk.mount();
        Some(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&self) {
        let (image, path) = (self.image(), self.path());
        let options = ["-t", "ext4", "-o", "loop"].map(OsStr::new);
        system(
            "mount",
            &[&options[..], &[image.as_os_str(), path.as_os_str()]].concat(),
        );
    }

    /// Cuts the power: from now on each operation fails, and what was not synced is lost.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[expect(unsafe_code, reason = "ioctl has no safe form")]
    pub fn cut_power(&self) {
        let root = File::open(self.path()).unwrap_or_else(|error| panic!("the disk: {error}"));
        // SAFETY: this operation of ext4 reads one u32, which is what the setter points to.
        let how = unsafe { Setter::<SHUTDOWN, u32>::new(AT_ONCE) };
        // SAFETY: the file lies on ext4, whose operation this is, and is open during the call.
        let cut = unsafe { ioctl(&root, how) };
        cut.unwrap_or_else(|error| panic!("the power cannot be cut: {error}"));
    }

    /// Gives the power back: mounts again, which replays the journal. Nothing may use the disk.
    ///
    /// # Panics
    /// When something does, or the file system cannot be mounted.
    pub fn restore(&self) {
        let path = self.path();
        wait::until("nothing uses the disk that lost its power", || {
            let unmounted = crate::process::run(Path::new("umount"), &[path.as_os_str()]);
            (unmounted.code == Some(0)).then_some(())
        });
        self.mount();
    }

    /// Bytes written to the device since it was mounted, as the kernel counts them.
    ///
    /// # Panics
    /// When the kernel does not say.
    #[must_use]
    pub fn written(&self) -> u64 {
        /// What `/sys/block/*/stat` counts in.
        const SECTOR: u64 = 512;
        let path = self.path();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let device = mounts.lines().find_map(|mount| {
            let (device, rest) = mount.split_once(' ')?;
            let at = rest.split(' ').next()?;
            (Path::new(at) == path).then(|| device.trim_start_matches("/dev/").to_owned())
        });
        let device = device.unwrap_or_else(|| panic!("{} is not mounted", path.display()));
        let stat = format!("/sys/block/{device}/stat");
        let text = fs::read_to_string(&stat).unwrap_or_else(|error| panic!("{stat}: {error}"));
        // Reads, reads merged, sectors read, ticks; writes, writes merged, sectors written.
        let sectors = text.split_whitespace().nth(6).and_then(|n| n.parse().ok());
        let sectors: u64 = sectors.unwrap_or_else(|| panic!("{stat}: {text}"));
        sectors * SECTOR
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        unmount(&self.path());
    }
}

/// A tmpfs that a test can fill. It has no durability to lose: for full disks alone.
#[derive(Debug)]
pub struct FullDisk {
    folder: TempDir,
}

impl FullDisk {
    /// Makes and mounts one; `None` where this process is not root.
    ///
    /// # Panics
    /// When root cannot.
    #[must_use]
    pub fn tmpfs(case: &str, size: ByteCount) -> Option<Self> {
        if !may_mount(case) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let disk = Self { folder };
        let path = disk.path();
        fs::create_dir(&path).unwrap_or_else(|error| panic!("no folder: {error}"));
        let size = format!("size={},mode=0755", size.0);
        let arguments = ["-t", "tmpfs", "-o", &size, "tmpfs"].map(OsStr::new);
        system("mount", &[&arguments[..], &[path.as_os_str()]].concat());
        Some(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Fills the disk to its last page.
    ///
    /// # Panics
    /// When writing ends with anything but a full disk.
    pub fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap_or_else(|error| panic!("no filler: {error}"));
        let page = [0xED; FILL_STEP];
        let end = loop {
            if let Err(error) = file.write_all(&page) {
                break error;
            }
        };
        assert_eq!(end.kind(), std::io::ErrorKind::StorageFull, "{end}");
    }

    /// Gives `bytes` of a filled disk back.
    ///
    /// # Panics
    /// When fewer were filled.
    pub fn free(&self, bytes: ByteCount) {
        let cut = File::options()
            .write(true)
            .open(self.filler())
            .and_then(|file| {
                let left = file.metadata()?.len().checked_sub(bytes.0);
                file.set_len(left.ok_or(std::io::ErrorKind::InvalidInput)?)
            });
        cut.unwrap_or_else(|error| panic!("{bytes} cannot be freed: {error}"));
    }

    /// Gives everything back that [`fill`](Self::fill) took.
    ///
    /// # Panics
    /// When the disk was not filled.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).unwrap_or_else(|error| panic!("the filler: {error}"));
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        unmount(&self.path());
    }
}

#[cfg(test)]
mod tests;
