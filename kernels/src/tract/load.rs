//! From an ONNX file to a typed graph with symbols for its free axes.
//!
//! `value_info` is ignored: quantised files carry stale ones. An input axis 0 without a name is the
//! batch `N`, any other axis without a name a symbol of its own.

use std::path::Path;

use tract_onnx::Onnx;
use tract_onnx::model::ParseResult;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceModel, InferenceModelExt, SpecialOps, Symbol, TractResult,
    TypedModel,
};
use tract_onnx::tract_hir::infer::{Factoid, InferenceFact};
use tract_onnx::tract_hir::internal::{TDim, ToDim, TractError, ensure};
use tract_onnx::tract_hir::tract_core::ops::cast::cast;

use super::convert::data_type;
use super::domains::{Domains, unsupported_operators};
use super::maps::Names;
use super::operator::Evaluation;
#[cfg(feature = "wgpu")]
use super::quantised::spelled;
use super::quantised::{nibbles, steps};
use super::{
    bounded, branch, contributed, doubles, fuse, image, ml, quantised, real, recurrent, standard,
};
use crate::engine::{LoadModelError, ModelFile, ModelForm};
use crate::tensor::TensorSpec;
use crate::tolerance::Rounding;

/// A typed graph, neither decluttered nor optimised.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) model: TypedModel,
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    /// The axes of each input.
    pub(super) axes: Vec<Vec<Axis>>,
    /// The free symbols of the inputs.
    pub(crate) symbols: Vec<Symbol>,
    /// The symbol of axis 0 of every input and output, where they share one.
    pub(super) batch: Option<usize>,
    /// What each output went through of rounding to 8 bits.
    pub(super) roundings: Vec<Rounding>,
    /// What the numbers of its inputs and outputs are called.
    pub(super) names: Names,
    /// The size of the model file.
    pub(crate) file_bytes: u64,
}

impl Graph {
    /// A graph of which everything is known to the number, for a caller who knows the rest.
    pub(super) fn concrete(model: TypedModel) -> Self {
        Self {
            model,
            inputs: Vec::new(),
            outputs: Vec::new(),
            axes: Vec::new(),
            symbols: Vec::new(),
            batch: None,
            file_bytes: 0,
            roundings: Vec::new(),
            names: Names::default(),
        }
    }
}

/// What an input axis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// Of fixed extent.
    Fixed,
    /// Symbol of this position.
    Symbol(usize),
    /// An expression of symbols.
    Derived,
}

/// A model file whose operators are all known.
pub(super) struct ReadModel {
    pub(super) onnx: Onnx,
    pub(super) proto: ModelProto,
    /// Where external data lies.
    pub(super) folder: Option<String>,
    pub(super) file_bytes: u64,
    /// What rounding to 8 bits lies before each output.
    pub(super) roundings: Vec<Rounding>,
    /// What its numbers are called.
    pub(super) names: Names,
}

impl ReadModel {
    /// The main graph.
    pub(super) fn graph(&self) -> Result<&GraphProto, LoadModelError> {
        let graph = self.proto.graph.as_ref();
        graph.ok_or_else(|| LoadModelError::Parse {
            form: ModelForm::Onnx,
            reason: "no graph".to_owned(),
        })
    }

    /// Parses the graph.
    pub(super) fn parse(&self) -> Result<ParseResult, LoadModelError> {
        let mut parsed = self
            .onnx
            .parse(&self.proto, self.folder.as_deref())
            .map_err(|error| parse_failure(&error))?;
        bounded::bind(&mut parsed.model);
        if parsed.unresolved_inputs.is_empty() {
            Ok(parsed)
        } else {
            Err(LoadModelError::Parse {
                form: ModelForm::Onnx,
                reason: format!("nothing gives {}", parsed.unresolved_inputs.join(", ")),
            })
        }
    }
}

