//! A blocking HTTP/1.1 client over TCP and Unix sockets, with keep-alive.
//!
//! Small on purpose: it sends what a test writes, also when that is wrong.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::wait;

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header names in lowercase, with their values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is anything else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// One connection to a server, with the token it sends.
pub struct Client {
    address: Address,
    token: Option<String>,
    stream: Option<BufReader<Box<dyn Stream>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of `http://host:port` (or `host:port`).
    #[must_use]
    pub fn tcp(url: &str) -> Self {
        let authority = url.trim_start_matches("http://").trim_end_matches('/');
        Self {
            address: Address::Tcp(authority.to_owned()),
            token: None,
            stream: None,
        }
    }

    /// A client of a Unix socket.
    #[must_use]
    pub fn unix(path: &Path) -> Self {
        Self {
            address: Address::Unix(path.to_owned()),
            token: None,
            stream: None,
        }
    }

    /// Sends this bearer token with every request.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    fn connect(&self) -> io::Result<BufReader<Box<dyn Stream>>> {
        let stream: Box<dyn Stream> = match &self.address {
            Address::Tcp(authority) => {
                let stream = TcpStream::connect(authority)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(wait::PATIENCE))?;
                Box::new(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(wait::PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(BufReader::new(stream))
    }

    /// Sends a request with any headers and body, and reads the answer.
    ///
    /// # Errors
    /// When the connection cannot be made or breaks before the answer is whole.
    pub fn try_send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: edgeward\r\n");
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        // A server may answer before it has read all of a body that it refuses.
        let sent = stream.get_mut().write_all(&request);
        let (reply, keep) = match read_reply(&mut stream, method == "HEAD") {
            Ok(answer) => answer,
            Err(error) => return Err(sent.err().unwrap_or(error)),
        };
        self.stream = keep.then_some(stream);
        Ok(reply)
    }

    /// Sends JSON, or nothing for `Value::Null`, and reads the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn send(&mut self, method: &str, path: &str, body: &Value) -> Reply {
        let (headers, bytes): (&[(&str, &str)], Vec<u8>) = match body {
            Value::Null => (&[], Vec::new()),
            body => (
                &[("Content-Type", "application/json")],
                body.to_string().into_bytes(),
            ),
        };
        self.try_send(method, path, headers, &bytes)
            .unwrap_or_else(|error| panic!("{method} {path} at {:?}: {error}", self.address))
    }

    /// `GET`, without a body.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &Value::Null)
    }

    /// `POST` with JSON.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, body)
    }
}

fn read_reply(stream: &mut impl BufRead, head_only: bool) -> io::Result<(Reply, bool)> {
    let status_line = read_line(stream)?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no status line: {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| {
        headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, v)| v.as_str())
    };
    let keep = header("connection") != Some("close");
    let length = header("content-length").and_then(|length| length.parse().ok());
    let chunked = header("transfer-encoding") == Some("chunked");
    let mut body = Vec::new();
    match length {
        _ if head_only => {}
        Some(length) => {
            body.resize(length, 0);
            stream.read_exact(&mut body)?;
        }
        None if chunked => read_chunks(stream, &mut body)?,
        None => {}
    }
    Ok((
        Reply {
            status,
            headers,
            body,
        },
        keep,
    ))
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(stream)?;
        let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(body.get_mut(start..).unwrap_or_default())?;
        read_line(stream)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
