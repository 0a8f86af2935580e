//! `[[endpoint.batching]]`: how the requests of one endpoint may be answered together.

use std::time::Duration;

use edgeward_base::names::EndpointName;

use super::reader::Section;

/// How the requests of one endpoint may be answered together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchingConfig {
    /// `endpoint`: whose requests; an endpoint of that name need not exist yet.
    pub endpoint: EndpointName,
    /// `requests`: answered together at most; 1 answers each alone.
    pub requests: u8,
    /// `delay`: how long a request may wait for others while threads are idle.
    pub delay: Duration,
}

impl BatchingConfig {
    /// For an endpoint that names none, and one that is not named: more only wait longer for one
    /// another on a processor.
    pub const REQUESTS: u8 = 16;
    /// More than any model on a processor gains from.
    const MOST_REQUESTS: u8 = 64;
    /// Nobody waits for a request that may never come.
    pub const DELAY: Duration = Duration::ZERO;

    /// Reads all of them.
    pub(super) fn read(section: &mut Section<'_, '_>) -> Vec<Self> {
        let mut names: Vec<EndpointName> = Vec::new();
        let read = section.tables("batching", |entry| {
            let name = "the name of an endpoint";
            let endpoint = entry.parsed("endpoint", name, str::parse::<EndpointName>);
            let requests = entry.number("requests", 1, Self::MOST_REQUESTS);
            let delay = entry.duration("delay", Duration::ZERO, Duration::from_secs(1));
            let batching = Self {
                requests: requests.unwrap_or(Self::REQUESTS),
                delay: delay.unwrap_or(Self::DELAY),
                endpoint: endpoint.or_else(|| {
                    entry.missing("endpoint", name);
                    None
                })?,
            };
            if names.contains(&batching.endpoint) {
                let problem = format!("{:?} is there twice", batching.endpoint.as_str());
                entry.refuse("endpoint", problem, "each endpoint once");
            }
            names.push(batching.endpoint.clone());
            Some(batching)
        });
        read.into_iter().flatten().collect()
    }
}
