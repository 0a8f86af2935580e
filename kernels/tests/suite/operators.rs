//! Every model in `tests/recorded` and `tests/quantised`, held against what onnxruntime answered; see `record.py` there.

use std::error::Error;
use std::path::PathBuf;

use edgeward_harness::floors;
use edgeward_kernels::tolerance::{Rounding, compare_rounded};
use edgeward_kernels::verify::verify;

use crate::recorded;
use crate::subject::{engines, model_file, recordings, try_load};

#[test]
fn every_recorded_model_equals_onnxruntime_each_time_it_is_asked() {
    each_recording(|engine, path| {
        let session = try_load(engine, path).map_err(|error| error.to_string())?;
        let recorded = recorded::read(&path.with_extension("json"), &*session);
        // A session that carried anything from one call to the next would answer otherwise then.
        for call in 1..=3 {
            let outputs = session
                .run(&recorded.inputs)
                .map_err(|error| error.to_string())?;
            let roundings = session.roundings().iter().copied();
            let roundings = roundings.chain(std::iter::repeat(Rounding::None));
            let pairs = recorded.outputs.iter().zip(&outputs);
            for (((expected, got), spec), rounding) in pairs.zip(session.outputs()).zip(roundings) {
                compare_rounded(expected, got, rounding)
                    .map_err(|difference| format!("call {call}, {}: {difference}", spec.name))?;
                if !spec.admits(got.shape()) || spec.data_type != got.data_type() {
                    return Err(format!("{} does not keep its spec {spec:?}", spec.name));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn every_recorded_model_is_verified_against_the_reference() {
    each_recording(|engine, path| {
        let session = try_load(engine, path).map_err(|error| error.to_string())?;
        let inputs = recorded::read(&path.with_extension("json"), &*session).inputs;
        verify(engine, &*session, &model_file(path), None, Some(&inputs)).map_err(|error| {
            let source = error.source().map(ToString::to_string);
            format!("{error}: {}", source.unwrap_or_default())
        })?;
        Ok(())
    });
}

/// Whether an engine with a device says that a model is not for it: nothing of it has a form there, or
/// its extents hang on values.
fn is_refusal(reason: &str) -> bool {
    ["none of its operators has a form", "does not type"]
        .iter()
        .any(|refusal| reason.contains(refusal))
}

/// Runs `check` on every recording and engine, and reports all failures together.
fn each_recording(
    check: impl Fn(&dyn edgeward_kernels::engine::Engine, &PathBuf) -> Result<(), String>,
) {
    let recordings = recordings();
    assert!(
        recordings.len() > 50,
        "only {} recordings found",
        recordings.len()
    );
    let mut failures = Vec::new();
    for engine in engines() {
        let mut answered = 0_u64;
        for path in &recordings {
            let outcome = check(&*engine, path);
            answered += u64::from(outcome.is_ok());
            if let Err(reason) = outcome {
                if engine.hardware().is_some() && is_refusal(&reason) {
                    continue;
                }
                let name = path
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                failures.push(format!("{} on {name}: {reason}", engine.name()));
            }
        }
        if engine.hardware().is_some() {
            floors::reached("suite.gpu.recordings", answered);
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
