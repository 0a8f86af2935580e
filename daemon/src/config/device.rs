//! The configuration of `edgeward serve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgeward_base::units::ByteCount;

use super::batching::BatchingConfig;
use super::broker::BrokerConfig;
use super::reader::{Reader, Section};
use super::retention::RetentionConfig;
use super::{ConfigErrors, LogConfig, SOCKET_PATH_BYTES, load};

/// Everything `edgeward serve` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `state.dir`: the directory that holds everything the box keeps.
    pub state_dir: PathBuf,
    /// `[server]`.
    pub server: ServerConfig,
    /// `profile.name`: the name of a built-in profile, or the path of a file.
    pub profile: String,
    /// `[inference_table]`.
    pub inference_table: InferenceTableConfig,
    /// `[fleet]`: the broker; `None` for a box that no registry manages.
    pub fleet: Option<BrokerConfig>,
    /// `[endpoint]`.
    pub endpoint: EndpointConfig,
    /// `[log]`.
    pub log: LogConfig,
}

/// How clients reach the box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// `server.listen`: port 0 takes a free one.
    pub listen: SocketAddr,
    /// `server.unix_socket`: for applications on the box; `None` when it is `off`.
    pub unix_socket: Option<PathBuf>,
    /// `[server.tls]`: with it, `listen` speaks TLS.
    pub tls: Option<TlsConfig>,
    /// `server.insecure_listen`: a non-loopback address without TLS is what the operator wants.
    pub insecure_listen: bool,
    /// `server.body_limit`: a longer request body is refused.
    pub body_limit: ByteCount,
    /// `server.in_flight_bytes`: what all request bodies may hold together; the profile's share
    /// of memory when absent.
    pub in_flight_bytes: Option<ByteCount>,
    /// `server.request_timeout`: a request that takes longer is answered with an error.
    pub request_timeout: Duration,
    /// `server.grace_period`: how long a shutdown waits for requests in flight.
    pub grace_period: Duration,
}

/// The files of TLS; they are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// `server.tls.certificate`: the chain, PEM.
    pub certificate: PathBuf,
    /// `server.tls.key`: the private key, PEM.
    pub key: PathBuf,
    /// `server.tls.client_ca`: when set, clients must show a certificate of these authorities.
    pub client_ca: Option<PathBuf>,
}

/// How rows are buffered and sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceTableConfig {
    /// `inference_table.commit_interval`: what a power cut may take; the profile's when absent.
    pub commit_interval: Option<Duration>,
    /// `inference_table.commit_size`: a commit starts when so much waits.
    pub commit_size: ByteCount,
    /// `inference_table.seal_after`: a segment is sealed so long after its first row.
    pub seal_after: Duration,
    /// `inference_table.seal_size`: a segment is sealed at this size.
    pub seal_size: ByteCount,
    /// `inference_table.channel_size`: rows that may wait to be written; more are dropped and
    /// counted.
    pub channel_size: ByteCount,
    /// `inference_table.payload_cap`: a longer request or response is not kept.
    pub payload_cap: ByteCount,
    /// `inference_table.budget`: what all rows may take of the disk; the profile's when absent.
    pub budget: Option<ByteCount>,
    /// `inference_table.free_floor`: what rows leave free of the disk; from its size when absent.
    pub free_floor: Option<ByteCount>,
    /// `inference_table.shed_payload`: a longer request or response is not kept while the disk is
    /// short.
    pub shed_payload: ByteCount,
    /// `[[inference_table.retention]]`: what endpoints may take of the disk.
    pub retention: Vec<RetentionConfig>,
}

/// What the box decides about its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// `endpoint.local_edits`.
    pub local_edits: LocalEdits,
    /// `[[endpoint.batching]]`: how requests of endpoints may be answered together.
    pub batching: Vec<BatchingConfig>,
}

/// Whether an endpoint that the registry manages may be changed on this box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalEdits {
    /// No: one place decides.
    Refuse,
    /// Yes, until a newer generation replaces the edit.
    Allow,
}

