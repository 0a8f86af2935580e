//! The device's side of its fleet: the ports of `edgeward-sync` over the rooms of this box.
//!
//! Owns no state but what the agent must remember (see [`FleetMemory`]) and which chunks of a model
//! are on disk. It translates: desired documents into endpoint commands, blobs into artifacts,
//! sealed Parquet into segments, and what runs into reports.
//!
//! Must never decide anything about a document's order or signature (the agent does), and never
//! answer an endpoint or model command other than through its owner.

mod blobs;
mod endpoints;
mod memory;
mod models;
mod record;
mod segments;

pub use blobs::FleetBlobs;
pub use endpoints::FleetEndpoints;
pub use memory::FleetMemory;
pub use models::FleetModels;
pub use segments::FleetSegments;

use crate::store::StoreOptions;

/// Adds the tables of this room to a store that is about to be opened.
#[must_use]
pub fn tables(options: StoreOptions) -> StoreOptions {
    options
        .with_table::<record::TrackRow>()
        .with_table::<record::AppliedRow>()
        .with_table::<record::OutboxRow>()
        .with_table::<record::OutboxNext>()
        .with_table::<record::BlobRow>()
}
