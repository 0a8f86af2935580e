//! Operators on text: `StringConcat`, `StringSplit`, `StringNormalizer`, `RegexFullMatch`.

use std::collections::HashSet;

use regex::Regex;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::tract_ndarray::{ArrayViewD, Zip};
use tract_onnx::prelude::{IntoTensor, Symbol};
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure, tvec,
};
use tract_onnx::tract_hir::tract_core::broadcast::multi_broadcast;

use super::{Build, Operator, Port};
use crate::tract::operator::{only, only_tensor};

/// Each text of one tensor, followed by that of the other; shapes are broadcast.
#[derive(Debug)]
pub(super) struct StringConcat;

impl Build for StringConcat {
    fn build(_context: &ParsingContext<'_>, _node: &NodeProto) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Operator for StringConcat {
    const NAME: &'static str = "StringConcat";
    const INPUTS: usize = 2;

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let shapes: TVec<_> = inputs.iter().map(|(_, shape)| shape).collect();
        for (datum_type, _) in inputs {
            text(Self::NAME, *datum_type)?;
        }
        Ok(tvec![(DatumType::String, multi_broadcast(&shapes)?)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [first, second] = inputs else {
            bail!("StringConcat takes two inputs");
        };
        let shape = multi_broadcast(&[first.shape(), second.shape()])?;
        let (first, second) = (first.try_as_plain_ram()?, second.try_as_plain_ram()?);
        let broadcast = |view: ArrayViewD<'_, String>| {
            let broadcast = view.broadcast(&*shape).map(|view| view.to_owned());
            broadcast.context("shapes do not broadcast")
        };
        let first = broadcast(first.to_array_view::<String>()?)?;
        let second = broadcast(second.to_array_view::<String>()?)?;
        let joined = Zip::from(&first)
            .and(&second)
            .map_collect(|first, second| format!("{first}{second}"));
        Ok(tvec![joined.into_tensor()])
    }
}

/// The pieces of each text along a new last axis, and how many there are; what is missing of the
/// longest is empty.
#[derive(Debug)]
pub(super) struct StringSplit {
    /// Without one, texts are split at white space.
    delimiter: Option<String>,
    /// How many times a text is split at most.
    most: Option<usize>,
    /// How many pieces the longest has.
    pieces: Symbol,
}

impl Build for StringSplit {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let delimiter = node.get_attr_opt::<String>("delimiter")?;
        let most = node.get_attr_opt::<i64>("maxsplit")?;
        Ok(Self {
            delimiter: delimiter.filter(|delimiter| !delimiter.is_empty()),
            most: most.map(usize::try_from).transpose()?,
            pieces: context.template.symbols.new_with_prefix("pieces"),
        })
    }
}

impl StringSplit {
    fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let parts = self.most.map_or(usize::MAX, |most| most.saturating_add(1));
        let Some(delimiter) = &self.delimiter else {
            return at_white_space(text, parts);
        };
        // As in onnxruntime: the specification does not say how many pieces nothing has.
        if text.is_empty() {
            return Vec::new();
        }
        text.splitn(parts, delimiter.as_str()).collect()
    }
}

/// Splits at runs of white space; what is not split any more keeps its end.
fn at_white_space(text: &str, parts: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = if pieces.len() + 1 < parts {
            rest.find(char::is_whitespace)
        } else {
            None
        };
        let (piece, behind) = rest.split_at(end.unwrap_or(rest.len()));
        pieces.push(piece);
        rest = behind.trim_start();
    }
    pieces
}

impl Operator for StringSplit {
    const NAME: &'static str = "StringSplit";
    const OUTPUTS: usize = 2;

    fn finds_shapes(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        text(Self::NAME, *datum_type)?;
        let mut pieces = shape.clone();
        // Where there is no text, there is nothing to find out.
        let none = shape.iter().any(|dim| *dim == 0.to_dim());
        pieces.push(if none {
            0.to_dim()
        } else {
            self.pieces.to_dim()
        });
        Ok(tvec![
            (DatumType::String, pieces),
            (DatumType::I64, shape.clone())
        ])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let texts = input.try_as_plain_ram()?;
        let split = texts.as_slice::<String>()?.iter();
        let split: Vec<Vec<&str>> = split.map(|text| self.split(text)).collect();
        let width = split.iter().map(Vec::len).max().unwrap_or(0);
        let mut shape: TVec<usize> = input.shape().into();
        shape.push(width);
        let mut pieces = Vec::with_capacity(split.len() * width);
        let mut counts = Vec::with_capacity(split.len());
        for of_text in &split {
            counts.push(i64::try_from(of_text.len())?);
            let padded = of_text.iter().copied().chain(std::iter::repeat(""));
            pieces.extend(padded.take(width).map(str::to_owned));
        }
        Ok(tvec![
            strings(&shape, pieces)?,
            Tensor::from_shape(input.shape(), &counts)?
        ])
    }
}