impl Config {
    /// The packaged location, owned by the service's user.
    pub const STATE_DIR: &'static str = "/var/lib/edgeward";
    /// A box without a GPU and with a disk that is no SD card.
    pub const PROFILE: &'static str = "generic-cpu";

    /// Reads a configuration file and the overrides in the environment.
    ///
    /// # Errors
    /// [`ConfigErrors`]: everything that is wrong, together.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        load(path, &env, |reader| Some(Self::read(reader)))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let state_dir = reader.section("state", |section| {
            let dir = section
                .file("dir")
                .unwrap_or_else(|| PathBuf::from(Self::STATE_DIR));
            check_socket(section, "dir", &dir.join("admin.sock"));
            dir
        });
        Self {
            server: ServerConfig::read(reader, &state_dir),
            profile: reader.section("profile", |section| {
                let named = section.text("name");
                let name = named.unwrap_or_else(|| Self::PROFILE.to_owned());
                if name.contains('/') {
                    section.resolve(&name).display().to_string()
                } else {
                    name
                }
            }),
            inference_table: InferenceTableConfig::read(reader),
            fleet: reader.section("fleet", BrokerConfig::optional),
            endpoint: EndpointConfig::read(reader),
            log: LogConfig::read(reader),
            state_dir,
        }
    }
}

impl ServerConfig {
    /// Nobody but the box itself, until its owner says otherwise.
    pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    /// What the replaced platform takes.
    pub const BODY_LIMIT: ByteCount = ByteCount::mib(16);
    /// The replaced platform's limit for CPU endpoints: clients wait no longer.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(297);
    /// Well below the 5 min after which systemd kills a stopping service.
    pub const GRACE_PERIOD: Duration = Duration::from_secs(30);

    fn read(reader: &mut Reader<'_>, state_dir: &Path) -> Self {
        let server = reader.section("server", |section| {
            let least = ByteCount::kib(1);
            let body_limit = section.size("body_limit", least, ByteCount::mib(1024));
            let body_limit = body_limit.unwrap_or(Self::BODY_LIMIT);
            Self {
                listen: section
                    .parsed("listen", "ADDRESS:PORT, such as 127.0.0.1:8080", str::parse)
                    .unwrap_or(Self::LISTEN),
                unix_socket: read_socket(section, state_dir),
                tls: None,
                insecure_listen: section.flag("insecure_listen").unwrap_or(false),
                body_limit,
                in_flight_bytes: section.size(
                    "in_flight_bytes",
                    body_limit,
                    ByteCount::mib(1 << 20),
                ),
                request_timeout: section
                    .duration("request_timeout", Duration::from_millis(10), HOUR)
                    .unwrap_or(Self::REQUEST_TIMEOUT),
                grace_period: section
                    .duration("grace_period", Duration::ZERO, HOUR)
                    .unwrap_or(Self::GRACE_PERIOD),
            }
        });
        let server = Self {
            tls: reader.section("server.tls", TlsConfig::read),
            ..server
        };
        let exposed = !server.listen.ip().is_loopback();
        if exposed && server.tls.is_none() && !server.insecure_listen {
            reader.refuse(
                "server.listen",
                format!(
                    "{} can be reached from outside and has no certificate",
                    server.listen
                ),
                "a loopback address, or [server.tls], or insecure_listen = true",
            );
        }
        server
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn read_socket(section: &mut Section<'_, '_>, state_dir: &Path) -> Option<PathBuf> {
    let path = match section.text("unix_socket") {
        Some(text) if text == "off" => return None,
        Some(text) => section.resolve(&text),
        None => state_dir.join("edgeward.sock"),
    };
    check_socket(section, "unix_socket", &path);
    Some(path)
}

fn check_socket(section: &mut Section<'_, '_>, key: &'static str, path: &Path) {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_BYTES {
        section.refuse(
            key,
            format!("{} has {length} bytes", path.display()),
            format!("the path of a socket has at most {SOCKET_PATH_BYTES} bytes"),
        );
    }
}

impl TlsConfig {
    fn read(section: &mut Section<'_, '_>) -> Option<Self> {
        let certificate = section.file("certificate");
        let key = section.file("key");
        let client_ca = section.file("client_ca");
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Self {
                certificate,
                key,
                client_ca,
            }),
            (None, None) if client_ca.is_none() => None,
            (certificate, _) => {
                let missing = if certificate.is_none() {
                    "certificate"
                } else {
                    "key"
                };
                section.missing(missing, "the path of a PEM file");
                None
            }
        }
    }
}

