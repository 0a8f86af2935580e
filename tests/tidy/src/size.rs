//! Lines of a file and of a function.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::{Finding, Tree};

/// Lines of a file of production code.
const FILE_LINES: usize = 600;
/// Lines of a file of tests.
const TEST_FILE_LINES: usize = 800;
/// Lines of a function, without blank ones and comments.
const FUNCTION_LINES: usize = 70;

/// Reports files and functions that do not fit.
pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        let most = if source.is_test {
            TEST_FILE_LINES
        } else {
            FILE_LINES
        };
        let lines = source.text.lines().count();
        let mut found = |line, message| {
            findings.push(Finding {
                file: source.path.clone(),
                line,
                rule: "size",
                message,
            });
        };
        if lines > most {
            found(
                0,
                format!("{lines} lines: split the file, {most} is the most"),
            );
        }
        let mut functions = Functions {
            text: source.text.lines().collect(),
            long: Vec::new(),
        };
        functions.visit_file(&source.syntax);
        for (name, line, lines) in functions.long {
            found(
                line,
                format!("function {name} has {lines} lines, {FUNCTION_LINES} is the most"),
            );
        }
    }
}

struct Functions<'a> {
    text: Vec<&'a str>,
    long: Vec<(String, usize, usize)>,
}

impl Functions<'_> {
    fn measure(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let (first, last) = (span.start().line, span.end().line);
        let body = self
            .text
            .get(first.saturating_sub(1)..last)
            .unwrap_or_default();
        let lines = body.iter().filter(|line| is_code(line)).count();
        if lines > FUNCTION_LINES {
            self.long.push((name.to_string(), first, lines));
        }
    }
}

fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig.ident, item.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig.ident, item.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.measure(&item.sig.ident, item.span());
        visit::visit_trait_item_fn(self, item);
    }
}
