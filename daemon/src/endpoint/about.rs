//! What people say of an endpoint, and nothing acts on: a description and tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most tags that an endpoint has.
const MOST_TAGS: usize = 50;
/// The longest key of a tag, in characters.
const LONGEST_KEY: usize = 128;
/// The longest value of a tag, in characters.
const LONGEST_VALUE: usize = 256;
/// The longest description, in characters.
const LONGEST_DESCRIPTION: usize = 4096;

/// A description and tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// For people.
    pub description: Option<String>,
    /// Labels by their keys; a label may have no value.
    pub tags: BTreeMap<String, Option<String>>,
}

/// What cannot be said of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AboutError {
    /// A key is empty or too long.
    #[error("a tag's key must have 1 to {LONGEST_KEY} characters")]
    Key,
    /// A value is too long.
    #[error("the value of tag {key:?} has more than {LONGEST_VALUE} characters")]
    Value {
        /// The tag.
        key: String,
    },
    /// There are too many.
    #[error("an endpoint has at most {MOST_TAGS} tags")]
    Count,
    /// The description is too long.
    #[error("a description has at most {LONGEST_DESCRIPTION} characters")]
    Description,
}

impl About {
    /// Adds tags, in the place of those with the same keys, and takes others away.
    ///
    /// # Errors
    /// [`AboutError`]; nothing has changed then.
    pub fn retagged(
        &self,
        add: &BTreeMap<String, Option<String>>,
        delete: &[String],
    ) -> Result<Self, AboutError> {
        let mut changed = self.clone();
        changed.tags.retain(|key, _| !delete.contains(key));
        changed.tags.extend(add.clone());
        changed.checked()
    }

    /// The same, if it can be said.
    ///
    /// # Errors
    /// [`AboutError`].
    pub fn checked(self) -> Result<Self, AboutError> {
        let length = |text: &str| text.chars().count();
        if self.tags.len() > MOST_TAGS {
            return Err(AboutError::Count);
        }
        for (key, value) in &self.tags {
            if key.is_empty() || length(key) > LONGEST_KEY {
                return Err(AboutError::Key);
            }
            if value
                .as_deref()
                .is_some_and(|value| length(value) > LONGEST_VALUE)
            {
                return Err(AboutError::Value { key: key.clone() });
            }
        }
        let description = self.description.as_deref();
        if description.is_some_and(|text| length(text) > LONGEST_DESCRIPTION) {
            return Err(AboutError::Description);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
        tags.iter()
            .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn tags_are_added_replaced_and_taken_away() {
        let about = About {
            tags: tags(&[("a", Some("1")), ("b", None), ("c", Some("3"))]),
            ..About::default()
        };
        let add = tags(&[("a", Some("2")), ("d", None)]);
        let delete = ["b".to_owned(), "stranger".to_owned()];
        let changed = about.retagged(&add, &delete).unwrap();
        let expected = tags(&[("a", Some("2")), ("c", Some("3")), ("d", None)]);
        assert_eq!(changed.tags, expected);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let long = "x".repeat(300);
        let many: Vec<String> = (0..51).map(|at| at.to_string()).collect();
        let many: Vec<(&str, Option<&str>)> = many.iter().map(|key| (&**key, None)).collect();
        let about = About::default();
        for (add, error) in [
            (tags(&[("", None)]), AboutError::Key),
            (tags(&[(&long, None)]), AboutError::Key),
            (
                tags(&[("a", Some(&long))]),
                AboutError::Value { key: "a".into() },
            ),
            (tags(&many), AboutError::Count),
        ] {
            assert_eq!(about.retagged(&add, &[]), Err(error));
        }
        let description = Some("x".repeat(4097));
        let about = About {
            description,
            ..About::default()
        };
        assert_eq!(about.checked(), Err(AboutError::Description));
    }
}
