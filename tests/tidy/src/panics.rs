//! `unwrap` and `expect` only with a stated invariant.
//!
//! Clippy denies both in production code; what is left stands under an
//! `#[expect(clippy::unwrap_used, reason = "...")]`. This rule reads the reason, so that a lint
//! level loosened somewhere cannot let a bare one through.

use syn::visit::{self, Visit};

use crate::tree::is_test_item;
use crate::{Finding, Tree};

/// Reports every `unwrap` and `expect` of production code that states no invariant.
pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in tree.sources.iter().filter(|source| !source.is_test) {
        let mut reader = Reader {
            stated: 0,
            bare: Vec::new(),
        };
        reader.stated += usize::from(states_invariant(&source.syntax.attrs));
        reader.visit_file(&source.syntax);
        findings.extend(reader.bare.into_iter().map(|(line, method)| Finding {
            file: source.path.clone(),
            line,
            rule: "panic",
            message: format!("{method} without a stated invariant: handle it, or state why not"),
        }));
    }
}

struct Reader {
    /// How many of the enclosing items state an invariant.
    stated: usize,
    bare: Vec<(usize, String)>,
}

fn states_invariant(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("expect")
            && attribute.meta.require_list().is_ok_and(|list| {
                let text = list.tokens.to_string();
                (text.contains("unwrap_used") || text.contains("expect_used"))
                    && text.contains("reason")
            })
    })
}

macro_rules! under_attributes {
    ($($visit:ident: $node:ty),+ $(,)?) => {
        $(fn $visit(&mut self, node: &'ast $node) {
            if !is_test_item(&node.attrs) {
                let stated = usize::from(states_invariant(&node.attrs));
                self.stated += stated;
                visit::$visit(self, node);
                self.stated -= stated;
            }
        })+
    };
}

impl<'ast> Visit<'ast> for Reader {
    under_attributes!(
        visit_item_mod: syn::ItemMod,
        visit_item_fn: syn::ItemFn,
        visit_item_impl: syn::ItemImpl,
        visit_item_static: syn::ItemStatic,
        visit_item_const: syn::ItemConst,
        visit_impl_item_fn: syn::ImplItemFn,
        visit_trait_item_fn: syn::TraitItemFn,
        visit_local: syn::Local,
        visit_expr_block: syn::ExprBlock,
        visit_expr_call: syn::ExprCall,
        visit_field_value: syn::FieldValue,
        visit_arm: syn::Arm,
    );

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let stated = usize::from(states_invariant(&call.attrs));
        self.stated += stated;
        let method = call.method.to_string();
        let panics = ["unwrap", "expect", "unwrap_err", "expect_err"].contains(&method.as_str());
        if panics && self.stated == 0 {
            self.bare.push((call.method.span().start().line, method));
        }
        visit::visit_expr_method_call(self, call);
        self.stated -= stated;
    }
}
