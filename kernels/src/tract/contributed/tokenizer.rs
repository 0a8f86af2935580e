//! `com.microsoft.Tokenizer`: texts into pieces along a new last axis, as `CountVectorizer` and
//! `TfidfVectorizer` are exported.
//!
//! ```text
//! tokenexp            each match is a piece
//! separators          what is between matches of the separators, one after the other
//! separators [""]     each character is a piece
//! ```
//!
//! Texts with fewer pieces than the longest are filled up with `pad_value`. With `mark`, each text is
//! between U+0002 and U+0003.

use regex::Regex;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::tract_ndarray::ArrayD;
use tract_onnx::prelude::{IntoTensor, Symbol};
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::{Build, Operator, Port};
use crate::tract::operator::{only, only_tensor};

#[cfg(test)]
mod tests;

/// What a marked text begins and ends with.
const MARKS: [&str; 2] = ["\u{2}", "\u{3}"];

/// Splits texts.
#[derive(Debug)]
pub(super) struct Tokenizer {
    way: Way,
    mark: bool,
    padding: String,
    /// Pieces of fewer characters are left out.
    shortest: usize,
    /// How many pieces the longest text has.
    pieces: Symbol,
}

/// How a text is split.
#[derive(Debug)]
enum Way {
    Matches(Regex),
    Between(Vec<Regex>),
    Characters,
}

impl Build for Tokenizer {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let expression = node.get_attr_opt::<&str>("tokenexp")?;
        let separators = node.get_attr_opt_vec::<String>("separators")?;
        let separators = separators.filter(|separators| !separators.is_empty());
        let shortest: i64 = node.get_attr("mincharnum")?;
        ensure!(shortest > 0, "mincharnum is {shortest}, not at least 1");
        Ok(Self {
            way: Way::new(
                expression.filter(|one| !one.is_empty()),
                separators.as_deref(),
            )?,
            mark: node.get_attr::<i64>("mark")? != 0,
            padding: node.get_attr("pad_value")?,
            shortest: usize::try_from(shortest)?,
            pieces: context.template.symbols.new_with_prefix("pieces"),
        })
    }
}

impl Way {
    fn new(expression: Option<&str>, separators: Option<&[String]>) -> TractResult<Self> {
        match (expression, separators) {
            (Some(expression), None) => Ok(Self::Matches(compiled(expression)?)),
            (None, Some([one])) if one.is_empty() => Ok(Self::Characters),
            (None, Some(separators)) => {
                let compiled = separators.iter().map(|separator| compiled(separator));
                Ok(Self::Between(compiled.collect::<TractResult<_>>()?))
            }
            _ => bail!("Tokenizer needs either tokenexp or separators"),
        }
    }

    fn pieces<'a>(&self, text: &'a str) -> Vec<&'a str> {
        match self {
            Self::Matches(expression) => expression.find_iter(text).map(|m| m.as_str()).collect(),
            Self::Between(separators) => separators.iter().fold(vec![text], |pieces, separator| {
                let split = pieces.into_iter().flat_map(|piece| separator.split(piece));
                split.collect()
            }),
            Self::Characters => {
                let characters = text.char_indices();
                let piece =
                    |(at, character): (usize, char)| text.get(at..at + character.len_utf8());
                characters.filter_map(piece).collect()
            }
        }
    }
}

impl Tokenizer {
    /// The pieces of one text that are long enough.
    fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = self.way.pieces(text);
        pieces.retain(|piece| piece.chars().count() >= self.shortest);
        pieces
    }

    /// One text's row of the output, `width` long without its marks.
    fn row(&self, pieces: &[&str], width: usize, to: &mut Vec<String>) {
        let padding =
            std::iter::repeat_n(self.padding.as_str(), width.saturating_sub(pieces.len()));
        let [first, last] = MARKS.map(|mark| self.mark.then_some(mark));
        let marked = first.into_iter().chain(pieces.iter().copied()).chain(last);
        to.extend(marked.chain(padding).map(str::to_owned));
    }
}

impl Operator for Tokenizer {
    const NAME: &'static str = "Tokenizer";

    fn finds_shapes(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        ensure!(
            *datum_type == DatumType::String && (1..=2).contains(&shape.len()),
            "Tokenizer takes strings of one or two axes, got {datum_type:?} {shape:?}"
        );
        let mut shape = shape.clone();
        shape.push(self.pieces.to_dim());
        Ok(tvec![(DatumType::String, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let texts = input.try_as_plain_ram()?;
        let texts = texts.as_slice::<String>()?.iter();
        let split: Vec<Vec<&str>> = texts.map(|text| self.split(text)).collect();
        let width = split.iter().map(Vec::len).max().unwrap_or(0);
        let whole = width + if self.mark { MARKS.len() } else { 0 };
        let mut pieces = Vec::with_capacity(split.len() * whole);
        for of_text in &split {
            self.row(of_text, width, &mut pieces);
        }
        let mut shape: TVec<usize> = input.shape().into();
        shape.push(whole);
        Ok(tvec![
            ArrayD::from_shape_vec(&*shape, pieces)?.into_tensor()
        ])
    }
}

/// The expression, as onnxruntime reads it: its classes are ASCII, and the longest match counts.
///
/// # Errors
/// Where the longest match need not be the first, which is the one that is found here.
fn compiled(expression: &str) -> TractResult<Regex> {
    let (ascii, chooses) = in_ascii(expression);
    ensure!(
        !chooses,
        "expression {expression:?} has alternatives or is reluctant: which match is the longest is not looked for"
    );
    Regex::new(&ascii).with_context(|| format!("expression {expression:?}"))
}

/// `expression` with its classes `\w`, `\d`, `\s` and its boundary `\b` of ASCII alone, and whether it
/// chooses between matches of several lengths.
fn in_ascii(expression: &str) -> (String, bool) {
    let (mut written, mut chooses, mut in_class) = (String::new(), false, false);
    let mut characters = expression.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next();
                match escaped.and_then(|escaped| ascii_class(escaped, in_class)) {
                    Some(class) => written.push_str(class),
                    None => written.extend([character].into_iter().chain(escaped)),
                }
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '|' if !in_class => chooses = true,
            '*' | '+' | '?' | '}' if !in_class => chooses |= characters.peek() == Some(&'?'),
            _ => {}
        }
        written.push(character);
    }
    (written, chooses)
}

fn ascii_class(escaped: char, in_class: bool) -> Option<&'static str> {
    Some(match escaped {
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        'b' if !in_class => r"(?-u:\b)",
        _ => return None,
    })
}
