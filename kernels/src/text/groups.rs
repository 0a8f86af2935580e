//! Which texts run together.
//!
//! An engine has a plan for each shape, and building one takes longer than running it. So texts are
//! padded to a few lengths, and as many run together as there are shapes for: 16, 4 or 1.

use super::tokens::Tokens;

/// The shortest length that rows are padded to.
const SHORTEST: usize = 16;

/// How many rows run together.
const SIZES: [usize; 3] = [16, 4, 1];

/// Rows that run together, each padded to `length` tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Positions among the texts.
    pub(super) rows: Vec<usize>,
    pub(super) length: usize,
}

/// Every row in one group; rows are padded to a power of two, or to `longest`.
pub(super) fn of(tokens: &[Tokens], longest: usize) -> Vec<Group> {
    let padded = |row: usize| {
        let length = tokens.get(row).map_or(0, |tokens| tokens.ids.len());
        // The tokenizer keeps to `longest`; one that did not would still get all its tokens.
        length
            .next_power_of_two()
            .clamp(SHORTEST.min(longest), longest.max(length))
    };
    let mut rows: Vec<usize> = (0..tokens.len()).collect();
    rows.sort_by_key(|row| padded(*row));
    let mut groups = Vec::new();
    for alike in rows.chunk_by(|a, b| padded(*a) == padded(*b)) {
        let length = alike.first().map_or(0, |row| padded(*row));
        let mut rest = alike;
        while let Some(size) = SIZES.into_iter().find(|size| *size <= rest.len()) {
            let (rows, others) = rest.split_at(size);
            groups.push(Group {
                rows: rows.to_vec(),
                length,
            });
            rest = others;
        }
    }
    groups
}
