//! Checks that the house keeps its shape: layers, walls, sizes, panics, prose.
//!
//! One function, [`check`], reads a tree and answers every place that breaks a rule. The rules are
//! the ones of ARCHITECTURE.md; clippy holds the others. A rule lives in the module named for it:
//!
//! - [`walls`]: which crate may depend on which, and which outside crate stays behind which of ours
//! - [`layers`]: which module of `daemon` may use which, and that no crate's modules form a cycle
//! - [`size`]: lines of a file and of a function
//! - [`panics`]: `unwrap` and `expect` only with a stated invariant
//! - [`shape`]: names and heads of files, and who may spawn
//! - [`prose`]: documents name only files that exist, and speak of the project alone
//!
//! This crate never changes a file.

pub mod layers;
pub mod panics;
pub mod prose;
pub mod shape;
pub mod size;
pub mod tree;
pub mod walls;

use std::fmt;
use std::path::Path;

pub use tree::{ReadTreeError, Tree};

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the root of the tree.
    pub file: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// The rule, in the word that the tests use for it.
    pub rule: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            rule,
            message,
        } = self;
        write!(f, "{file}:{line}: [{rule}] {message}")
    }
}

/// Reads the tree at `root` and answers every place that breaks a rule, in the order of files.
///
/// # Errors
/// [`ReadTreeError`] when a file cannot be read or parsed, or `cargo metadata` fails.
pub fn check(root: &Path) -> Result<Vec<Finding>, ReadTreeError> {
    let tree = Tree::read(root)?;
    let mut findings = Vec::new();
    for rule in [
        walls::check,
        layers::check,
        size::check,
        panics::check,
        shape::check,
        prose::check,
    ] {
        rule(&tree, &mut findings);
    }
    findings.sort();
    findings.dedup();
    Ok(findings)
}

#[cfg(test)]
mod tests;
