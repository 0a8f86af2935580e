//! The fixtures, as `record.py` describes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgeward_kernels::tensor::{DataType, Tensor, TensorData, TensorSpec};
use serde::Deserialize;

/// `exports.json`.
#[derive(Deserialize)]
pub(super) struct Exports {
    data: BTreeMap<String, Data>,
    pub(super) exports: Vec<Export>,
    #[serde(skip)]
    folder: PathBuf,
}

/// The rows that all exports of one kind of data are asked.
#[derive(Deserialize)]
struct Data {
    inputs: Vec<Stored>,
}

/// One model, exported.
#[derive(Deserialize)]
pub(super) struct Export {
    pub(super) name: String,
    pub(super) group: String,
    data: String,
    pub(super) not_exported: Option<String>,
    /// Exported in float64, which some models need to answer as their framework does.
    #[serde(default)]
    pub(super) wide: bool,
    #[serde(default)]
    pub(super) file: String,
    #[serde(default)]
    pub(super) outputs: Vec<Stored>,
}

/// A tensor: strings stand here, numbers at `offset` of a file.
#[derive(Deserialize)]
pub(super) struct Stored {
    pub(super) name: String,
    dtype: String,
    shape: Vec<usize>,
    offset: Option<usize>,
    data: Option<Vec<String>>,
    /// `label`, `probabilities` or `variable`, of an answer.
    #[serde(default)]
    pub(super) kind: String,
}

/// Elements as they are compared.
pub(super) enum Elements {
    /// Any number.
    Numbers(Vec<f64>),
    /// Text.
    Strings(Vec<String>),
}

impl Exports {
    pub(super) fn read(folder: &Path) -> Self {
        let text = std::fs::read(folder.join("exports.json")).unwrap();
        let mut exports: Self = serde_json::from_slice(&text).unwrap();
        folder.clone_into(&mut exports.folder);
        exports
    }

    /// The rows that `export` is asked, as its graph wants them.
    pub(super) fn inputs(&self, export: &Export, specs: &[TensorSpec]) -> Vec<Tensor> {
        let data = &self.data[&export.data];
        let file = format!("data_{}.bin", export.data);
        let input = |spec: &TensorSpec| {
            let named = data.inputs.iter().find(|input| input.name == spec.name);
            let stored = named.unwrap_or_else(|| panic!("{}: no input {}", export.name, spec.name));
            let data = match self.elements(stored, &file) {
                Elements::Strings(strings) => TensorData::String(strings),
                Elements::Numbers(numbers) => of_type(&numbers, spec.data_type),
            };
            Tensor::new(stored.shape.clone(), data).unwrap()
        };
        specs.iter().map(input).collect()
    }

    /// What the framework answered.
    pub(super) fn answers(&self, export: &Export, stored: &Stored) -> Elements {
        self.elements(stored, &format!("{}.bin", export.file))
    }

    fn elements(&self, stored: &Stored, file: &str) -> Elements {
        if let Some(strings) = &stored.data {
            return Elements::Strings(strings.clone());
        }
        let bytes = std::fs::read(self.folder.join(file)).unwrap();
        let bytes = &bytes[stored.offset.unwrap()..];
        let count = stored.shape.iter().product();
        let numbers: Vec<f64> = match stored.dtype.as_str() {
            "float32" => bytes
                .chunks_exact(4)
                .take(count)
                .map(|each| f64::from(f32::from_le_bytes(each.try_into().unwrap())))
                .collect(),
            "int8" => bytes
                .iter()
                .take(count)
                .map(|byte| f64::from(byte.cast_signed()))
                .collect(),
            other => panic!("{file}: element type {other} is not stored"),
        };
        assert_eq!(numbers.len(), count, "{file} is too short");
        Elements::Numbers(numbers)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "what is stored for an input is of its element type"
)]
fn of_type(numbers: &[f64], data_type: DataType) -> TensorData {
    match data_type {
        DataType::F32 => TensorData::F32(numbers.iter().map(|number| *number as f32).collect()),
        DataType::F64 => TensorData::F64(numbers.to_vec()),
        DataType::I64 => TensorData::I64(numbers.iter().map(|number| *number as i64).collect()),
        other => panic!("no export takes {other}"),
    }
}
