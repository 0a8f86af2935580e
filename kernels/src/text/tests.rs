//! The chain over an encoder that can be worked out by hand; real encoders are the suite's.

use std::sync::{Arc, Mutex};

use edgeward_base::units::ByteCount;
use proptest::prelude::*;

use super::groups;
use super::tokens::Tokens;
use super::{ChainTextError, TextSession};
use crate::chain::{Pooling, TextChain};
use crate::engine::{Rows, RunModelError, Session};
use crate::tensor::{DataType, Tensor, TensorData, TensorSpec};
use crate::tolerance::Rounding;

/// Words and signs, each a token; `[CLS]` before and `[SEP]` behind.
const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                           "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}},
    "decoder": null,
    "model": {"type": "WordLevel", "unk_token": "[UNK]",
              "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "red": 4, "wine": 5, "old": 6}}}"#;

/// Answers `[id, position]` for each token, and remembers the shapes that it was asked.
#[derive(Debug)]
struct ByHand {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    asked: Mutex<Vec<Vec<usize>>>,
    roundings: Vec<Rounding>,
}

impl ByHand {
    fn new(input: &str) -> Self {
        let tokens = |name: &str| TensorSpec {
            name: name.to_owned(),
            data_type: DataType::I64,
            shape: vec![None, None],
        };
        Self {
            inputs: vec![tokens("attention_mask"), tokens(input)],
            outputs: vec![TensorSpec {
                name: "last_hidden_state".to_owned(),
                data_type: DataType::F32,
                shape: vec![None, None, Some(2)],
            }],
            asked: Mutex::default(),
            roundings: Vec::new(),
        }
    }
}

impl Session for ByHand {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn roundings(&self) -> &[Rounding] {
        &self.roundings
    }

    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        let shape = inputs[1].shape().to_vec();
        let (TensorData::I64(mask), TensorData::I64(ids)) = (inputs[0].data(), inputs[1].data())
        else {
            panic!("tokens are int64");
        };
        let elements = ids.iter().zip(mask).enumerate();
        let vectors = elements.flat_map(|(at, (id, mask))| {
            // What stands behind a text must not reach its vector.
            let wild = if *mask == 1 { 0.0 } else { 1e6 };
            [*id as f32 + wild, (at % shape[1]) as f32 + wild]
        });
        let vectors = TensorData::F32(vectors.collect());
        self.asked.lock().unwrap().push(shape.clone());
        Ok(vec![
            Tensor::new(vec![shape[0], shape[1], 2], vectors).unwrap(),
        ])
    }

    fn permit_rows(&self, _: Rows) {}

    fn rows(&self) -> Rows {
        Rows::Together
    }

    fn resident(&self) -> ByteCount {
        ByteCount(1000)
    }
}

fn chain(folder: &tempfile::TempDir, pooling: Pooling, normalise: bool) -> TextChain {
    let tokenizer = folder.path().join("tokenizer.json");
    std::fs::write(&tokenizer, TOKENIZER).unwrap();
    TextChain {
        tokenizer,
        longest: 20,
        lower_case: false,
        pooling,
        normalise,
    }
}

fn texts(list: &[&str]) -> [Tensor; 1] {
    let strings = list.iter().map(|text| (*text).to_owned()).collect();
    [Tensor::new(vec![list.len()], TensorData::String(strings)).unwrap()]
}

fn embed(session: &TextSession, list: &[&str]) -> Vec<Vec<f32>> {
    let outputs = session.run(&texts(list)).unwrap();
    assert_eq!(outputs[0].shape(), [list.len(), 2]);
    let TensorData::F32(elements) = outputs[0].data() else {
        panic!("vectors are f32");
    };
    elements.chunks(2).map(<[f32]>::to_vec).collect()
}

#[test]
fn a_quantised_encoder_gives_rounded_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let (steps, range) = (Rounding::Steps(0.1), Rounding::Range);
    let cases = [
        (vec![], false, Rounding::None),
        (vec![steps], false, steps),
        (vec![steps], true, range),
        (vec![range], false, range),
    ];
    for (roundings, normalise, expected) in cases {
        let encoder = ByHand {
            roundings,
            ..ByHand::new("input_ids")
        };
        let chain = chain(&folder, Pooling::Mean, normalise);
        let session = TextSession::new(Arc::new(encoder), &chain).unwrap();
        assert_eq!(session.roundings(), [expected]);
    }
}

