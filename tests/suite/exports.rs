//! Every export that tabular users bring, held against the framework that trained it.
//!
//! `tests/fixtures/exports/record.py` trained the models and wrote down what their frameworks answer
//! to 1,000 rows each. The list of what passes and what is refused stands in `docs/models.md`, and
//! this test fails when the list is not true. `EDGEWARD_WRITE_LISTS=1` writes it again.

mod answers;
mod list;
mod stored;

use std::path::PathBuf;
use std::sync::Arc;

use edgeward_base::digest::Digest;
use edgeward_harness::{floors, workspace};
use edgeward_kernels::engine::{Engine, ModelFile, ModelForm, Session};
use edgeward_kernels::verify::verify;

use stored::{Export, Exports};

/// Where the fixtures lie.
fn folder() -> PathBuf {
    workspace().join("tests/fixtures/exports")
}

/// An export and, where it does not pass, why.
struct Outcome<'a> {
    export: &'a Export,
    refusal: Option<String>,
}

#[test]
fn every_export_answers_as_its_framework_does_or_is_refused_by_name() {
    let exports = Exports::read(&folder());
    let engines = edgeward_kernels::engines();
    let outcomes: Vec<Outcome<'_>> = exports
        .exports
        .iter()
        .map(|export| Outcome {
            export,
            refusal: refusal(&engines, &exports, export),
        })
        .collect();
    let passed = outcomes.iter().filter(|outcome| outcome.refusal.is_none());
    let (passed, tried) = (passed.count() as u64, outcomes.len() as u64);
    list::hold(&list::text(&outcomes));
    floors::reached("suite.exports.passed", passed);
    floors::reached("suite.exports.tried", tried);
}

/// Why an export does not serve; `None` where it passes.
fn refusal(engines: &[Arc<dyn Engine>], exports: &Exports, export: &Export) -> Option<String> {
    if let Some(reason) = &export.not_exported {
        return Some(format!("its converter does not write it: {reason}"));
    }
    let path = folder().join(format!("{}.onnx", export.file));
    let model = ModelFile {
        digest: Digest::of_file(&path).unwrap(),
        path,
        form: ModelForm::Onnx,
        text: None,
    };
    let mut refusals = Vec::new();
    for engine in engines.iter().filter(|engine| engine.takes(model.form)) {
        let session = match engine.load(&model) {
            Ok(session) => session,
            Err(error) => {
                refusals.push(error.to_string());
                continue;
            }
        };
        match check(engine.as_ref(), session.as_ref(), &model, exports, export) {
            Ok(()) => return None,
            Err(reason) => refusals.push(reason),
        }
    }
    Some(refusals.join("; "))
}

/// Holds one loaded export against its framework, and its engine against the reference.
fn check(
    engine: &dyn Engine,
    session: &dyn Session,
    model: &ModelFile,
    exports: &Exports,
    export: &Export,
) -> Result<(), String> {
    let inputs = exports.inputs(export, session.inputs());
    let outputs = session.run(&inputs).map_err(|error| error.to_string())?;
    for stored in &export.outputs {
        let place = session
            .outputs()
            .iter()
            .position(|spec| spec.name == stored.name)
            .ok_or_else(|| format!("there is no output {}", stored.name))?;
        answers::compare(stored, &exports.answers(export, stored), &outputs[place])?;
    }
    verify(engine, session, model, None, Some(&inputs)).map_err(|error| error.to_string())?;
    Ok(())
}
