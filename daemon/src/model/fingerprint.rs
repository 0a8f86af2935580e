//! What a verdict on an engine depends on beside the model: this build, this processor, and the device
//! that the engine computes on.
//!
//! A verdict made under another fingerprint counts for nothing, and the model proves itself again.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use edgeward_base::digest::DigestHasher;

/// The build and the processor, as 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Arc<str>);

/// Lines of `/proc/cpuinfo` that say which instructions there are, on x86 and on Arm.
const CPU_LINES: [&str; 8] = [
    "model name",
    "flags",
    "Features",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "CPU revision",
];

impl Fingerprint {
    /// The fingerprint of the running process.
    ///
    /// The build is told by the package's version and by the executable file: its inode, length and
    /// change time, which the kernel sets whenever a file is written or put in place and which no
    /// package can carry with it. A copied binary proves its models again; that costs seconds, once.
    ///
    /// # Errors
    /// Whatever looking at the executable answers. A missing `/proc/cpuinfo` is no error: the
    /// architecture then stands for the processor.
    pub fn of_this_process() -> io::Result<Self> {
        let executable = std::fs::metadata(std::env::current_exe()?)?;
        let mut hasher = DigestHasher::new();
        let build = format!(
            "{} {} {} {} {} {}\n",
            env!("CARGO_PKG_VERSION"),
            executable.dev(),
            executable.ino(),
            executable.len(),
            executable.ctime(),
            executable.ctime_nsec(),
        );
        hasher.update(build.as_bytes());
        hasher.update(std::env::consts::ARCH.as_bytes());
        if let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") {
            hasher.update(cpu_lines(&text).as_bytes());
        }
        Ok(Self::of_digest(&hasher))
    }

    /// The fingerprint of an engine that computes on this hardware beside the processor.
    #[must_use]
    pub fn on(&self, hardware: Option<String>) -> Self {
        let Some(hardware) = hardware else {
            return self.clone();
        };
        let mut hasher = DigestHasher::new();
        hasher.update(self.0.as_bytes());
        hasher.update(hardware.as_bytes());
        Self::of_digest(&hasher)
    }

    fn of_digest(hasher: &DigestHasher) -> Self {
        let digits = hasher.finish().to_string();
        Self(digits.chars().take(16).collect::<String>().into())
    }

    /// A fingerprint of a test's choice.
    #[cfg(test)]
    pub(super) fn for_test(text: &str) -> Self {
        Self(text.into())
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The telling lines of the first processor and of every other one that differs from it.
fn cpu_lines(text: &str) -> String {
    let telling = text
        .lines()
        .filter(|line| CPU_LINES.iter().any(|known| line.starts_with(known)));
    let lines: std::collections::BTreeSet<&str> = telling.collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_still_within_a_process_and_tells_processors_apart() {
        let first = Fingerprint::of_this_process().unwrap();
        assert_eq!(first, Fingerprint::of_this_process().unwrap());
        assert_eq!(first.as_str().len(), 16);
        let one = "processor : 0\nmodel name : A\nflags : sse avx\ncpu MHz : 1000\n";
        let same = "processor : 1\nmodel name : A\nflags : sse avx\ncpu MHz : 2000\n";
        let other = "processor : 0\nmodel name : A\nflags : sse\ncpu MHz : 1000\n";
        assert_eq!(cpu_lines(one), cpu_lines(same));
        assert_ne!(cpu_lines(one), cpu_lines(other));
        assert_eq!(first.on(None), first);
        let [old, new] = ["driver 1", "driver 2"].map(|driver| first.on(Some(driver.to_owned())));
        assert!(old != new && old != first && old.as_str().len() == 16);
    }
}
