//! A tree that was read: its Rust sources, parsed; its documents; what cargo says of its crates.

use std::io;
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand};

/// Folders that hold no source of ours.
const SKIPPED: [&str; 9] = [
    "target",
    ".git",
    ".venv",
    ".venv-soak",
    ".cache",
    "node_modules",
    "fixtures",
    "corpus",
    "__pycache__",
];

/// A tree that was read.
#[derive(Debug)]
pub struct Tree {
    /// Every Rust file of ours.
    pub sources: Vec<Source>,
    /// Every other text file of ours: documents, scripts, configuration.
    pub texts: Vec<Text>,
    /// What `cargo metadata` says.
    pub metadata: Metadata,
    /// Where the tree stands.
    pub root: PathBuf,
}

/// A Rust file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the root, with `/`.
    pub path: String,
    /// What stands in it.
    pub text: String,
    /// The same, parsed.
    pub syntax: syn::File,
    /// Whether all of it is test code: a crate under `tests/` or `benches/`, or a `tests` module.
    pub is_test: bool,
}

impl Source {
    /// The crate's folder, such as `daemon` or `sync-agent/wire`, when the file is below its `src`.
    #[must_use]
    pub fn crate_folder(&self) -> Option<&str> {
        self.path.split_once("/src/").map(|(folder, _)| folder)
    }

    /// The path of the file's module below the crate's root: `a/b.rs` is `[a, b]`, `lib.rs` is `[]`.
    #[must_use]
    pub fn module_path(&self) -> Vec<String> {
        let inside = self
            .path
            .split_once("/src/")
            .map_or("", |(_, inside)| inside);
        match inside.strip_suffix(".rs").unwrap_or_default() {
            "lib" | "main" | "" => Vec::new(),
            module => module.split('/').map(str::to_owned).collect(),
        }
    }
}

/// A text file that is not Rust.
#[derive(Debug)]
pub struct Text {
    /// Relative to the root, with `/`.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadTreeError {
    /// A file or folder could not be read.
    #[error("cannot read {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A Rust file does not parse.
    #[error("cannot parse {path}")]
    Parse {
        /// The file.
        path: String,
        /// Where and why.
        #[source]
        source: syn::Error,
    },
    /// `cargo metadata` failed.
    #[error("cargo metadata failed")]
    Metadata(#[source] cargo_metadata::Error),
}

impl Tree {
    /// Reads everything below `root` but what was built or fetched.
    ///
    /// # Errors
    /// [`ReadTreeError`], for the first file that cannot be read or parsed.
    pub fn read(root: &Path) -> Result<Self, ReadTreeError> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .exec()
            .map_err(ReadTreeError::Metadata)?;
        let mut tree = Self {
            sources: Vec::new(),
            texts: Vec::new(),
            metadata,
            root: root.to_owned(),
        };
        tree.read_folder(root)?;
        tree.mark_test_modules();
        Ok(tree)
    }

    /// A file whose module is declared under `#[cfg(test)]` is test code, whatever it is called.
    fn mark_test_modules(&mut self) {
        let declared: Vec<(String, Vec<String>)> = self
            .sources
            .iter()
            .flat_map(|source| {
                let folder = source.crate_folder().unwrap_or_default().to_owned();
                let here = source.module_path();
                test_modules(&source.syntax).map(move |name| {
                    let mut module = here.clone();
                    module.push(name);
                    (folder.clone(), module)
                })
            })
            .collect();
        for source in &mut self.sources {
            let folder = source.crate_folder().unwrap_or_default();
            let module = source.module_path();
            source.is_test |= declared
                .iter()
                .any(|(owner, test)| owner == folder && module.starts_with(test));
        }
    }

    fn read_folder(&mut self, folder: &Path) -> Result<(), ReadTreeError> {
        let failed = |source| ReadTreeError::Io {
            path: folder.to_owned(),
            source,
        };
        let mut entries = std::fs::read_dir(folder)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(failed)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                self.read_folder(&entry.path())?;
            } else if kind.is_file() {
                self.read_file(&entry.path())?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, file: &Path) -> Result<(), ReadTreeError> {
        const TEXTS: [&str; 9] = [
            "md", "toml", "py", "sh", "service", "conf", "yml", "yaml", "tmpl",
        ];
        let extension = file
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let named = ["Makefile", "run"].iter().any(|name| file.ends_with(name));
        if extension != "rs" && !TEXTS.contains(&extension) && !named {
            return Ok(());
        }
        let text = std::fs::read_to_string(file).map_err(|source| ReadTreeError::Io {
            path: file.to_owned(),
            source,
        })?;
        let path = file
            .strip_prefix(&self.root)
            .unwrap_or(file)
            .to_string_lossy()
            .into_owned();
        if extension == "rs" {
            let syntax = syn::parse_file(&text).map_err(|source| ReadTreeError::Parse {
                path: path.clone(),
                source,
            })?;
            let is_test = path.starts_with("tests/")
                || path.starts_with("benches/")
                || path.contains("/tests/")
                || path.ends_with("/tests.rs");
            self.sources.push(Source {
                path,
                text,
                syntax,
                is_test,
            });
        } else {
            self.texts.push(Text { path, text });
        }
        Ok(())
    }
}

/// Names of the modules that a file declares for tests alone.
fn test_modules(file: &syn::File) -> impl Iterator<Item = String> + '_ {
    file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if is_test_item(&module.attrs) => Some(module.ident.to_string()),
        _ => None,
    })
}

/// Whether an item is compiled for tests alone.
#[must_use]
pub fn is_test_item(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute
                .path()
                .segments
                .last()
                .is_some_and(|last| last.ident == "test")
            || (attribute.path().is_ident("cfg")
                && attribute
                    .meta
                    .require_list()
                    .is_ok_and(|list| list.tokens.to_string().split(' ').any(|t| t == "test")))
    })
}
