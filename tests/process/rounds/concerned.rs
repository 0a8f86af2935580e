//! What of some rounds is not as it must be, said so that the cause can be found: which requests,
//! in which rounds, and what the gaps say.

use std::collections::BTreeMap;
use std::fmt;

use super::Tally;
use crate::landing::Landing;

/// So many requests of each round are named.
const NAMED: usize = 3;

/// What was durable and did not land.
#[derive(Debug, Default)]
pub(super) struct Concerned {
    /// Requests by round.
    requests: BTreeMap<u64, Vec<String>>,
    /// One line for each boot that had more rows than landed.
    boots: Vec<String>,
    /// What else the rounds of those requests saw.
    rounds: Vec<String>,
}

impl Concerned {
    /// Compares what the rounds saw with what landed.
    pub(super) fn find(tally: &Tally, landing: &Landing) -> Self {
        let mut found = Self::default();
        let landed = landing.request_ids();
        for (request, round) in &tally.owed {
            if !landed.contains(request) {
                let requests = found.requests.entry(*round).or_default();
                requests.push(request.clone());
            }
        }
        for (boot, durable) in &tally.committed {
            let of_boot = landing.boots.iter().filter(|(key, _)| key.boot == *boot);
            let landed: usize = of_boot.map(|(_, landed)| landed.rows.len()).sum();
            if u64::try_from(landed).unwrap() < durable.rows {
                let rows = durable.rows;
                let line = format!("boot {boot}: {rows} rows were durable, {landed} landed");
                found.boots.push(line);
            }
            if found.requests.contains_key(&durable.round) {
                found.rounds.push(format!(
                    "round {} was boot {boot}: {} rows durable, {}",
                    durable.round, durable.rows, durable.left_out
                ));
            }
        }
        found
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.boots.is_empty()
    }
}

impl fmt::Display for Concerned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests: usize = self.requests.values().map(Vec::len).sum();
        write!(formatter, "{requests} durable requests have no row")?;
        for (round, requests) in &self.requests {
            let named: Vec<_> = requests.iter().take(NAMED).collect();
            let count = requests.len();
            write!(formatter, "\nround {round}: {count}, such as {named:?}")?;
        }
        for line in self.rounds.iter().chain(&self.boots) {
            write!(formatter, "\n{line}")?;
        }
        Ok(())
    }
}

/// Each gap that landed, a line for each table and boot.
pub(super) fn gaps(landing: &Landing) -> String {
    let with_gaps = landing.boots.iter().filter(|(_, of)| !of.gaps.is_empty());
    let lines = with_gaps.map(|(boot, landed)| format!("{boot:?}: {:?}", landed.gaps));
    lines.collect::<Vec<_>>().join("\n")
}
