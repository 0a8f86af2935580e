//! The parts of a saved `XGBoost` model that matter, as JSON and UBJSON both have them. Every other
//! part is passed over.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) learner: Learner,
}

#[derive(Debug, Deserialize)]
pub(super) struct Learner {
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) feature_names: Vec<String>,
    pub(super) gradient_booster: GradientBooster,
    pub(super) learner_model_param: ModelParam,
    pub(super) objective: Named,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// Numbers in texts.
#[derive(Debug, Deserialize)]
pub(super) struct ModelParam {
    pub(super) base_score: String,
    #[serde(default)]
    pub(super) num_class: String,
    pub(super) num_feature: String,
    #[serde(default)]
    pub(super) num_target: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct GradientBooster {
    pub(super) name: String,
    pub(super) model: Option<BoosterModel>,
    /// What `dart` is made of.
    pub(super) gbtree: Option<Inner>,
    #[serde(default)]
    pub(super) weight_drop: Vec<f32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Inner {
    pub(super) model: Option<BoosterModel>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BoosterModel {
    #[serde(default)]
    pub(super) trees: Vec<TreeEntry>,
    /// The target of each tree.
    #[serde(default)]
    pub(super) tree_info: Vec<i64>,
    /// The first tree of each round, and the end.
    #[serde(default)]
    pub(super) iteration_indptr: Vec<usize>,
    #[serde(default)]
    pub(super) gbtree_model_param: TreesParam,
    pub(super) cats: Option<CategoryTables>,
    /// Of a linear booster.
    #[serde(default)]
    pub(super) weights: Vec<f32>,
}

#[derive(Debug, Deserialize, Default)]
pub(super) struct TreesParam {
    #[serde(default)]
    pub(super) num_parallel_tree: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CategoryTables {
    #[serde(default)]
    pub(super) enc: Vec<CategoryColumn>,
}

/// The categories of one feature: numbers, or the bytes of texts with their offsets.
#[derive(Debug, Deserialize)]
pub(super) struct CategoryColumn {
    pub(super) offsets: Option<Vec<usize>>,
    #[serde(default)]
    pub(super) values: Vec<f64>,
}

/// One tree: a list per property, by node.
#[derive(Debug, Deserialize)]
pub(super) struct TreeEntry {
    pub(super) left_children: Vec<i64>,
    pub(super) right_children: Vec<i64>,
    pub(super) split_indices: Vec<i64>,
    /// Thresholds, and the weights of leaves.
    pub(super) split_conditions: Vec<f32>,
    pub(super) default_left: Vec<Flag>,
    #[serde(default)]
    pub(super) split_type: Vec<u8>,
    /// The sets of all categorical nodes, one behind the other.
    #[serde(default)]
    pub(super) categories: Vec<i64>,
    #[serde(default)]
    pub(super) categories_nodes: Vec<i64>,
    #[serde(default)]
    pub(super) categories_segments: Vec<usize>,
    #[serde(default)]
    pub(super) categories_sizes: Vec<usize>,
    /// Where leaves have several weights: those of all nodes, in files of versions before 3.2.
    #[serde(default)]
    pub(super) base_weights: Vec<f32>,
    /// The same of the leaves alone; the right child of a leaf says which are its own.
    #[serde(default)]
    pub(super) leaf_weights: Vec<f32>,
    #[serde(default)]
    pub(super) tree_param: TreeParam,
}

#[derive(Debug, Deserialize, Default)]
pub(super) struct TreeParam {
    #[serde(default)]
    pub(super) size_leaf_vector: String,
}

/// 0 or 1, or, in files of early versions, false or true.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Flag {
    Number(u8),
    Truth(bool),
}

impl Flag {
    pub(super) fn is_set(self) -> bool {
        matches!(self, Self::Number(1..) | Self::Truth(true))
    }
}
