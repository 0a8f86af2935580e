//! Files of a version that comes after this one: today's, with a later version in their heads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use edgeward_base::digest::Digest;
use edgeward_harness::device::Device;

/// Where the version stands in the magic of a segment of the log.
const LOG_MAGIC: &[u8] = b"EDGEWARD ROWS ";
const LOG_HEAD: usize = 16;
const ACCOUNT_MAGIC: &str = "EDGEWARD ACCOUNT ";
const EXPORT_MAGIC: &[u8] = b"EDGEWARD";
const OURS: u8 = 1;
const NEXT: u8 = 2;

/// Keeps the state as it is now, as the first start of a newer version does.
pub(super) fn keep_state(state: &Path) {
    let newest = exports(state).pop().unwrap();
    fs::copy(newest, state.join("export/pre-9.0.0.export")).unwrap();
}

fn exports(state: &Path) -> Vec<PathBuf> {
    let mut exports = files(&state.join("export"));
    exports.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("state-")
    });
    exports
}

/// A sealed file of a boot that has an account.
pub(super) fn sealed(state: &Path) -> Option<PathBuf> {
    let rows = state.join("rows");
    let boots = boots(&rows);
    let mut files = files(&rows.join("parquet")).into_iter();
    files.find(|path| {
        path.extension()
            .is_some_and(|extension| extension == "parquet")
            && is_of(&boots, path)
    })
}

/// The boots that have an account.
fn boots(rows: &Path) -> Vec<String> {
    let accounts = files(&rows.join("account"));
    let stems = accounts.iter().filter_map(|path| path.file_stem());
    stems
        .map(|stem| stem.to_string_lossy().into_owned())
        .collect()
}

/// Whether the name of a file tells one of these boots.
fn is_of(boots: &[String], path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    boots.iter().any(|boot| name.contains(boot.as_str()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let Ok(path) = entry.map(|entry| entry.path()) else {
                continue;
            };
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The row files of a newer version, and what they hold.
pub(super) struct Newer {
    rows: PathBuf,
    files: BTreeMap<PathBuf, Digest>,
}

impl Newer {
    /// Makes everything that lies in `state` the work of the next version.
    pub(super) fn make(state: &Path) -> Self {
        for export in exports(state) {
            let mut bytes = fs::read(&export).unwrap();
            let body = bytes.len() - Digest::of(b"").as_bytes().len();
            bytes.truncate(body);
            bytes[EXPORT_MAGIC.len()..][..2].copy_from_slice(&u16::from(NEXT).to_le_bytes());
            let digest = Digest::of(&bytes);
            bytes.extend_from_slice(digest.as_bytes());
            fs::write(&export, bytes).unwrap();
        }
        let rows = state.join("rows");
        for path in files(&rows) {
            rewrite(&path, OURS, NEXT);
        }
        let boots = boots(&rows);
        let files = ["wal", "account", "parquet"].map(|folder| files(&rows.join(folder)));
        let digest = |path: PathBuf| {
            let digest = Digest::of(&fs::read(&path).unwrap());
            (path, digest)
        };
        // What a kill left half written, or finished before its boot had an account, is in the log
        // as well: every start sweeps it away.
        let kept = |path: &PathBuf| {
            let is_whole = path.extension().is_none_or(|extension| extension != "tmp");
            is_whole && (!is_in(path, "parquet") || is_of(&boots, path))
        };
        let files = files.into_iter().flatten().filter(kept);
        let files = files.map(digest).collect();
        Self { rows, files }
    }

    /// Asserts that nobody has written to the files.
    pub(super) fn assert_untouched(&self) {
        for (path, digest) in &self.files {
            let found = fs::read(path).map(|bytes| Digest::of(&bytes));
            assert_eq!(found.ok(), Some(*digest), "{}", path.display());
        }
    }

    /// Asserts that the box says which files it leaves alone.
    pub(super) fn assert_is_named(&self, device: &Device) {
        let verified = device.edgeward(&["logs", "verify", "--output", "json"]);
        let report: serde_json::Value = serde_json::from_str(&verified.stdout).unwrap();
        let foreign = report["foreign"].as_array().unwrap().iter();
        let foreign: Vec<_> = foreign.map(|path| path.as_str().unwrap()).collect();
        let accounts = self.files.keys().filter(|path| is_in(path, "account"));
        for account in accounts {
            let name = account.file_name().unwrap().to_str().unwrap();
            assert!(
                foreign.iter().any(|path| path.ends_with(name)),
                "{name} is not in {foreign:?}"
            );
        }
    }

    /// The next version is back, and reads its files: today's does in its place. Answers how many
    /// segments of the log and how many sealed files there are.
    pub(super) fn bring_back(self) -> (u64, u64) {
        for path in files(&self.rows) {
            rewrite(&path, NEXT, OURS);
        }
        let count = |folder: &str| {
            let of = self.files.keys().filter(|path| is_in(path, folder));
            u64::try_from(of.count()).unwrap()
        };
        (count("wal"), count("parquet"))
    }
}

fn is_in(path: &Path, folder: &str) -> bool {
    path.iter().any(|level| level == folder)
}

/// Changes the version of a row file that has version `from`; leaves every other file alone.
fn rewrite(path: &Path, from: u8, to: u8) {
    let bytes = fs::read(path).unwrap();
    let written = match path.extension().and_then(|extension| extension.to_str()) {
        Some("wal") => log_of(path, bytes, from, to),
        Some("json") => account_of(&bytes, from, to),
        _ => None,
    };
    if let Some(written) = written {
        fs::write(path, written).unwrap();
    }
}

/// A segment of the log: the digit of the magic, and the first byte of the header, whose frame has
/// the CRC-32 of boot, number, offset, length and content.
fn log_of(path: &Path, mut bytes: Vec<u8>, from: u8, to: u8) -> Option<Vec<u8>> {
    if bytes.get(..LOG_HEAD)? != [LOG_MAGIC, &[b'0' + from, b'\n']].concat() {
        return None;
    }
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let (boot, number) = stem.split_once('-').unwrap();
    let boot = u64::from_str_radix(boot, 16).unwrap();
    let number: u32 = number.parse().unwrap();
    bytes[LOG_MAGIC.len()] = b'0' + to;
    let frame = &mut bytes[LOG_HEAD..];
    let length: [u8; 4] = frame[..4].try_into().unwrap();
    let end = 8 + usize::try_from(u32::from_le_bytes(length)).unwrap();
    assert_eq!(frame[8..10], [0, from], "kind and version of the header");
    frame[9] = to;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&boot.to_le_bytes());
    crc.update(&number.to_le_bytes());
    crc.update(&u64::try_from(LOG_HEAD).unwrap().to_le_bytes());
    crc.update(&length);
    crc.update(&frame[8..end]);
    frame[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
    Some(bytes)
}

/// An account: the CRC-32 is of all but itself, the line's end and the blank before it.
fn account_of(bytes: &[u8], from: u8, to: u8) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, json) = text.split_once('\n')?;
    let (magic, _) = head.rsplit_once(' ')?;
    if magic != format!("{ACCOUNT_MAGIC}{from}") {
        return None;
    }
    let magic = format!("{ACCOUNT_MAGIC}{to}");
    let crc = crc32fast::hash(format!("{magic}{json}").as_bytes());
    Some(format!("{magic} {crc:08x}\n{json}").into_bytes())
}
