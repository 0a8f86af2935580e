//! Profiles: what differs between kinds of boxes, one TOML file each.
//!
//! Owns the meaning and the range of every key in `profiles/`, where `README.md` describes them.
//! Must never hold a key without an effect: whoever adds one adds its reader.

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgeward_base::units::{ByteCount, Percent, parse_duration};
use edgeward_kernels::adapter::{AdapterKind, ENGINE, Wanted};
use edgeward_kernels::engine::Engine;
use serde::{Deserialize, Deserializer};

/// The profiles that the binary carries: name and text.
const BUILT_IN: [(&str, &str); 3] = [
    (
        "generic-cpu",
        include_str!("../../profiles/generic-cpu.toml"),
    ),
    (
        "generic-gpu",
        include_str!("../../profiles/generic-gpu.toml"),
    ),
    (
        "generic-sd-card",
        include_str!("../../profiles/generic-sd-card.toml"),
    ),
];

const LEAST_MEMORY: ByteCount = ByteCount::mib(64);
const LEAST_GPU_MEMORY: ByteCount = ByteCount::mib(1);
const MOST_MEMORY: ByteCount = ByteCount::mib(1 << 20);
const LEAST_COMMIT_INTERVAL: Duration = Duration::from_millis(10);
const MOST_COMMIT_INTERVAL: Duration = Duration::from_secs(60);
const LEAST_SCALE_TO_ZERO: Duration = Duration::from_secs(1);
const MOST_SCALE_TO_ZERO: Duration = Duration::from_secs(24 * 3600);
const LEAST_ROW_BUDGET: ByteCount = ByteCount::mib(1);
const MOST_ROW_BUDGET: ByteCount = ByteCount::mib(1 << 20);
const MOST_NAME_BYTES: usize = 63;

/// One kind of box.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// How logs and the state of the box name the profile.
    pub name: String,
    /// Rows are made durable so long after the first one that waits.
    #[serde(deserialize_with = "duration")]
    pub commit_interval: Duration,
    /// What inference-table rows may take of the disk at most, where no budget is configured.
    pub row_budget: ByteCount,
    /// The memory that models and requests may take together.
    pub memory_ceiling: ByteCount,
    /// Names of the engines that may compute, in the order in which they are tried.
    pub engines: Vec<String>,
    /// What the GPU engine may use.
    #[serde(default)]
    pub gpu: Gpu,
    /// A model whose endpoint scales to zero gives its memory back after so long without a request.
    #[serde(deserialize_with = "duration")]
    pub scale_to_zero_after: Duration,
    /// What each workload size is of the compute threads.
    pub workload_sizes: WorkloadSizes,
}

/// Which adapter the GPU engine may use, and how much of it. What is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// The kind.
    pub kind: Option<AdapterKind>,
    /// A part of the name, in any case.
    pub name: Option<String>,
    /// The place on the PCI bus.
    pub pci: Option<String>,
    /// What the weights of all models may take of its own memory; where nothing is said, they share
    /// the memory of all models.
    pub memory: Option<ByteCount>,
}

impl Gpu {
    /// The adapter that is wanted.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        Wanted {
            kind: self.kind,
            name: self.name.clone(),
            pci: self.pci.clone(),
        }
    }
}

/// The share of the compute threads that a served entity may hold at once, by its workload size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSizes {
    /// `Small`.
    pub small: Percent,
    /// `Medium`.
    pub medium: Percent,
    /// `Large`, and an entity that names no size.
    pub large: Percent,
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadProfileError {
    /// No such profile is built in.
    #[error("profile {name:?} is not built in; allowed: {}, or the path of a file with a / in it", known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names built in.
        known: Vec<&'static str>,
    },
    /// The file cannot be read.
    #[error("cannot read profile {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
    /// The file is no profile.
    #[error("profile {profile} is not valid: {problem}")]
    Invalid {
        /// The name or the path.
        profile: String,
        /// What is wrong, line by line.
        problem: String,
    },
    /// The profile names an engine that is not compiled in.
    #[error("profile {profile} names engine {engine:?}; compiled in: {}", known.join(", "))]
    UnknownEngine {
        /// The profile's name.
        profile: String,
        /// The engine asked for.
        engine: String,
        /// The engines compiled in.
        known: Vec<&'static str>,
    },
}

impl Profile {
    /// Reads the profile that the configuration names: one that is built in, or a file.
    ///
    /// # Errors
    /// [`LoadProfileError`] with everything that is wrong with its values.
    pub fn load(choice: &str) -> Result<Self, LoadProfileError> {
        if choice.contains('/') {
            let path = PathBuf::from(choice);
            return match std::fs::read_to_string(&path) {
                Ok(text) => Self::parse(choice, &text),
                Err(source) => Err(LoadProfileError::Read { path, source }),
            };
        }
        match BUILT_IN.iter().find(|(name, _)| *name == choice) {
            Some((name, text)) => Self::parse(name, text),
            None => Err(LoadProfileError::Unknown {
                name: choice.to_owned(),
                known: BUILT_IN.iter().map(|(name, _)| *name).collect(),
            }),
        }
    }

