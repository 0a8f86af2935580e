//! The messages that a device and its registry speak, and their pure validation.
//!
//! Owns: topic names, the signed container, desired documents and their order, acknowledgements,
//! reported documents, presence, segments, blobs, and the frame of binary chunks.
//! Must never: do I/O, read a clock, know MQTT beyond the text of a topic, or panic on bytes that
//! came from outside.
//!
//! | message | encoding | module |
//! |---|---|---|
//! | desired document | signed JSON container | [`envelope`], [`desired`] |
//! | acknowledgement, reported document, confirm | JSON | [`report`], [`ack`], [`reported`] |
//! | presence | JSON | [`presence`] |
//! | segment offer, answer, end | JSON (the receipt is a signed JSON container) | [`segment`] |
//! | blob request, blob missing | JSON | [`blob`] |
//! | chunk of a segment or of a blob | postcard in a [`frame`] | [`chunk`] |
//! | model manifest | canonical JSON, addressed by its digest | [`manifest`] |
//!
//! Every format here is version 0: breakable until the first tagged release, then kept readable for
//! ever. `fixtures/v0` holds one golden file per message.

pub mod ack;
pub mod blob;
pub mod chunk;
pub mod desired;
pub mod envelope;
pub mod frame;
pub mod json;
pub mod key;
pub mod manifest;
pub mod ordering;
pub mod presence;
pub mod report;
pub mod reported;
pub mod segment;
pub mod topic;

#[cfg(test)]
mod tests;
