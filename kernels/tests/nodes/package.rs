//! Where the node tests are: in the package `onnx` of the Python that `EDGEWARD_PYTHON` names.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The last release that ships the data; `tests/python/requirements.txt` pins it.
const VERSION: &str = "1.19.1";

/// Prints the version of the package, and its folder, without importing it.
const FIND: &str = "import importlib.metadata as m, importlib.util as u; \
                    print(m.version('onnx')); print(u.find_spec('onnx').origin)";

/// The folder with one folder for each case, or why there is none.
pub(crate) fn node_tests() -> Result<PathBuf, String> {
    let python = std::env::var_os("EDGEWARD_PYTHON").filter(|python| !python.is_empty());
    let python = python.ok_or("EDGEWARD_PYTHON is not set")?;
    let found = Command::new(&python).args(["-c", FIND]).output();
    let found = found.map_err(|error| format!("{}: {error}", python.display()))?;
    if !found.status.success() {
        return Err(format!("{} has no package onnx", python.display()));
    }
    let text = String::from_utf8_lossy(&found.stdout);
    let mut lines = text.lines();
    let (version, origin) = (lines.next(), lines.next());
    if version != Some(VERSION) {
        return Err(format!("onnx is {version:?}, not {VERSION}"));
    }
    let package = origin.and_then(|origin| Path::new(origin).parent());
    let package = package.ok_or("onnx has no folder")?;
    Ok(package.join("backend/test/data/node"))
}

/// The names of the cases in `folder`, in order.
pub(crate) fn cases(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("test_")).collect();
    names.sort();
    names
}