    fn parse(profile: &str, text: &str) -> Result<Self, LoadProfileError> {
        let invalid = |problem| LoadProfileError::Invalid {
            profile: profile.to_owned(),
            problem,
        };
        let parsed: Self = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let problems = parsed.problems();
        if problems.is_empty() {
            Ok(parsed)
        } else {
            Err(invalid(problems.join("; ")))
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |good: bool, problem: &str| {
            if !good {
                problems.push(problem.to_owned());
            }
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let name = &self.name;
        check(
            !name.is_empty() && name.len() <= MOST_NAME_BYTES && name.bytes().all(plain),
            "name: allowed: letters, digits, _ and -, at most 63",
        );
        check(
            (LEAST_COMMIT_INTERVAL..=MOST_COMMIT_INTERVAL).contains(&self.commit_interval),
            "commit_interval: allowed: 10ms to 1m",
        );
        check(
            (LEAST_SCALE_TO_ZERO..=MOST_SCALE_TO_ZERO).contains(&self.scale_to_zero_after),
            "scale_to_zero_after: allowed: 1s to 1d",
        );
        check(
            (LEAST_ROW_BUDGET..=MOST_ROW_BUDGET).contains(&self.row_budget),
            "row_budget: allowed: 1MiB to 1024GiB",
        );
        check(
            (LEAST_MEMORY..=MOST_MEMORY).contains(&self.memory_ceiling),
            "memory_ceiling: allowed: 64MiB to 1024GiB",
        );
        check(!self.engines.is_empty(), "engines: at least one is needed");
        let twice = |(number, engine): (usize, &String)| {
            self.engines
                .iter()
                .skip(number + 1)
                .any(|other| other == engine)
        };
        check(
            !self.engines.iter().enumerate().any(twice),
            "engines: each may be named once",
        );
        check(
            self.has_gpu() || self.gpu == Gpu::default(),
            "gpu: has an effect only where engines names burn-wgpu",
        );
        check(
            (self.gpu.memory)
                .is_none_or(|memory| (LEAST_GPU_MEMORY..=MOST_MEMORY).contains(&memory)),
            "gpu.memory: allowed: 1MiB to 1024GiB",
        );
        let sizes = &self.workload_sizes;
        for (key, share) in [
            ("small", sizes.small),
            ("medium", sizes.medium),
            ("large", sizes.large),
        ] {
            check(
                share.get() >= 1,
                &format!("workload_sizes.{key}: allowed: 1 to 100"),
            );
        }
        problems
    }

    /// What all request bodies in flight may hold together: an eighth of the ceiling.
    #[must_use]
    pub fn in_flight_bytes(&self) -> ByteCount {
        ByteCount(self.memory_ceiling.0 / 8)
    }

    /// Whether the GPU engine may compute.
    #[must_use]
    pub fn has_gpu(&self) -> bool {
        self.engines.iter().any(|engine| engine == ENGINE)
    }

    /// What all loaded models may hold together of the processor's memory: three quarters of the
    /// ceiling, half of them where the weights on the device come out of it, too. The rest is left to
    /// rows, plans, buffers and the process itself.
    #[must_use]
    pub fn model_bytes(&self) -> ByteCount {
        let shared = self.has_gpu() && self.gpu.memory.is_none();
        ByteCount(self.memory_ceiling.0 / 8 * if shared { 3 } else { 6 })
    }

    /// What the weights of all models may take on the GPU engine's device.
    #[must_use]
    pub fn gpu_bytes(&self) -> ByteCount {
        let shared = ByteCount(self.memory_ceiling.0 / 8 * 3);
        self.gpu.memory.unwrap_or(shared)
    }

    /// The engines that this profile wants, in its order, out of those compiled in.
    ///
    /// # Errors
    /// [`LoadProfileError::UnknownEngine`].
    pub fn choose_engines(
        &self,
        compiled_in: &[Arc<dyn Engine>],
    ) -> Result<Vec<Arc<dyn Engine>>, LoadProfileError> {
        let choose = |wanted: &String| {
            let found = compiled_in.iter().find(|engine| engine.name() == wanted);
            found
                .cloned()
                .ok_or_else(|| LoadProfileError::UnknownEngine {
                    profile: self.name.clone(),
                    engine: wanted.clone(),
                    known: compiled_in.iter().map(|engine| engine.name()).collect(),
                })
        };
        self.engines.iter().map(choose).collect()
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}