/// Reads a model and checks its operators.
pub(super) fn read(model: &ModelFile, evaluation: Evaluation) -> Result<ReadModel, LoadModelError> {
    let bytes = std::fs::read(&model.path).map_err(|source| LoadModelError::Read {
        path: model.path.clone(),
        source,
    })?;
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
    recurrent::register(&mut onnx.op_register, evaluation);
    doubles::register(&mut onnx.op_register);
    branch::register(&mut onnx.op_register);
    standard::register(&mut onnx.op_register);
    quantised::register(&mut onnx.op_register, evaluation);
    let mut domains = Domains {
        standard: onnx.op_register.clone(),
        ..Domains::default()
    };
    ml::register(&mut domains.ml, evaluation);
    quantised::register_contributed(&mut domains.contributed, evaluation);
    contributed::register(&mut domains.contributed);
    let proto = onnx
        .proto_model_for_read(&mut bytes.as_slice())
        .map_err(|error| parse_failure(&error))?;
    let folder = model.path.parent().and_then(Path::to_str);
    let mut read = ReadModel {
        folder: folder.map(str::to_owned),
        file_bytes: bytes.len() as u64,
        onnx,
        proto,
        roundings: Vec::new(),
        names: Names::default(),
    };
    let unsupported = unsupported_operators(&domains, read.graph()?);
    if !unsupported.is_empty() {
        return Err(LoadModelError::Unsupported {
            operators: unsupported,
        });
    }
    read.onnx.op_register.0.extend(domains.ml.0);
    read.onnx.op_register.0.extend(domains.contributed.0);
    read.roundings = steps::roundings(read.graph()?);
    if let Some(graph) = &mut read.proto.graph {
        nibbles::widen(graph);
    }
    if let Some(graph) = &mut read.proto.graph {
        read.names = Names::take(graph, &bytes)?;
    }
    #[cfg(feature = "wgpu")]
    if evaluation == Evaluation::Device {
        let opset = opset_of(&read.proto);
        if let Some(graph) = &mut read.proto.graph {
            spelled::spell_out(graph, opset);
        }
    }
    if evaluation == Evaluation::Kernel {
        image::register(&mut read.onnx.op_register);
        quantised::register_fused(&mut read.onnx.op_register);
        real::register_fused(&mut read.onnx.op_register);
        if let Some(graph) = &mut read.proto.graph {
            fuse::fuse(graph);
        }
    }
    Ok(read)
}

/// The version of the standard operators.
#[cfg(feature = "wgpu")]
fn opset_of(model: &ModelProto) -> i64 {
    let standard = |domain: &str| matches!(domain, "" | "ai.onnx");
    let mut sets = model.opset_import.iter();
    let found = sets.find(|set| standard(&set.domain));
    found.map_or(1, |set| set.version)
}

/// Parses and types a model.
pub(super) fn graph(read: &ReadModel) -> Result<Graph, LoadModelError> {
    let mut inference = read.parse()?.model;
    name_free_axes(&mut inference).map_err(|error| parse_failure(&error))?;
    let typed = typed(inference).map_err(|error| LoadModelError::Shape {
        reason: format!("{error:#}"),
    })?;
    let mut described = describe(typed, read.graph()?, read.file_bytes)?;
    described.roundings.clone_from(&read.roundings);
    described.names.clone_from(&read.names);
    Ok(described)
}

/// Types a graph whose inputs say all that they will.
pub(super) fn typed(inference: InferenceModel) -> TractResult<TypedModel> {
    let mut typed = inference.into_typed()?;
    cast_dims(&mut typed)?;
    symbols_live(&typed)?;
    Ok(typed)
}

/// Fails when a dimension is a symbol of no graph: tract makes such of a slice whose bounds it does
/// not know, and a plan with one fails at each run.
fn symbols_live(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        let dims = node
            .outputs
            .iter()
            .flat_map(|output| output.fact.shape.iter());
        let mut symbols = dims.flat_map(TDim::symbols);
        ensure!(
            symbols.all(|symbol| symbol.scope().is_some()),
            "the shape of {} is not known",
            node.name
        );
    }
    Ok(())
}

pub(super) fn parse_failure(error: &TractError) -> LoadModelError {
    LoadModelError::Parse {
        form: ModelForm::Onnx,
        reason: format!("{error:#}"),
    }
}

/// tract's element type for a number of ONNX's, or the name of what tract does not have.
pub(super) fn element_type(number: i32) -> Result<DatumType, String> {
    let named = DataType::try_from(number).map_err(|_| format!("number {number}"))?;
    DatumType::try_from(named).map_err(|_| format!("{named:?}"))
}

