//! How a process reaches the MQTT broker: the same keys in `[fleet]` and in `[registry]`.

use std::path::PathBuf;

use super::reader::Section;

/// The MQTT 5 broker and how to show who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// For `mqtts://`.
    pub tls: Option<BrokerTls>,
    /// `username` and `password_file`.
    pub credentials: Option<BrokerCredentials>,
}

/// TLS towards the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerTls {
    /// `ca`: the authorities that the broker's certificate must come from, PEM.
    pub ca: PathBuf,
    /// `certificate` and `key`: what this side shows, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// User name and password towards the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerCredentials {
    /// `username`.
    pub username: String,
    /// `password_file`: a file that holds the password and nothing else.
    pub password_file: PathBuf,
}

/// A broker's URL.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    tls: bool,
    host: String,
    port: u16,
}

/// MQTT's registered ports, without and with TLS.
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

const ALLOWED: &str = "mqtt://HOST[:PORT] or mqtts://HOST[:PORT]";

impl BrokerConfig {
    /// Reads the keys; `None` without a `broker`.
    pub(super) fn optional(section: &mut Section<'_, '_>) -> Option<Self> {
        Self::read(section, false)
    }

    /// Reads the keys; a missing `broker` is a mistake.
    pub(super) fn required(section: &mut Section<'_, '_>) -> Option<Self> {
        Self::read(section, true)
    }

    fn read(section: &mut Section<'_, '_>, required: bool) -> Option<Self> {
        let url = section.parsed("broker", ALLOWED, parse_url);
        let ca = section.file("ca");
        let certificate = section.file("certificate");
        let key = section.file("key");
        let username = section.text("username");
        let password_file = section.file("password_file");

        let given = [
            ("ca", ca.is_some()),
            ("certificate", certificate.is_some()),
            ("key", key.is_some()),
        ];
        let client = pair(section, ("certificate", certificate), ("key", key));
        let credentials = pair(
            section,
            ("username", username),
            ("password_file", password_file),
        );
        let Some(url) = url else {
            if required || credentials.is_some() || given.iter().any(|(_, given)| *given) {
                section.missing("broker", ALLOWED);
            }
            return None;
        };
        let tls = match (url.tls, ca) {
            (true, Some(ca)) => Some(BrokerTls { ca, client }),
            (true, None) => {
                section.missing("ca", "the path of a PEM file, with mqtts://");
                None
            }
            (false, _) => {
                for (key, _) in given.iter().filter(|(_, given)| *given) {
                    section.refuse(
                        key,
                        "has no effect without TLS",
                        "this key with mqtts:// only",
                    );
                }
                None
            }
        };
        let credentials = credentials.map(|(username, password_file)| BrokerCredentials {
            username,
            password_file,
        });
        Some(Self {
            host: url.host,
            port: url.port,
            tls,
            credentials,
        })
    }
}

/// Two keys that mean something only together.
fn pair<A, B>(
    section: &mut Section<'_, '_>,
    (first, a): (&'static str, Option<A>),
    (second, b): (&'static str, Option<B>),
) -> Option<(A, B)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a, b)),
        (Some(_), None) => {
            section.missing(second, format!("{first} and {second}, or neither"));
            None
        }
        (None, Some(_)) => {
            section.missing(first, format!("{first} and {second}, or neither"));
            None
        }
        (None, None) => None,
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let (tls, rest) = match (text.strip_prefix("mqtt://"), text.strip_prefix("mqtts://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(format!("{text:?} is no such URL")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        // The last colon of `[::1]` is part of the address.
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (
                host,
                port.ok_or_else(|| format!("{text:?} has no valid port"))?,
            )
        }
        _ => (rest, if tls { TLS_PORT } else { PORT }),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let plain = bare
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte));
    if bare.is_empty() || !plain {
        return Err(format!("{text:?} has no valid host"));
    }
    Ok(Url {
        tls,
        host: bare.to_owned(),
        port,
    })
}
