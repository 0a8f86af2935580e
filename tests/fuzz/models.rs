//! The models that the targets ask: sessions that give back what they get, and two samples.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use edgeward::model::{Scorer, Signature, mlmodel};
use edgeward_base::digest::Digest;
use edgeward_base::units::ByteCount;
use edgeward_kernels::engine::{ModelFile, ModelForm, Rows, RunModelError, Session};
use edgeward_kernels::tensor::{DataType, Tensor, TensorSpec};
use edgeward_kernels::verify::{Verdict, Verified};

/// A session whose outputs are its inputs, or none where it is only bound.
#[derive(Debug)]
pub(crate) struct Echo {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    columns: Vec<String>,
    labels: Vec<Vec<String>>,
}

impl Echo {
    pub(crate) fn of(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Self {
        Self {
            inputs,
            outputs,
            columns: Vec::new(),
            labels: Vec::new(),
        }
    }

    fn back(inputs: Vec<TensorSpec>) -> Self {
        Self::of(inputs.clone(), inputs)
    }
}

impl Session for Echo {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn labels(&self) -> &[Vec<String>] {
        &self.labels
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        Ok(inputs.to_vec())
    }

    fn permit_rows(&self, _: Rows) {}

    fn rows(&self) -> Rows {
        Rows::Together
    }

    fn resident(&self) -> ByteCount {
        ByteCount::kib(1)
    }
}

pub(crate) fn spec(name: &str, data_type: DataType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        data_type,
        shape: shape.to_vec(),
    }
}

pub(crate) fn scorer(signature: Signature, session: Arc<dyn Session>) -> Scorer {
    try_scorer(signature, session).expect("the signatures of this file fit their models")
}

pub(crate) fn try_scorer(
    signature: Signature,
    session: Arc<dyn Session>,
) -> Result<Scorer, edgeward::model::BindModelError> {
    let model = "main.default.fuzz/1".parse().expect("a sound name");
    let verdict = Verdict {
        verified: Verified::Framework,
        rows: Rows::Together,
    };
    Scorer::bind(model, "echo", verdict, signature, session)
}

/// The model of a request's first byte.
pub(crate) fn pick(models: &'static [Scorer], number: u8) -> &'static Scorer {
    &models[usize::from(number) % models.len()]
}

/// Models of tables and of nested lists. A digit is the number of one: 48, which is `0`, divides by six.
pub(crate) fn tables() -> &'static [Scorer] {
    static MODELS: OnceLock<Vec<Scorer>> = OnceLock::new();
    MODELS.get_or_init(|| {
        vec![
            sample("fraud/3"),
            every_column(),
            named_matrix(),
            one_tensor(),
            several_tensors(),
            sample("diabetes/1"),
        ]
    })
}

/// Models that take tensors under their own names; four of them, for the same reason.
pub(crate) fn tensors() -> &'static [Scorer] {
    static MODELS: OnceLock<Vec<Scorer>> = OnceLock::new();
    MODELS.get_or_init(|| {
        vec![
            every_type(),
            one_of_each_length(),
            labelled(),
            sample("fraud/3"),
        ]
    })
}

/// A sample model as it is served: its own signature, on the engine.
fn sample(folder: &str) -> Scorer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../daemon/samples")
        .join(folder);
    let file = std::fs::read(folder.join("MLmodel")).expect("the sample's MLmodel");
    let described = mlmodel::parse(&file).expect("a sound MLmodel");
    let path = folder.join(&described.file);
    let model = ModelFile {
        digest: Digest::of_file(&path).expect("the sample's model"),
        path,
        form: ModelForm::Onnx,
        text: None,
    };
    let engines = edgeward_kernels::engines();
    let engine = engines.iter().find(|engine| engine.takes(ModelForm::Onnx));
    let session = engine.expect("an engine for ONNX").load(&model);
    let signature = described.signature.expect("the samples have signatures");
    scorer(signature, session.expect("the sample loads"))
}