/// Gives every free input axis a symbol.
fn name_free_axes(model: &mut InferenceModel) -> Result<(), TractError> {
    let outlets = model.input_outlets()?.to_vec();
    let batch = model.symbols.sym("N");
    for outlet in outlets {
        let fact: InferenceFact = model.outlet_fact(outlet)?.clone();
        let mut named = fact.clone();
        let rank = fact.shape.rank().concretize();
        for axis in 0..rank
            .and_then(|rank| usize::try_from(rank).ok())
            .unwrap_or_default()
        {
            if fact
                .shape
                .dim(axis)
                .is_some_and(|dim| dim.concretize().is_none())
            {
                let symbol = if axis == 0 {
                    batch.clone()
                } else {
                    model.symbols.new_with_prefix("axis")
                };
                named.shape.set_dim(axis, symbol.to_dim());
            }
        }
        model.set_outlet_fact(outlet, named)?;
    }
    Ok(())
}

/// Outputs that are dimensions (class labels from an argmax, shapes) leave as i64.
fn cast_dims(model: &mut TypedModel) -> Result<(), TractError> {
    let mut outputs = model.output_outlets()?.to_vec();
    for outlet in &mut outputs {
        if model.outlet_fact(*outlet)?.datum_type == DatumType::TDim {
            let name = format!("{}.as_i64", model.node(outlet.node).name);
            let wires = model.wire_node(name, cast(DatumType::I64), &[*outlet])?;
            *outlet = wires.first().copied().unwrap_or(*outlet);
        }
    }
    model.select_output_outlets(&outputs)
}

/// Reads off what callers have to know of the graph.
fn describe(
    model: TypedModel,
    proto: &GraphProto,
    file_bytes: u64,
) -> Result<Graph, LoadModelError> {
    let fail = |error: TractError| LoadModelError::Shape {
        reason: format!("{error:#}"),
    };
    let given: Vec<&str> = proto
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    let input_names = proto
        .input
        .iter()
        .map(|input| input.name.as_str())
        .filter(|name| !given.contains(name));
    let output_names = proto.output.iter().map(|output| output.name.as_str());
    let mut symbols = Vec::new();
    let (mut inputs, mut axes, mut leading) = (Vec::new(), Vec::new(), Vec::new());
    for (name, outlet) in input_names.zip(model.input_outlets().map_err(fail)?) {
        let fact = model.outlet_fact(*outlet).map_err(fail)?;
        let shape: Vec<TDim> = fact.shape.iter().cloned().collect();
        inputs.push(spec("input", name, fact.datum_type, &shape)?);
        axes.push(
            shape
                .iter()
                .map(|dim| axis(dim, &mut symbols))
                .collect::<Vec<Axis>>(),
        );
        leading.push(shape.first().cloned());
    }
    let mut outputs = Vec::new();
    for (name, outlet) in output_names.zip(model.output_outlets().map_err(fail)?) {
        let fact = model.outlet_fact(*outlet).map_err(fail)?;
        let shape: Vec<TDim> = fact.shape.iter().cloned().collect();
        outputs.push(spec("output", name, fact.datum_type, &shape)?);
        leading.push(shape.first().cloned());
    }
    let batch = batch_symbol(&leading, &symbols);
    Ok(Graph {
        model,
        inputs,
        outputs,
        axes,
        symbols,
        batch,
        roundings: Vec::new(),
        names: Names::default(),
        file_bytes,
    })
}

fn spec(
    place: &'static str,
    name: &str,
    datum_type: DatumType,
    shape: &[TDim],
) -> Result<TensorSpec, LoadModelError> {
    let data_type = data_type(datum_type).ok_or_else(|| LoadModelError::ElementType {
        place,
        name: name.to_owned(),
        data_type: format!("{datum_type:?}"),
    })?;
    let shape = shape.iter().map(|dim| usize::try_from(dim).ok()).collect();
    Ok(TensorSpec {
        name: name.to_owned(),
        data_type,
        shape,
    })
}

fn axis(dim: &TDim, symbols: &mut Vec<Symbol>) -> Axis {
    match dim {
        TDim::Val(_) => Axis::Fixed,
        TDim::Sym(symbol) => Axis::Symbol(
            symbols
                .iter()
                .position(|known| known == symbol)
                .unwrap_or_else(|| {
                    symbols.push(symbol.clone());
                    symbols.len() - 1
                }),
        ),
        _ => Axis::Derived,
    }
}

/// The one symbol that is axis 0 everywhere.
fn batch_symbol(leading: &[Option<TDim>], symbols: &[Symbol]) -> Option<usize> {
    let first = leading.first()?.as_ref()?;
    let TDim::Sym(symbol) = first else {
        return None;
    };
    let shared = leading.iter().all(|dim| dim.as_ref() == Some(first));
    symbols
        .iter()
        .position(|known| known == symbol)
        .filter(|_| shared)
}
