//! Compressed bodies: `Content-Encoding` of requests, `Accept-Encoding` of answers.
//!
//! gzip and deflate (zlib's format, as HTTP means it). A body is expanded piece by piece under the limit
//! and the reservation of any other, so that a small body which claims to be a large one is refused as
//! soon as it has become too large, and nothing is allocated for what it only claims.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use hyper::HeaderMap;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName, HeaderValue};

/// How much of a compressed body is expanded at once: at the most that deflate can shrink, 64 KiB.
pub(crate) const STEP: usize = 64;

/// Answers below this size are sent as they are.
const LEAST_COMPRESSED: usize = 512;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `gzip`.
    Gzip,
    /// `deflate`, in zlib's format.
    Deflate,
}

/// A body that is compressed in a way that is not known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content encoding {given:?} is not supported: send gzip, deflate or identity")]
pub(crate) struct EncodingError {
    /// What the request said, cut to a length that is safe to print.
    given: String,
}

impl Encoding {
    /// How the body of a request is compressed; `None` when it is not.
    ///
    /// # Errors
    /// [`EncodingError`] for any other way, and for more than one.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, EncodingError> {
        Self::named(headers, &CONTENT_ENCODING)
    }

    /// The same, of a body that another header says it of.
    ///
    /// # Errors
    /// [`EncodingError`].
    pub(crate) fn named(
        headers: &HeaderMap,
        header: &HeaderName,
    ) -> Result<Option<Self>, EncodingError> {
        let Some(value) = headers.get(header) else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(value.as_bytes());
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            _ => Err(EncodingError {
                given: text.chars().take(80).collect(),
            }),
        }
    }

    /// How the client wants its answer compressed: the first that it names and that is known here.
    pub(crate) fn of_answer(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
        text.split(',').find_map(|one| {
            let mut parts = one.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            match name.to_ascii_lowercase().as_str() {
                _ if refused => None,
                "gzip" | "x-gzip" => Some(Self::Gzip),
                "deflate" => Some(Self::Deflate),
                _ => None,
            }
        })
    }

    /// The value of `Content-Encoding`.
    pub(crate) fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        })
    }

    /// The body compressed, where that is worth it.
    pub(crate) fn compress(self, body: &[u8]) -> Option<Bytes> {
        if body.len() < LEAST_COMPRESSED {
            return None;
        }
        let room = Vec::with_capacity(body.len() / 2);
        let compressed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(room, Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(room, Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
        };
        // A list takes everything that is written to it.
        compressed.ok().map(Bytes::from)
    }
}

/// Expands a body as it arrives.
pub(crate) enum Decoder {
    Gzip(GzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Decoder {
    pub(crate) fn new(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Gzip => Self::Gzip(GzDecoder::new(Vec::new())),
            Encoding::Deflate => Self::Deflate(ZlibDecoder::new(Vec::new())),
        }
    }

    /// What at most [`STEP`] compressed bytes expand to.
    ///
    /// # Errors
    /// When they are not what they claim to be, or go on after their end.
    pub(crate) fn step(&mut self, compressed: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(compressed)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(compressed)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    /// What is left when the body has ended.
    ///
    /// # Errors
    /// When it ended too early, or its checksum is wrong.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => decoder.finish(),
            Self::Deflate(decoder) => decoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    fn expanded(encoding: Encoding, compressed: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(encoding);
        let mut all = Vec::new();
        for piece in compressed.chunks(STEP) {
            all.extend(decoder.step(piece)?);
        }
        all.extend(decoder.finish()?);
        Ok(all)
    }

    #[test]
    fn what_is_compressed_expands_to_itself_and_nothing_else_does() {
        let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let body = Bytes::from(body);
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            let compressed = encoding.compress(&body).unwrap();
            assert!(compressed.len() < body.len());
            assert_eq!(expanded(encoding, &compressed).unwrap(), body);
            let short = &compressed[..compressed.len() - 3];
            assert!(
                expanded(encoding, short).is_err(),
                "{encoding:?}: it ends too early"
            );
            let mut wrong = compressed.to_vec();
            *wrong.last_mut().unwrap() ^= 1;
            assert!(
                expanded(encoding, &wrong).is_err(),
                "{encoding:?}: its checksum is wrong"
            );
            let long = [&compressed[..], b"more of it"].concat();
            assert!(
                expanded(encoding, &long).is_err(),
                "{encoding:?}: it goes on"
            );
            assert!(expanded(encoding, b"{\"inputs\": []}").is_err());
            assert!(expanded(encoding, b"").is_err());
            assert_eq!(encoding.compress(&body.slice(..100)), None);
        }
    }

    #[test]
    fn no_step_expands_to_more_than_deflate_can() {
        let zeros = Bytes::from(vec![0; 64 << 20]);
        let bomb = Encoding::Gzip.compress(&zeros).unwrap();
        let mut decoder = Decoder::new(Encoding::Gzip);
        for piece in bomb.chunks(STEP) {
            assert!(decoder.step(piece).unwrap().len() <= STEP * 1100 + (64 << 10));
        }
    }

    #[test]
    fn names_of_encodings_are_read() {
        for (value, encoding) in [
            ("gzip", Some(Encoding::Gzip)),
            ("X-GZIP", Some(Encoding::Gzip)),
            ("deflate", Some(Encoding::Deflate)),
            ("identity", None),
            ("", None),
        ] {
            let headers = headers(CONTENT_ENCODING, value);
            assert_eq!(Encoding::of_request(&headers), Ok(encoding), "{value}");
        }
        for value in ["br", "gzip, deflate", "zstd"] {
            assert!(Encoding::of_request(&headers(CONTENT_ENCODING, value)).is_err());
        }
        for (value, encoding) in [
            ("gzip, deflate", Some(Encoding::Gzip)),
            ("br, deflate;q=0.5", Some(Encoding::Deflate)),
            ("gzip;q=0, deflate", Some(Encoding::Deflate)),
            ("identity", None),
            ("*", None),
        ] {
            let headers = headers(ACCEPT_ENCODING, value);
            assert_eq!(Encoding::of_answer(&headers), encoding, "{value}");
        }
        assert_eq!(Encoding::of_answer(&HeaderMap::new()), None);
    }
}