/// Languages in which letters have other cases than Unicode says for all.
const OWN_CASE: [&str; 3] = ["az", "lt", "tr"];

/// Takes stop words out of a list of words, and changes the case of the others.
#[derive(Debug)]
pub(super) struct StringNormalizer {
    case: Case,
    case_sensitive: bool,
    stop_words: HashSet<String>,
    /// How many words are left.
    left: Symbol,
}

#[derive(Debug, Clone, Copy)]
enum Case {
    Keep,
    Lower,
    Upper,
}

impl Case {
    fn of(self, word: &str) -> String {
        match self {
            Self::Keep => word.to_owned(),
            Self::Lower => word.to_lowercase(),
            Self::Upper => word.to_uppercase(),
        }
    }
}

impl Build for StringNormalizer {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let case = match node.get_attr_opt::<&str>("case_change_action")? {
            None | Some("NONE") => Case::Keep,
            Some("LOWER") => Case::Lower,
            Some("UPPER") => Case::Upper,
            Some(other) => bail!("case_change_action is {other:?}, not NONE, LOWER or UPPER"),
        };
        let locale = node.get_attr_opt::<&str>("locale")?.unwrap_or_default();
        let language = locale.split(['_', '.', '@']).next().unwrap_or_default();
        ensure!(
            !OWN_CASE.contains(&language),
            "StringNormalizer does not know the cases of letters of {locale:?}"
        );
        let case_sensitive = node.get_attr_opt::<i64>("is_case_sensitive")?.unwrap_or(0) != 0;
        let stop_words = node.get_attr_opt_vec::<String>("stopwords")?;
        let stop_words = stop_words.unwrap_or_default().into_iter();
        let compared = |word: String| compared(&word, case_sensitive);
        Ok(Self {
            case,
            case_sensitive,
            stop_words: stop_words.map(compared).collect(),
            left: context.template.symbols.new_with_prefix("words"),
        })
    }
}

/// A word as it is compared with stop words.
fn compared(word: &str, case_sensitive: bool) -> String {
    let case = if case_sensitive {
        Case::Keep
    } else {
        Case::Lower
    };
    case.of(word)
}

impl Operator for StringNormalizer {
    const NAME: &'static str = "StringNormalizer";

    fn finds_shapes(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        text(Self::NAME, *datum_type)?;
        let mut shape = shape.clone();
        let words = shape.last_mut().context("StringNormalizer takes a list")?;
        if !self.stop_words.is_empty() {
            *words = self.left.to_dim();
        }
        Ok(tvec![(DatumType::String, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let mut shape: TVec<usize> = input.shape().into();
        match &*shape {
            [_] | [1, _] => {}
            _ => bail!("StringNormalizer takes one list of words, got shape {shape:?}"),
        }
        let view = input.try_as_plain_ram()?;
        let words = view.as_slice::<String>()?.iter();
        let stops = |word: &&String| {
            let compared = compared(word, self.case_sensitive);
            self.stop_words.contains(&compared)
        };
        let mut left: Vec<String> = words
            .filter(|word| !stops(word))
            .map(|word| self.case.of(word))
            .collect();
        // The specification leaves one empty word where nothing else is left.
        if left.is_empty() {
            left.push(String::new());
        }
        if let Some(words) = shape.last_mut() {
            *words = left.len();
        }
        Ok(tvec![strings(&shape, left)?])
    }
}

/// Whether each text is matched by a regular expression as a whole.
#[derive(Debug)]
pub(super) struct RegexFullMatch(Regex);

impl Build for RegexFullMatch {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let pattern = node.get_attr::<&str>("pattern")?;
        let whole = Regex::new(&format!("^(?:{pattern})$"));
        whole
            .map(Self)
            .with_context(|| format!("pattern {pattern:?}"))
    }
}

impl Operator for RegexFullMatch {
    const NAME: &'static str = "RegexFullMatch";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        text(Self::NAME, *datum_type)?;
        Ok(tvec![(DatumType::Bool, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let view = input.try_as_plain_ram()?;
        let texts = view.as_slice::<String>()?.iter();
        let matched: Vec<bool> = texts.map(|text| self.0.is_match(text)).collect();
        Ok(tvec![Tensor::from_shape(input.shape(), &matched)?])
    }
}

fn text(name: &str, datum_type: DatumType) -> TractResult<()> {
    ensure!(
        datum_type == DatumType::String,
        "{name} takes strings, got {datum_type:?}"
    );
    Ok(())
}

fn strings(shape: &[usize], texts: Vec<String>) -> TractResult<Tensor> {
    let array = tract_onnx::prelude::tract_ndarray::ArrayD::from_shape_vec(shape, texts)?;
    Ok(array.into_tensor())
}
