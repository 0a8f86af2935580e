//! The central side: what a fleet manager publishes, and where the rows of devices land.
//!
//! Owns the registry's signing key, its model versions, the desired documents of every device, what
//! devices report, and the landing folder. It speaks to devices only through the agents of
//! `edgeward-sync`, whose ports it implements.
//!
//! ```text
//! admin verb --> publisher (one task) --> records committed --> documents signed --> agent publishes
//! agent <-- artifacts (by digest)         agent --> landing (staged, verified, put if absent)
//!                                         agent --> reports (recorded by sequence)
//! ```
//!
//! Must never: sign an invalid document, publish a model version that did not prove itself here, or
//! answer that a segment has landed before it is durable under its name.

mod admin;
mod artifacts;
mod documents;
mod input;
mod key;
mod landing;
mod publisher;
mod record;
mod reports;

#[cfg(test)]
mod tests;

pub use admin::{AdminAnswer, AdminRequest, RegistryStatus, answer};
pub use artifacts::RegistryArtifacts;
pub use documents::RegistryDocuments;
pub use input::{EndpointInput, EndpointInputError};
pub use key::{OpenKeyError, open_key};
pub use landing::{Landing, OpenLandingError};
pub use publisher::{PublishError, Published, Publisher, PublisherParts};
pub use reports::RegistryReports;

use crate::store::StoreOptions;

/// Adds the tables of this room to a store that is about to be opened.
#[must_use]
pub fn tables(options: StoreOptions) -> StoreOptions {
    options
        .with_table::<record::FleetRecord>()
        .with_table::<record::DeviceRecord>()
        .with_table::<record::DocumentRecord>()
        .with_table::<record::ReportRecord>()
        .with_table::<record::PresenceRecord>()
        .with_table::<record::SequenceRecord>()
}