/// A column of each type, fed to inputs as wide as it and narrower, with and without null.
fn every_column() -> Scorer {
    let columns = r#"[
        {"type":"boolean","name":"flag"}, {"type":"integer","name":"small"}, {"type":"long","name":"big"},
        {"type":"float","name":"half"}, {"type":"double","name":"real"}, {"type":"string","name":"text"},
        {"type":"binary","name":"bytes","required":false},
        {"type":"datetime","name":"moment","required":false},
        {"type":"datetime","name":"said","required":false},
        {"type":"boolean","name":"maybe","required":false},
        {"type":"integer","name":"narrow","required":false},
        {"type":"long","name":"unsigned","required":false},
        {"type":"string","name":"note","required":false}]"#;
    let one = [None, Some(1)];
    let inputs = vec![
        spec("flag", DataType::Bool, &one),
        spec("small", DataType::I32, &one),
        spec("big", DataType::I64, &one),
        spec("half", DataType::F32, &[None]),
        spec("real", DataType::F64, &one),
        spec("text", DataType::String, &[None]),
        spec("bytes", DataType::String, &one),
        spec("moment", DataType::I64, &one),
        spec("said", DataType::String, &one),
        spec("maybe", DataType::F32, &one),
        spec("narrow", DataType::I8, &one),
        spec("unsigned", DataType::U64, &one),
        spec("note", DataType::String, &one),
    ];
    let signature = Signature::parse(columns, Some(columns), None).expect("a sound signature");
    scorer(signature, Arc::new(Echo::back(inputs)))
}

/// A matrix of float64 whose columns have names, in another order than the signature's.
fn named_matrix() -> Scorer {
    let columns = r#"[{"type":"long","name":"b"}, {"type":"double","name":"a","required":false},
        {"type":"float","name":"c"}, {"type":"boolean","name":"d","required":false}]"#;
    let mut session = Echo::back(vec![spec("X", DataType::F64, &[None, None])]);
    session.columns = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    let signature = Signature::parse(columns, None, None).expect("a sound signature");
    scorer(signature, Arc::new(session))
}

/// One tensor without a name, of any width.
fn one_tensor() -> Scorer {
    let tensor = r#"[{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1,-1]}}]"#;
    let session = Echo::back(vec![spec("X", DataType::F64, &[None, None])]);
    let signature = Signature::parse(tensor, None, None).expect("a sound signature");
    scorer(signature, Arc::new(session))
}

/// Tensors by name: numbers, texts and truth values, of one to three axes.
fn several_tensors() -> Scorer {
    let tensors = r#"[
        {"type":"tensor","name":"image","tensor-spec":{"dtype":"float32","shape":[-1,2,2]}},
        {"type":"tensor","name":"count","tensor-spec":{"dtype":"int64","shape":[-1]}},
        {"type":"tensor","name":"words","tensor-spec":{"dtype":"str","shape":[-1,-1]}},
        {"type":"tensor","name":"mask","tensor-spec":{"dtype":"bool","shape":[-1,1]}}]"#;
    let inputs = vec![
        spec("image", DataType::F32, &[None, Some(2), Some(2)]),
        spec("count", DataType::I64, &[None]),
        spec("words", DataType::String, &[None, None]),
        spec("mask", DataType::Bool, &[None, Some(1)]),
    ];
    let signature = Signature::parse(tensors, None, None).expect("a sound signature");
    scorer(signature, Arc::new(Echo::back(inputs)))
}

const TYPES: [(&str, DataType); 12] = [
    ("bool", DataType::Bool),
    ("u8", DataType::U8),
    ("u16", DataType::U16),
    ("u32", DataType::U32),
    ("u64", DataType::U64),
    ("i8", DataType::I8),
    ("i16", DataType::I16),
    ("i32", DataType::I32),
    ("i64", DataType::I64),
    ("f32", DataType::F32),
    ("f64", DataType::F64),
    ("text", DataType::String),
];

/// Twelve tensors, one of each type.
fn every_type() -> Scorer {
    let specs = TYPES.map(|(name, data_type)| spec(name, data_type, &[None, None]));
    bare(Echo::back(specs.to_vec()))
}

/// Shapes that are free, fixed, without axes, and of texts.
fn one_of_each_length() -> Scorer {
    bare(Echo::back(vec![
        spec("free", DataType::F32, &[None, None, None]),
        spec("fixed", DataType::I16, &[Some(2), None, Some(3)]),
        spec("scalar", DataType::F64, &[]),
        spec("text", DataType::String, &[None]),
    ]))
}

/// One matrix, whose columns have labels on the way out.
fn labelled() -> Scorer {
    let mut session = Echo::back(vec![spec("scores", DataType::F32, &[None, Some(3)])]);
    session.labels = vec![["low", "middle", "high"].map(str::to_owned).to_vec()];
    bare(session)
}

fn bare(session: Echo) -> Scorer {
    scorer(Signature::of_session(&session), Arc::new(session))
}
