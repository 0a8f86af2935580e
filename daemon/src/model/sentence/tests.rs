//! What the files of a sentence-transformers directory say.

use std::collections::BTreeMap;

use edgeward_kernels::chain::Pooling;

use super::{ReadSentenceError, Sentence, read};

/// The files of `all-MiniLM-L6-v2`, as it was published.
fn files() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        (
            "modules.json",
            r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#,
        ),
        (
            "1_Pooling/config.json",
            r#"{"word_embedding_dimension": 384, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true,
                "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false}"#,
        ),
        (
            "sentence_bert_config.json",
            r#"{"max_seq_length": 256, "do_lower_case": false}"#,
        ),
        ("tokenizer.json", "{}"),
        ("onnx/model.onnx", ""),
    ])
}

fn parse(files: &BTreeMap<&str, &str>) -> Result<Sentence, ReadSentenceError> {
    read(
        |path| Ok(files.get(path).map(|text| text.as_bytes().to_vec())),
        |path| Ok(files.contains_key(path)),
    )
}

#[test]
fn a_published_model_is_read_whole() {
    let wanted = Sentence {
        graph: "onnx/model.onnx".to_owned(),
        tokenizer: "tokenizer.json".to_owned(),
        described_by: [
            "modules.json",
            "1_Pooling/config.json",
            "sentence_bert_config.json",
        ]
        .map(str::to_owned)
        .to_vec(),
        longest: 256,
        lower_case: false,
        pooling: Pooling::Mean,
        normalise: true,
    };
    assert_eq!(parse(&files()).unwrap(), wanted);
}

#[test]
fn what_is_not_said_has_a_default_and_names_of_poolings_are_read_too() {
    let mut files = files();
    files.remove("sentence_bert_config.json");
    files.insert(
        "1_Pooling/config.json",
        r#"{"pooling_mode": "lasttoken", "include_prompt": true}"#,
    );
    let read = parse(&files).unwrap();
    assert_eq!((read.longest, read.pooling), (512, Pooling::LastToken));
    files.insert(
        "modules.json",
        r#"[{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]"#,
    );
    files.insert("0_Transformer/tokenizer.json", "{}");
    files.insert("0_Transformer/model.onnx", "");
    let read = parse(&files).unwrap();
    assert_eq!(read.graph, "0_Transformer/model.onnx");
    assert!(!read.normalise);
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    let mut dense = files();
    dense.insert(
        "modules.json",
        r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Dense", "type": "sentence_transformers.models.Dense"}]"#,
    );
    let refused = parse(&dense).unwrap_err();
    assert!(matches!(refused, ReadSentenceError::Step { kind } if kind == "Dense"));
    let mut pooling = files();
    pooling.insert(
        "1_Pooling/config.json",
        r#"{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}"#,
    );
    let refused = parse(&pooling).unwrap_err();
    assert!(
        matches!(refused, ReadSentenceError::Pooling { .. }),
        "{refused}"
    );
    for missing in [
        "onnx/model.onnx",
        "tokenizer.json",
        "modules.json",
        "1_Pooling/config.json",
    ] {
        let mut files = files();
        files.remove(missing);
        let refused = parse(&files).unwrap_err();
        assert!(
            matches!(&refused, ReadSentenceError::Missing { path, .. } if path == missing),
            "{refused}"
        );
    }
    let mut broken = files();
    broken.insert("modules.json", "[");
    assert!(matches!(
        parse(&broken).unwrap_err(),
        ReadSentenceError::Json { .. }
    ));
}