#[test]
fn each_pooling_takes_what_its_name_says_and_no_padding() {
    let folder = tempfile::tempdir().unwrap();
    // [CLS] red wine [SEP] = 1 4 5 2; [CLS] old [SEP] = 1 6 2.
    let wanted = [
        (Pooling::Mean, [[3.0, 1.5], [3.0, 1.0]]),
        (Pooling::Cls, [[1.0, 0.0], [1.0, 0.0]]),
        (Pooling::LastToken, [[2.0, 3.0], [2.0, 2.0]]),
        (Pooling::Max, [[5.0, 3.0], [6.0, 2.0]]),
    ];
    for (pooling, wanted) in wanted {
        let encoder = Arc::new(ByHand::new("input_ids"));
        let session = TextSession::new(encoder, &chain(&folder, pooling, false)).unwrap();
        assert_eq!(embed(&session, &["Red wine", "OLD"]), wanted, "{pooling:?}");
    }
}

#[test]
fn vectors_have_length_one_where_they_are_normalised() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Arc::new(ByHand::new("input_ids"));
    let session = TextSession::new(encoder, &chain(&folder, Pooling::LastToken, true)).unwrap();
    let length = 13.0_f32.sqrt();
    assert_eq!(
        embed(&session, &["red wine"]),
        [[2.0 / length, 3.0 / length]]
    );
}

#[test]
fn long_texts_are_cut_and_rows_run_in_few_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Arc::new(ByHand::new("input_ids"));
    let handle: Arc<dyn Session> = encoder.clone();
    let session = TextSession::new(handle, &chain(&folder, Pooling::LastToken, false)).unwrap();
    let long = "red ".repeat(100);
    let mut list = vec!["old"; 21];
    list.push(&long);
    let vectors = embed(&session, &list);
    assert_eq!(
        vectors[21],
        [2.0, 19.0],
        "cut to 20 tokens, the last of which ends it"
    );
    let asked = encoder.asked.lock().unwrap().clone();
    assert_eq!(asked, [[16, 16], [4, 16], [1, 16], [1, 20]]);
    assert_eq!(session.run(&texts(&[])).unwrap()[0].shape(), [0, 2]);
}

#[test]
fn what_is_no_list_of_texts_is_the_callers_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Arc::new(ByHand::new("input_ids"));
    let session = TextSession::new(encoder, &chain(&folder, Pooling::Mean, false)).unwrap();
    let matrix = Tensor::new(vec![1, 1], TensorData::String(vec!["red".to_owned()])).unwrap();
    let numbers = Tensor::new(vec![1], TensorData::I64(vec![1])).unwrap();
    for inputs in [vec![], vec![matrix], vec![numbers]] {
        assert!(session.run(&inputs).unwrap_err().is_input_mistake());
    }
}

#[test]
fn an_encoder_or_a_tokenizer_that_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = chain(&folder, Pooling::Mean, false);
    let odd = Arc::new(ByHand::new("pixels"));
    let refused = TextSession::new(odd, &chain).unwrap_err();
    assert!(matches!(refused, ChainTextError::Input { name } if name == "pixels"));
    let mut without = ByHand::new("input_ids");
    without.outputs[0].shape = vec![None];
    let refused = TextSession::new(Arc::new(without), &chain).unwrap_err();
    assert!(matches!(refused, ChainTextError::Output));
    chain.tokenizer = folder.path().join("none.json");
    let encoder = Arc::new(ByHand::new("input_ids"));
    let refused = TextSession::new(encoder, &chain).unwrap_err();
    assert!(matches!(refused, ChainTextError::Tokenizer { .. }));
}

proptest! {
    #[test]
    fn every_text_is_in_one_group_that_holds_it(lengths in prop::collection::vec(0_usize..40, 0..80), longest in 1_usize..40) {
        let tokens: Vec<Tokens> = lengths
            .iter()
            .map(|length| Tokens { ids: vec![7; *length], types: vec![0; *length] })
            .collect();
        let groups = groups::of(&tokens, longest);
        let mut rows: Vec<usize> = groups.iter().flat_map(|group| group.rows.clone()).collect();
        rows.sort_unstable();
        prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
        for group in groups {
            prop_assert!([16, 4, 1].contains(&group.rows.len()));
            prop_assert!(group.rows.iter().all(|row| lengths[*row] <= group.length));
            prop_assert!(group.length >= 1);
        }
    }
}
