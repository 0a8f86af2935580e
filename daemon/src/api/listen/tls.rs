//! TLS of the TCP listener: certificate, key, and the client authorities of mutual TLS.
//!
//! Owns the configuration that the next handshake uses. The files are looked at once a second and
//! whenever [`Tls::reload`] is called; when one of them changed they are read again and swapped in
//! whole. Files that do not fit together (a certificate replaced before its key) leave the old
//! configuration in use and are tried again at each look. Connections keep what they began with.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Where the TLS files are, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then the certificates that signed it.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Authorities of client certificates. When set, a client without a certificate that one of
    /// them signed is turned away in the handshake.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadTlsError {
    /// A file cannot be read or is not PEM of the wanted kind.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("{path} holds no certificate")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not fit together, or the certificate is not valid.
    #[error("certificate and key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// An authority of client certificates is not valid.
    #[error("the client authorities cannot be used")]
    ClientAuthority(#[source] rustls::Error),
    /// The verifier of client certificates cannot be built.
    #[error("client certificates cannot be verified")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// The TLS configuration of one listener. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    files: TlsFiles,
    /// What the files were like before they were first read.
    first: Stamps,
    current: ArcSwap<ServerConfig>,
    reload: Notify,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`LoadTlsError`] names the file.
    pub fn load(files: TlsFiles) -> Result<Self, LoadTlsError> {
        // Looked at before they are read: a change in between shows at the next look.
        let first = stamps(&files);
        let current = ArcSwap::from(configuration(&files)?);
        Ok(Self(Arc::new(Loaded {
            files,
            first,
            current,
            reload: Notify::new(),
        })))
    }

    /// The configuration for the next handshake.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.current.load_full()
    }

    /// Looks at the files now instead of at the next second.
    pub fn reload(&self) {
        self.0.reload.notify_one();
    }

    /// Looks at the files until `shutdown`.
    pub(super) async fn watch(self, shutdown: CancellationToken) {
        let mut seen = self.0.first;
        let mut stale = false;
        let mut period = tokio::time::interval(LOOK_PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = period.tick() => false,
                () = self.0.reload.notified() => true,
                () = shutdown.cancelled() => return,
            };
            let now = stamps(&self.0.files);
            let changed = now != seen;
            if !(changed || stale || asked) {
                continue;
            }
            seen = now;
            match configuration(&self.0.files) {
                Ok(fresh) => {
                    self.0.current.store(fresh);
                    stale = false;
                    tracing::info!(
                        certificate = %self.0.files.certificate.display(),
                        "TLS files reloaded"
                    );
                }
                Err(error) => {
                    // Said once per change, not once per second.
                    if changed || asked {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "changed TLS files cannot be used; the old ones stay in use"
                        );
                    }
                    stale = true;
                }
            }
        }
    }
}

/// What tells that a file was replaced or written: inode, length and time of change.
type Stamp = (u64, u64, i64, i64);

/// The stamps of certificate, key and client authorities; `None` for a file that is not there.
type Stamps = [Option<Stamp>; 3];

fn stamps(files: &TlsFiles) -> Stamps {
    [
        Some(&files.certificate),
        Some(&files.key),
        files.client_ca.as_ref(),
    ]
    .map(|path| path.and_then(|path| stamp(path).ok()))
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    Ok((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn configuration(files: &TlsFiles) -> Result<Arc<ServerConfig>, LoadTlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| LoadTlsError::Read {
        path: files.key.clone(),
        source,
    })?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(LoadTlsError::Pair)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for authority in certificates(path)? {
                roots
                    .add(authority)
                    .map_err(LoadTlsError::ClientAuthority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(LoadTlsError::Verifier)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut configuration = builder
        .with_single_cert(chain, key)
        .map_err(LoadTlsError::Pair)?;
    configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(configuration))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadTlsError> {
    let read = |source| LoadTlsError::Read {
        path: path.to_owned(),
        source,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if chain.is_empty() {
        return Err(LoadTlsError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(chain)
}
