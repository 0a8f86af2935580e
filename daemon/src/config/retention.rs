//! `[[inference_table.retention]]`: what the rows of one endpoint may take of the disk.

use edgeward_base::names::EndpointName;
use edgeward_base::units::ByteCount;

use super::reader::Section;

/// What happens to rows when there is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// `drop_oldest`: the oldest rows go, so that new ones come in.
    DropOldest,
    /// `stop`: rows stay, all of them and whole; new ones do not come in.
    Stop,
}

/// What the rows of one endpoint may take of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// `endpoint`: whose rows; an endpoint of that name need not exist yet.
    pub endpoint: EndpointName,
    /// `budget`: what its sealed rows may take; without it only the budget of all rows counts.
    pub budget: Option<ByteCount>,
    /// `priority`: rows of a lower one go first, 0 to 100.
    pub priority: u8,
    /// `retain`: what happens when there is no room.
    pub retain: Retain,
}

impl RetentionConfig {
    /// The priority of an endpoint that names none, and of one that is not named.
    pub const PRIORITY: u8 = 50;
    /// An endpoint's budget has room for so many segments of the log.
    const SEGMENTS: u64 = 2;

    /// Reads all of them; `seal_size` is that of a segment of the log.
    pub(super) fn read(section: &mut Section<'_, '_>, seal_size: ByteCount) -> Vec<Self> {
        let least = ByteCount(seal_size.0.saturating_mul(Self::SEGMENTS));
        let words = [("drop_oldest", Retain::DropOldest), ("stop", Retain::Stop)];
        let mut names: Vec<EndpointName> = Vec::new();
        let read = section.tables("retention", |entry| {
            let name = "the name of an endpoint";
            let endpoint = entry.parsed("endpoint", name, str::parse::<EndpointName>);
            let retention = Self {
                budget: entry.size("budget", least, ByteCount::mib(1 << 30)),
                priority: entry.number("priority", 0, 100).unwrap_or(Self::PRIORITY),
                retain: entry.choice("retain", &words).unwrap_or(Retain::DropOldest),
                endpoint: endpoint.or_else(|| {
                    entry.missing("endpoint", name);
                    None
                })?,
            };
            if names.contains(&retention.endpoint) {
                let problem = format!("{:?} is there twice", retention.endpoint.as_str());
                entry.refuse("endpoint", problem, "each endpoint once");
            }
            names.push(retention.endpoint.clone());
            Some(retention)
        });
        read.into_iter().flatten().collect()
    }
}
