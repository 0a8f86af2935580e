//! Which module of `daemon` may use which, and that no crate's modules form a cycle.
//!
//! Reads every `crate::`, `self::` and `super::` path, also in `use` groups and in macro calls,
//! and resolves it to the top-level module that it reaches. Test code may look anywhere.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tree::{Source, is_test_item};
use crate::{Finding, Tree};

/// The layers of `daemon`, from the lowest. A module uses only modules of layers below its own.
const LAYERS: [&[&str]; 8] = [
    &["tasks"],
    &["config", "profile", "telemetry"],
    &["store"],
    &["endpoint", "model", "inference_table", "gateway"],
    &["serving"],
    &["api", "fleet", "registry", "broker"],
    &["app"],
    &["cli"],
];

/// The one sideways arrow.
const SIDEWAYS: (&str, &str) = ("endpoint", "model");

/// One module's use of another, and where.
type Uses = BTreeMap<(String, String), (String, usize)>;

/// Compares the uses between modules with the picture, in every crate with a `src` folder.
pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let mut crates: BTreeMap<&str, Uses> = BTreeMap::new();
    for source in tree.sources.iter().filter(|source| !source.is_test) {
        if let Some(folder) = source.crate_folder() {
            collect(source, crates.entry(folder).or_default(), folder, findings);
        }
    }
    for (folder, uses) in &crates {
        if *folder == "daemon" {
            check_layers(uses, findings);
        }
        check_cycles(folder, uses, findings);
    }
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn check_layers(uses: &Uses, findings: &mut Vec<Finding>) {
    for ((from, to), (file, line)) in uses {
        let (Some(lower), Some(upper)) = (rank(to), rank(from)) else {
            continue;
        };
        if lower >= upper && (from.as_str(), to.as_str()) != SIDEWAYS {
            findings.push(Finding {
                file: file.clone(),
                line: *line,
                rule: "layer",
                message: format!("{from} may not use {to}: it is not in a layer below"),
            });
        }
    }
}

/// Follows the uses from every module and reports each module that reaches itself.
fn check_cycles(folder: &str, uses: &Uses, findings: &mut Vec<Finding>) {
    let modules: BTreeSet<&String> = uses.keys().map(|(from, _)| from).collect();
    let reach = |start: &String| {
        let mut seen: BTreeSet<&String> = BTreeSet::new();
        let mut waiting = vec![start];
        while let Some(module) = waiting.pop() {
            for (_, next) in uses.keys().filter(|(from, _)| from == module) {
                if seen.insert(next) {
                    waiting.push(next);
                }
            }
        }
        seen
    };
    let knot: Vec<&str> = modules
        .into_iter()
        .filter(|module| reach(module).contains(module))
        .map(String::as_str)
        .collect();
    if !knot.is_empty() {
        findings.push(Finding {
            file: format!("{folder}/src"),
            line: 0,
            rule: "cycle",
            message: format!("modules that reach themselves: {}", knot.join(", ")),
        });
    }
}

fn collect(source: &Source, uses: &mut Uses, folder: &str, findings: &mut Vec<Finding>) {
    let module = source.module_path();
    let Some(top) = module.first().cloned() else {
        return;
    };
    if folder == "daemon" && rank(&top).is_none() {
        findings.push(Finding {
            file: source.path.clone(),
            line: 0,
            rule: "layer",
            message: format!("module {top} is in no layer of the picture"),
        });
    }
    let mut reader = PathReader {
        module,
        reached: Vec::new(),
    };
    reader.visit_file(&source.syntax);
    for (reached, line) in reader.reached {
        if reached != top {
            uses.entry((top.clone(), reached))
                .or_insert_with(|| (source.path.clone(), line));
        }
    }
}

struct PathReader {
    /// Where the reader stands.
    module: Vec<String>,
    /// Top-level modules that were named, with the line.
    reached: Vec<(String, usize)>,
}

impl PathReader {
    /// Notes the top-level module that a path reaches, when it is a path within this crate.
    fn note(&mut self, segments: &[String], line: usize) {
        let mut stand = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            _ => return,
        };
        let mut rest = segments;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => {
                    stand.pop();
                }
                _ => break,
            }
            rest = after;
        }
        stand.extend(rest.iter().cloned());
        // A type or function of the crate's root starts with a capital or is no module: skip it.
        if let Some(top) = stand
            .into_iter()
            .next()
            .filter(|top| top.starts_with(char::is_lowercase))
        {
            self.reached.push((top, line));
        }
    }

    fn note_use(&mut self, tree: &syn::UseTree, prefix: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.note_use(&path.tree, prefix);
                prefix.pop();
            }
            syn::UseTree::Group(group) => {
                for item in &group.items {
                    self.note_use(item, prefix);
                }
            }
            syn::UseTree::Name(name) => self.note_leaf(prefix, &name.ident),
            syn::UseTree::Rename(rename) => self.note_leaf(prefix, &rename.ident),
            syn::UseTree::Glob(glob) => self.note(&prefix.clone(), glob.span().start().line),
        }
    }

    fn note_leaf(&mut self, prefix: &[String], leaf: &syn::Ident) {
        let mut path = prefix.to_vec();
        path.push(leaf.to_string());
        self.note(&path, leaf.span().start().line);
    }

    /// Paths in the arguments of a macro are tokens: `crate`, `::`, name.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    line = ident.span().start().line;
                    path.push(ident.to_string());
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => continue,
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            self.note(&std::mem::take(&mut path), line);
        }
        self.note(&path, line);
    }
}

impl<'ast> Visit<'ast> for PathReader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test_item(&item.attrs) {
            self.note_use(&item.tree, &mut Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.note(&segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note_tokens(call.tokens.clone());
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test_item(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test_item(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }
}