impl InferenceTableConfig {
    /// One write of flash pages for many rows, and little memory.
    pub const COMMIT_SIZE: ByteCount = ByteCount::kib(64);
    /// Files of a useful size on a busy box, and rows that land within minutes on a quiet one.
    pub const SEAL_AFTER: Duration = Duration::from_secs(600);
    /// What compaction reads into memory at once.
    pub const SEAL_SIZE: ByteCount = ByteCount::mib(8);
    /// Rows of several seconds of heavy traffic.
    pub const CHANNEL_SIZE: ByteCount = ByteCount::mib(8);
    /// What the replaced platform keeps of a payload.
    pub const PAYLOAD_CAP: ByteCount = ByteCount::mib(1);

    /// What a label, a small body and a prediction take.
    pub const SHED_PAYLOAD: ByteCount = ByteCount::kib(4);
    /// A budget has room for so many segments of the log: some are written before any can go.
    pub const SEGMENTS_IN_BUDGET: u64 = 8;
    /// The free-space floor has room for so many: accounts and compaction write below it.
    pub const SEGMENTS_IN_FLOOR: u64 = 4;

    fn read(reader: &mut Reader<'_>) -> Self {
        reader.section("inference_table", |section| {
            let day = HOUR * 24;
            let mib = ByteCount::mib;
            let seal_size = section
                .size("seal_size", ByteCount::kib(64), mib(1024))
                .unwrap_or(Self::SEAL_SIZE);
            let segments = |count| ByteCount(seal_size.0 * count);
            let (budget, floor) = (
                segments(Self::SEGMENTS_IN_BUDGET),
                segments(Self::SEGMENTS_IN_FLOOR),
            );
            let most = mib(1 << 30);
            Self {
                budget: section.size("budget", budget, most),
                free_floor: section.size("free_floor", floor, most),
                shed_payload: section
                    .size("shed_payload", ByteCount(0), mib(16))
                    .unwrap_or(Self::SHED_PAYLOAD),
                retention: RetentionConfig::read(section, seal_size),
                commit_interval: section.duration(
                    "commit_interval",
                    Duration::from_millis(10),
                    Duration::from_secs(60),
                ),
                commit_size: section
                    .size("commit_size", ByteCount::kib(4), mib(16))
                    .unwrap_or(Self::COMMIT_SIZE),
                seal_after: section
                    .duration("seal_after", Duration::from_secs(1), day)
                    .unwrap_or(Self::SEAL_AFTER),
                seal_size,
                channel_size: section
                    .size("channel_size", ByteCount::kib(64), mib(1024))
                    .unwrap_or(Self::CHANNEL_SIZE),
                payload_cap: section
                    .size("payload_cap", ByteCount(0), mib(16))
                    .unwrap_or(Self::PAYLOAD_CAP),
            }
        })
    }
}

impl EndpointConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        let words = [("refuse", LocalEdits::Refuse), ("allow", LocalEdits::Allow)];
        reader.section("endpoint", |section| {
            let local_edits = section.choice("local_edits", &words);
            Self {
                local_edits: local_edits.unwrap_or(LocalEdits::Refuse),
                batching: BatchingConfig::read(section),
            }
        })
    }
}
