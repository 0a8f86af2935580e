//! A small MQTT 5 client: it publishes what a test writes, also what no agent would.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::wait;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;

/// `PUBLISH` at `QoS` 1, kept by the broker for later subscribers.
const RETAINED_QOS_1: u8 = PUBLISH | 0b0011;

/// A connection to a broker, without a session.
#[derive(Debug)]
pub struct MqttClient {
    stream: TcpStream,
    packet: u16,
}

impl MqttClient {
    /// Connects to the broker on this port of the loopback.
    ///
    /// # Panics
    /// When the broker does not take the connection.
    #[must_use]
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(wait::PATIENCE))?;
                Ok(stream)
            })
            .unwrap_or_else(|error| panic!("no broker on port {port}: {error}"));
        let mut client = Self { stream, packet: 0 };
        let mut body = text("MQTT");
        // Version 5, clean start, no keep-alive, no properties.
        body.extend([5, 0b10, 0, 0, 0]);
        body.extend(text(&format!("harness-{}", std::process::id())));
        client.send(CONNECT, &body);
        let answer = client.wait_for(CONNACK);
        assert_eq!(answer.get(1), Some(&0), "the broker refused: {answer:?}");
        client
    }

    /// Publishes a message that the broker keeps, and waits until the broker has it.
    pub fn publish_retained(&mut self, topic: &str, payload: &[u8]) {
        let mut body = text(topic);
        body.extend(self.next_packet());
        body.push(0);
        body.extend_from_slice(payload);
        self.send(RETAINED_QOS_1, &body);
        self.wait_for(PUBACK);
    }

    /// The message that the broker keeps under `topic`; waits until there is one.
    ///
    /// # Panics
    /// When the broker goes away or sends what is no message.
    pub fn retained(&mut self, topic: &str) -> Vec<u8> {
        let mut body = self.next_packet().to_vec();
        body.push(0);
        body.extend(text(topic));
        // QoS 0: no acknowledgement is owed.
        body.push(0);
        self.send(SUBSCRIBE, &body);
        let head = text(topic);
        let start = head.len();
        let message = loop {
            let message = self.wait_for(PUBLISH);
            if message.starts_with(&head) {
                break message;
            }
        };
        let (properties, width) = read_length(&mut message.get(start..).unwrap_or_default())
            .unwrap_or_else(|error| panic!("malformed message: {error}"));
        message
            .get(start + width + properties..)
            .unwrap_or_default()
            .to_vec()
    }

    fn next_packet(&mut self) -> [u8; 2] {
        self.packet += 1;
        self.packet.to_be_bytes()
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        let mut left = body.len();
        loop {
            let digit = u8::try_from(left % 128).unwrap_or_default();
            left /= 128;
            packet.push(if left > 0 { digit | 0x80 } else { digit });
            if left == 0 {
                break;
            }
        }
        packet.extend_from_slice(body);
        self.stream
            .write_all(&packet)
            .unwrap_or_else(|error| panic!("the broker went away: {error}"));
    }

    /// Skips packets until one of this kind comes.
    fn wait_for(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (found, body) = read_packet(&mut self.stream)
                .unwrap_or_else(|error| panic!("the broker did not answer: {error}"));
            if found & 0xf0 == kind & 0xf0 {
                return body;
            }
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn read_packet(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    let (length, _) = read_length(stream)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let [kind] = kind;
    Ok((kind, body))
}

/// A variable length, and how many bytes it took.
fn read_length(stream: &mut impl Read) -> io::Result<(usize, usize)> {
    let mut length = 0;
    for width in 0..4 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        let [digit] = byte;
        length += usize::from(digit & 0x7f) << (7 * width);
        if digit & 0x80 == 0 {
            return Ok((length, width + 1));
        }
    }
    Err(io::Error::other("a length of more than four bytes"))
}
