//! MLmodel files as MLflow writes them, and as nobody should.

use proptest::prelude::*;

use super::*;
use crate::model::samples::samples;
use crate::model::signature::{ColumnType, Schema};

#[test]
fn the_samples_files_are_read() {
    for sample in samples() {
        let bytes = sample
            .files
            .iter()
            .find(|(name, _)| *name == "MLmodel")
            .unwrap()
            .1;
        let model = parse(bytes).unwrap();
        assert_eq!(
            (model.file.as_str(), model.form),
            ("model.onnx", ModelForm::Onnx)
        );
        let Schema::Columns(columns) = model.signature.unwrap().inputs else {
            panic!("{} has tensors", sample.reference);
        };
        let expected = match sample.reference.rsplit_once('/').unwrap().0 {
            "main.default.fraud" => 4,
            "main.default.tumour" => 30,
            "main.default.diabetes" => 10,
            "main.default.digits" => 64,
            other => panic!("{other} is no sample"),
        };
        assert_eq!(columns.len(), expected);
        assert_eq!(columns[0].column_type, ColumnType::Double);
    }
}

#[test]
fn a_signature_is_optional_and_must_be_sound() {
    assert_eq!(
        parse(b"flavors: {onnx: {data: a.onnx}}").unwrap().signature,
        None
    );
    assert_eq!(parse(b"flavors: {onnx: {}}").unwrap().file, "model.onnx");
    let broken = parse(b"flavors: {onnx: {}}\nsignature: {inputs: '[{]'}");
    assert!(matches!(broken, Err(ParseMlModelError::Signature(_))));
    let params = parse(
        b"flavors: {onnx: {}}\nsignature: {inputs: '[{\"type\":\"long\"}]', params: '[{\"name\":\"k\"}]'}",
    );
    assert_eq!(params.unwrap().signature.unwrap().params, ["k"]);
}

#[test]
fn a_flavour_that_is_not_served_says_what_to_do() {
    let refused = parse(b"flavors: {sklearn: {}, python_function: {}}")
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("sklearn") && refused.contains("skl2onnx"),
        "{refused}"
    );
    assert!(
        parse(b"flavors: {}")
            .unwrap_err()
            .to_string()
            .contains("ONNX")
    );
    assert!(parse(b"artifact_path: model").is_err());
}

#[test]
fn the_class_of_a_booster_says_what_is_answered() {
    for (flavor, file, form) in [
        (
            "xgboost: {}",
            "model.ubj",
            ModelForm::XgBoost(Predictor::Booster),
        ),
        (
            "xgboost: {data: model.json, model_class: xgboost.core.Booster}",
            "model.json",
            ModelForm::XgBoost(Predictor::Booster),
        ),
        (
            "xgboost: {data: model.xgb, model_class: xgboost.sklearn.XGBClassifier}",
            "model.xgb",
            ModelForm::XgBoost(Predictor::Classifier),
        ),
        (
            "xgboost: {model_class: xgboost.sklearn.XGBRanker}",
            "model.ubj",
            ModelForm::XgBoost(Predictor::Estimator),
        ),
        (
            "lightgbm: {model_class: lightgbm.basic.Booster}",
            "model.lgb",
            ModelForm::LightGbm(Predictor::Booster),
        ),
        (
            "lightgbm: {data: model.txt, model_class: lightgbm.sklearn.LGBMClassifier}",
            "model.txt",
            ModelForm::LightGbm(Predictor::Classifier),
        ),
    ] {
        let text = format!("flavors: {{{flavor}, python_function: {{}}}}");
        let model = parse(text.as_bytes()).unwrap();
        assert_eq!((model.file.as_str(), model.form), (file, form), "{flavor}");
    }
    let refused = parse(b"flavors: {xgboost: {model_class: xgboost.dask.DaskXGBRegressor}}");
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("DaskXGBRegressor"), "{refused}");
}

#[test]
fn hostile_yaml_is_refused_in_bounded_time_and_space() {
    let huge = vec![b'a'; MLMODEL_LIMIT.as_usize() + 1];
    assert!(matches!(
        parse(&huge),
        Err(ParseMlModelError::TooBig { .. })
    ));
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..30 {
        let below = level - 1;
        let list = vec![format!("*a{below}"); 9].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    bomb.push_str("flavors: {onnx: {data: *a29}}\n");
    assert!(parse(bomb.as_bytes()).is_err());
    let deep = format!("flavors: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(
        parse(deep.as_bytes()),
        Err(ParseMlModelError::TooDeep)
    ));
    for indented in ["- ", "? ", "a: "] {
        assert!(parse(indented.repeat(100_000).as_bytes()).is_err());
    }
    assert!(parse(b"flavors: !!python/object/apply:os.system ['true']").is_err());
    assert!(parse(b"\xff\xfe").is_err());
}

/// Brackets that close nothing, in a quoted text or a comment, hide none that is open.
#[test]
fn nesting_cannot_be_hidden() {
    for (before, hidden) in [
        ("", "[\"]\","),
        ("", "[']',"),
        ("", "[ # ]\n"),
        ("", "[\"\"# ]\n"),
        ("", "[# ]\u{85}"),
        ("", "[\"\\\"]\","),
        ("", "['x''] ]',"),
        ("", "{\"}\": "),
        ("a: it's\nb: ", "['a]',"),
        ("a: a 'b\nb: ", "['a]',"),
        ("a: a \"b\nb: ", "[\"a]\","),
    ] {
        let deep = format!("{before}{}", hidden.repeat(20_000));
        assert!(
            matches!(parse(deep.as_bytes()), Err(ParseMlModelError::TooDeep)),
            "{hidden}"
        );
    }
    let wide: Vec<u8> = "flavors: [\"]\",["
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let wide = [b"\xff\xfe".as_slice(), &wide].concat();
    assert!(matches!(parse(&wide), Err(ParseMlModelError::Text(_))));
}

/// A signature of thousands of fields is nested no deeper than one of two, whatever their names.
#[test]
fn long_signatures_are_not_deep() {
    let column =
        "{\"type\": \"double\", \"name\": \"it''s \\\"the\\\" # of ''x'' \", \"required\": true}";
    let tensor = "{\"tensor-spec\": {\"dtype\": \"float32\", \"shape\": [-1, 4]}, \"type\": \"tensor\", \"name\": \"x\"}";
    for (field, named) in [(column, "it"), (tensor, "\"x")] {
        let fields: Vec<String> = (0..3_000)
            .map(|at| field.replace(named, &format!("{named}{at}")))
            .collect();
        let text = format!(
            "flavors: {{onnx: {{}}}}\nsignature:\n  inputs: '[{}]'\n",
            fields.join(",\n    ")
        );
        let fields = match parse(text.as_bytes()).unwrap().signature.unwrap().inputs {
            Schema::Columns(columns) => columns.len(),
            Schema::Tensors(tensors) => tensors.len(),
        };
        assert_eq!(fields, 3_000);
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z:{}\\[\\]&*!|>'\" \\n-]{0,120}") {
        drop(parse(text.as_bytes()));
    }
}
