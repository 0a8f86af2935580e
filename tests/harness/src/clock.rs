//! A wall clock that a test moves while a process runs, and says whether it follows a time source.
//!
//! A small library in C, loaded before the C library, answers for the kernel: the binary under test
//! is the one that is shipped. Monotonic time and the clock of the machine stay real.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::device::Device;
use crate::process::run;

/// A clock for one device.
#[derive(Debug)]
pub struct MovedClock {
    folder: TempDir,
    setting: File,
}

impl MovedClock {
    /// Builds the library, with the real time in it and no time source.
    ///
    /// # Panics
    /// Where there is no C compiler: nothing here builds without one.
    #[must_use]
    pub fn build() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock/clock.c");
        let library = folder.path().join("clock.so");
        let options = ["-shared", "-fPIC", "-O1", "-o"].map(AsRef::as_ref);
        let files = [library.as_os_str(), source.as_os_str(), "-ldl".as_ref()];
        run(Path::new("cc"), &[&options[..], &files].concat()).success();
        let path = folder.path().join("setting");
        let setting =
            fs::write(&path, [0; 16]).and_then(|()| File::options().write(true).open(&path));
        let setting = setting.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { folder, setting }
    }

    /// Makes every later start of the device run under this clock.
    pub fn install(&self, device: &mut Device) {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        device.set_environment("LD_PRELOAD", path("clock.so"));
        device.set_environment("EDGEWARD_TEST_CLOCK", path("setting"));
    }

    /// Moves the clock so many seconds away from the real time.
    pub fn move_by(&self, seconds: i64) {
        self.set(0, seconds);
    }

    /// A box without a battery: the clock says the beginning of 1970, and follows nothing.
    pub fn start_in_1970(&self) {
        self.set_synchronised(false);
        let real = real_time().as_secs();
        self.move_by(-i64::try_from(real).unwrap_or(i64::MAX));
    }

    /// Says whether the clock follows a time source, as the kernel does.
    pub fn set_synchronised(&self, synchronised: bool) {
        self.set(8, i64::from(synchronised));
    }

    fn set(&self, at: u64, value: i64) {
        let written = self.setting.write_all_at(&value.to_ne_bytes(), at);
        written.unwrap_or_else(|error| panic!("the clock: {error}"));
    }
}

/// The real time, since 1970.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "what a moved clock is compared with"
)]
pub fn real_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
