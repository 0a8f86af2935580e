//! A connection to a broker, as the agents see it.
//!
//! Owns: the [`Link`] and [`Connector`] traits and what passes through them.
//! Must never: promise that a published message arrived. Only a message of the other end does.
//!
//! ```text
//!             connected{resumed: false}            connected{resumed: true}
//! down ------------------------------------> up <------------------------- down
//!   ^                                        |  \                            ^
//!   +--- session lost: a new session --------+   +----- disconnected --------+
//! ```
//!
//! `resumed: false` says that the broker knows nothing of earlier sessions: every filter has been
//! subscribed anew and acknowledged **before** the event, and whatever was published before may be
//! lost. Everything is `QoS` 1; there are no topic aliases.

mod backoff;
mod rumqtt;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::{
    backoff::Backoff,
    rumqtt::{BrokerOptions, RumqttConnector},
};

/// The largest payload, in bytes, that either end publishes, whatever the broker would take: 1 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// How a payload is encoded; told to the broker as the content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Text that people can read in a broker tool.
    Json,
    /// A frame of [`edgeward_wire::frame`].
    Frame,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Full topic name.
    pub topic: String,
    /// At most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
    /// Whether the broker keeps it for those who subscribe later.
    pub retain: bool,
    /// How the payload is encoded.
    pub encoding: Encoding,
}

impl Outgoing {
    /// A JSON message that is not retained.
    pub(crate) fn json<T: serde::Serialize>(topic: String, message: &T) -> Self {
        Self {
            topic,
            payload: edgeward_wire::json::bytes(message).into(),
            retain: false,
            encoding: Encoding::Json,
        }
    }

    /// A framed message.
    pub(crate) fn frame<T: edgeward_wire::frame::Framed>(topic: String, message: &T) -> Self {
        Self {
            topic,
            payload: edgeward_wire::frame::bytes(message).into(),
            retain: false,
            encoding: Encoding::Frame,
        }
    }

    /// The same message, retained.
    pub(crate) fn retained(self) -> Self {
        Self {
            retain: true,
            ..self
        }
    }
}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Full topic name.
    pub topic: String,
    /// At most 1 MiB and the head of a packet.
    pub payload: Bytes,
}

/// What happens on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Messages can be published.
    Connected {
        /// Counts the connections of this link, from 1.
        connection: u64,
        /// Whether the broker kept the session, with what was on its way.
        resumed: bool,
    },
    /// Nothing can be published until [`LinkEvent::Connected`].
    Disconnected,
    /// A message arrived.
    Message(Incoming),
    /// [`Link::try_publish`] will take a message.
    Room,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TryPublishError {
    /// There is no connection.
    #[error("not connected")]
    NotConnected,
    /// Too many messages are on their way: wait for [`LinkEvent::Room`].
    #[error("too many messages on their way")]
    Busy,
    /// It would never get through.
    #[error("payload of {actual} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the payload.
        actual: usize,
        /// Bytes that the broker takes.
        limit: usize,
    },
}

/// One connection to a broker, kept up for as long as it lives.
///
/// It makes progress only while [`Link::next`] or [`Link::close`] is awaited.
#[async_trait]
pub trait Link: Send {
    /// Hands over a message if there is room, without waiting.
    ///
    /// # Errors
    /// When the message was not taken.
    fn try_publish(&mut self, message: Outgoing) -> Result<(), TryPublishError>;

    /// Waits for what happens next; for room only if `want_room`. May be dropped at any time
    /// without losing an event.
    async fn next(&mut self, want_room: bool) -> LinkEvent;

    /// Waits, for a second at most, until the broker has taken what was published.
    async fn close(&mut self);
}

/// Makes the will of a connection from its number.
pub type Will = Arc<dyn Fn(u64) -> Outgoing + Send + Sync>;

/// What a link is opened with.
#[derive(Clone)]
pub struct Session {
    /// MQTT client id.
    pub client_id: String,
    /// What is subscribed.
    pub filters: Vec<String>,
    /// What the broker publishes when the connection is gone.
    pub will: Option<Will>,
    /// Whether the broker shall keep the session while the connection is down.
    pub durable: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("client_id", &self.client_id)
            .field("filters", &self.filters)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

/// Opens links to one broker.
pub trait Connector: Send + Sync {
    /// A link that connects as soon as [`Link::next`] is awaited.
    fn open(&self, session: Session) -> Box<dyn Link>;
}
