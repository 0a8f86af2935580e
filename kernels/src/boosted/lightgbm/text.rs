//! The text in which `LightGBM` saves a model, cut into its sections.
//!
//! ```text
//! tree                          the head: key=value, or a key alone
//! num_class=1
//!
//! Tree=0                        a section per tree
//! num_leaves=4
//!
//! end of trees
//!
//! parameters:                   [key: value]
//! end of parameters
//!
//! pandas_categorical:[["a","b"]]
//! ```

use std::collections::HashMap;
use std::str::FromStr;

/// Keys with their values.
#[derive(Debug, Default)]
pub(super) struct Section<'t>(HashMap<&'t str, &'t str>);

impl<'t> Section<'t> {
    pub(super) fn get(&self, key: &str) -> Option<&'t str> {
        self.0.get(key).copied()
    }

    /// The one value under a key.
    pub(super) fn parse<T: FromStr>(&self, key: &str) -> Result<T, String> {
        let value = self.get(key).ok_or_else(|| format!("{key} is missing"))?;
        value
            .trim()
            .parse()
            .map_err(|_| format!("{key} is {value:?}"))
    }

    /// The `count` values under a key.
    pub(super) fn list<T: FromStr>(&self, key: &str, count: usize) -> Result<Vec<T>, String> {
        let value = self.get(key).unwrap_or_default();
        let parsed: Result<Vec<T>, _> = value.split_ascii_whitespace().map(T::from_str).collect();
        let parsed = parsed.map_err(|_| format!("{key} is no list of numbers"))?;
        if parsed.len() == count {
            Ok(parsed)
        } else {
            Err(format!("{key} has {} numbers, not {count}", parsed.len()))
        }
    }

    fn add(&mut self, line: &'t str) {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        self.0.insert(key, value);
    }
}

/// A saved model.
#[derive(Debug)]
pub(super) struct Text<'t> {
    pub(super) head: Section<'t>,
    pub(super) trees: Vec<Section<'t>>,
    /// A JSON list of lists, or null.
    pub(super) pandas_categorical: Option<&'t str>,
    /// The parameter of that name: positions, comma-separated.
    categorical_feature: Option<&'t str>,
}

impl<'t> Text<'t> {
    /// Cuts a text, or says why `LightGBM` did not write it.
    pub(super) fn split(text: &'t str) -> Result<Self, &'static str> {
        let mut lines = text.lines();
        if lines.next().map(str::trim) != Some("tree") {
            return Err("it does not begin with \"tree\"");
        }
        let mut cut = Self {
            head: Section::default(),
            trees: Vec::new(),
            pandas_categorical: None,
            categorical_feature: None,
        };
        let mut in_trees = true;
        for line in lines {
            let line = line.trim_end();
            if let Some(list) = line.strip_prefix("pandas_categorical:") {
                cut.pandas_categorical = Some(list);
            } else if let Some(list) = line.strip_prefix("[categorical_feature: ") {
                cut.categorical_feature = list.strip_suffix(']');
            } else if matches!(
                line,
                "end of trees" | "feature importances:" | "parameters:"
            ) {
                in_trees = false;
            } else if !in_trees || line.is_empty() {
            } else if line.starts_with("Tree=") {
                cut.trees.push(Section::default());
            } else {
                cut.trees.last_mut().unwrap_or(&mut cut.head).add(line);
            }
        }
        // A file that was cut short has fewer trees than it says.
        let sizes = cut.head.get("tree_sizes");
        let said = sizes.map(|sizes| sizes.split_ascii_whitespace().count());
        if said.is_none_or(|said| said == cut.trees.len()) {
            Ok(cut)
        } else {
            Err("it has another number of trees than it says")
        }
    }

    /// The features that training was told to be categorical.
    pub(super) fn categorical_features(&self) -> Vec<usize> {
        let list = self.categorical_feature.unwrap_or_default();
        list.split(',')
            .filter_map(|position| position.trim().parse().ok())
            .collect()
    }
}
