//! The list in `docs/models.md`: what passes by kind, and what is refused with its reason.

use std::fmt::Write as _;

use edgeward_harness::workspace;

use super::Outcome;

/// What stands before and behind the list.
const BEGIN: &str = "<!-- exports: tests/suite/exports.rs writes what follows -->\n";
const END: &str = "<!-- end of exports -->\n";

/// The groups of `record.py`, and what people call them.
const GROUPS: [(&str, &str); 6] = [
    ("classifiers", "classifiers"),
    ("regressors", "regressors"),
    ("transformers", "transformers, clusters, outliers"),
    ("pipelines", "pipelines"),
    ("xgboost", "XGBoost by onnxmltools"),
    ("lightgbm", "LightGBM by onnxmltools"),
];

/// The list as it should stand.
pub(super) fn text(outcomes: &[Outcome<'_>]) -> String {
    let passed = outcomes.iter().filter(|outcome| outcome.refusal.is_none());
    let mut text = format!(
        "{} of {} exports pass.\n\n| kind | pass |\n|---|---|\n",
        passed.clone().count(),
        outcomes.len()
    );
    for (group, title) in GROUPS {
        let names: Vec<String> = passed
            .clone()
            .filter(|outcome| outcome.export.group == group)
            .map(|outcome| {
                let wide = if outcome.export.wide {
                    " (float64)"
                } else {
                    ""
                };
                format!("{}{wide}", outcome.export.name)
            })
            .collect();
        writeln!(text, "| {title} | {} |", names.join(", ")).unwrap();
    }
    text.push_str("\n| does not pass | why |\n|---|---|\n");
    for outcome in outcomes {
        if let Some(reason) = &outcome.refusal {
            let reason = reason.replace('|', "\\|").replace('\n', " ");
            writeln!(text, "| {} | {reason} |", outcome.export.name).unwrap();
        }
    }
    text
}

/// Fails unless `docs/models.md` holds the list, or writes it there when it is asked to.
pub(super) fn hold(list: &str) {
    println!("{list}");
    let path = workspace().join("docs/models.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page
        .split_once(BEGIN)
        .expect("the page has the list's beginning");
    let (there, after) = rest.split_once(END).expect("the page has the list's end");
    if std::env::var_os("EDGEWARD_WRITE_LISTS").is_some_and(|value| value == "1") {
        std::fs::write(&path, format!("{before}{BEGIN}{list}{END}{after}")).unwrap();
        return;
    }
    let (there, here): (Vec<&str>, Vec<&str>) = (there.lines().collect(), list.lines().collect());
    let differing: Vec<_> = here.iter().filter(|line| !there.contains(line)).collect();
    assert!(
        there == here,
        "docs/models.md does not list these:\n{differing:#?}"
    );
}
