use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use super::*;

mod two;

const GRACE: Duration = Duration::from_secs(180);

/// Answers once a gate gives it a permit, and says that it was asked.
#[derive(Clone)]
struct Gated {
    asked: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

impl Gated {
    fn new(open: usize) -> Self {
        Self {
            asked: Arc::new(Semaphore::new(0)),
            gate: Arc::new(Semaphore::new(open)),
        }
    }
}

impl Handler for Gated {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        self.asked.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        let path = request.uri().path();
        Response::new(Body::from(match path {
            "/long" => "long".repeat(1 << 18),
            _ => path.to_owned(),
        }))
    }

    fn refuse(&self, head: &Parts, ceiling: usize) -> Response<Body> {
        Response::new(Body::from(format!("{} is over {ceiling}", head.uri.path())))
    }
}

struct Running {
    address: Option<SocketAddr>,
    tls: Option<Tls>,
    shutdown: CancellationToken,
    tasks: Tasks,
}

impl Running {
    async fn start(listen: Listen, handler: Gated, grace: Duration) -> Self {
        let listener = Listener::bind(listen).await.unwrap();
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let shutdown = CancellationToken::new();
        let running = Self {
            address: listener.address(),
            tls: listener.tls(),
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        };
        let run = listener.run(Arc::new(handler), tasks.clone(), shutdown, (16, grace));
        drop(tasks.spawn("listener", run));
        running
    }

    async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.join_all(GRACE).await.unwrap();
    }
}

/// One request over a stream; the body of its answer.
async fn ask<I>(stream: I, path: &str) -> hyper::Result<String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    use http_body_util::BodyExt as _;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = async move {
        let answer = sender.send_request(request).await?;
        answer.into_body().collect().await
    };
    let (collected, _) = tokio::join!(answer, connection);
    let bytes = collected.map(http_body_util::Collected::to_bytes);
    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

/// Counts the writes that reach the socket.
struct Counted<I> {
    inner: I,
    writes: Arc<AtomicUsize>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn head_and_body_of_an_answer_leave_in_one_write() {
    let connections = Connections {
        handler: Arc::new(Gated::new(3)),
        tasks: Tasks::new(tokio::runtime::Handle::current()),
        shutdown: CancellationToken::new(),
        abort: CancellationToken::new(),
        streams: Streams::new(1),
        head_timeout: HEAD_TIMEOUT,
    };
    // A real socket: whether it writes vectors decides how hyper buffers.
    let (client, server) = UnixStream::pair().unwrap();
    let writes = Arc::new(AtomicUsize::new(0));
    let server = Counted {
        inner: server,
        writes: Arc::clone(&writes),
    };
    let path = format!("/{}", "x".repeat(20_000));
    let (answer, ()) = tokio::join!(ask(client, &path), connections.serve(server));
    assert_eq!(answer.unwrap(), path);
    assert_eq!(writes.load(Ordering::SeqCst), 1);
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[tokio::test]
async fn shutdown_ends_idle_connections_at_once_and_waits_for_the_request_in_flight() {
    let handler = Gated::new(0);
    // An address of its own: no other test is given its port once it is free.
    let own = ([127, 0, 0, 77], 0).into();
    let running = Running::start(Listen::Tcp(own), handler.clone(), GRACE).await;
    let address = running.address.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let busy = TcpStream::connect(address).await.unwrap();
    let busy = ask(busy, "/busy");
    let closing = async {
        handler.asked.acquire().await.unwrap().forget();
        running.shutdown.cancel();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        assert!(
            running
                .tasks
                .running()
                .iter()
                .any(|task| task == "listener")
        );
        handler.gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(busy, closing);
    assert_eq!(answer.unwrap(), "/busy");
    running.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_that_outlives_the_grace_period_is_cut_off() {
    let handler = Gated::new(0);
    let running = Running::start(Listen::Tcp(loopback()), handler.clone(), Duration::ZERO).await;
    let stuck = TcpStream::connect(running.address.unwrap()).await.unwrap();
    let stuck = ask(stuck, "/stuck");
    let stop = async {
        handler.asked.acquire().await.unwrap().forget();
        running.stop().await;
    };
    let (answer, ()) = tokio::join!(stuck, stop);
    answer.unwrap_err();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn sockets_have_their_modes_replace_a_dead_one_and_go_with_the_listener() {
    let folder = tempfile::tempdir().unwrap();
    for (listen, bits) in [
        (Listen::Unix(folder.path().join("app.sock")), 0o660),
        (Listen::Admin(folder.path().join("admin.sock")), 0o600),
    ] {
        let (Listen::Unix(path) | Listen::Admin(path)) = listen.clone() else {
            unreachable!()
        };
        // What a killed process leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let running = Running::start(listen, Gated::new(1), GRACE).await;
        assert_eq!(mode(&path), bits);
        let stream = UnixStream::connect(&path).await.unwrap();
        assert_eq!(ask(stream, "/over-unix").await.unwrap(), "/over-unix");
        running.stop().await;
        assert!(!path.try_exists().unwrap());
    }
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let error = Listener::bind(Listen::Admin(path.clone()))
        .await
        .unwrap_err();
    assert!(matches!(error, BindError::Unix { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = Listener::bind(Listen::Tcp(loopback())).await.unwrap();
    let taken = first.address().unwrap();
    let error = Listener::bind(Listen::Tcp(taken)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {taken}"));
}

/// Puts another file in the place of one, if there is one: unlike a time of change, which goes on in
/// steps, it is told from the first however soon it comes.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// A certificate authority and what it signs, written where a listener reads it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    fn sign(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn write(&self, files: &TlsFiles) {
        let (certificate, key) = self.sign();
        replace(&files.certificate, &certificate.pem());
        replace(&files.key, &key.serialize_pem());
        if let Some(path) = &files.client_ca {
            replace(path, &self.issuer.pem());
        }
    }

    /// A client that trusts this authority, with a certificate of `identity` if one is given.
    fn client(&self, identity: Option<&Self>) -> tokio_rustls::TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let client = match identity {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let (certificate, key) = authority.sign();
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder
                    .with_client_auth_cert(vec![certificate.der().clone()], key)
                    .unwrap()
            }
        };
        Arc::new(client).into()
    }
}

fn files(folder: &Path, mutual: bool) -> TlsFiles {
    TlsFiles {
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
        client_ca: mutual.then(|| folder.join("clients.pem")),
    }
}

/// One request over TLS, with reading past the handshake: a refused client certificate shows there.
async fn ask_tls(address: SocketAddr, client: &tokio_rustls::TlsConnector) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = client.connect(name, stream).await?;
    stream
        .write_all(b"GET /tls HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn certificates_reload_without_a_restart_and_bad_files_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), false);
    let old = Authority::new();
    old.write(&files);
    let running = Running::start(
        Listen::Tls(loopback(), files.clone()),
        Gated::new(1000),
        GRACE,
    )
    .await;
    let address = running.address.unwrap();
    let answer = ask_tls(address, &old.client(None)).await.unwrap();
    assert!(answer.ends_with("/tls"), "{answer}");
    // A certificate without its key: what a reader sees in the middle of a replacement.
    let new = Authority::new();
    let (certificate, key) = new.sign();
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    running.tls.as_ref().unwrap().reload();
    ask_tls(address, &old.client(None)).await.unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    running.tls.as_ref().unwrap().reload();
    let client = new.client(None);
    while ask_tls(address, &client).await.is_err() {
        tokio::task::yield_now().await;
    }
    ask_tls(address, &old.client(None)).await.unwrap_err();
    running.stop().await;
}

#[tokio::test]
async fn changed_files_are_noticed_without_being_told() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), false);
    Authority::new().write(&files);
    let running = Running::start(
        Listen::Tls(loopback(), files.clone()),
        Gated::new(1000),
        GRACE,
    )
    .await;
    let new = Authority::new();
    new.write(&files);
    let client = new.client(None);
    while ask_tls(running.address.unwrap(), &client).await.is_err() {
        tokio::task::yield_now().await;
    }
    running.stop().await;
}

#[tokio::test]
async fn mutual_tls_turns_away_whoever_shows_no_certificate_or_a_strangers() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), true);
    let authority = Authority::new();
    authority.write(&files);
    let running = Running::start(Listen::Tls(loopback(), files), Gated::new(10), GRACE).await;
    let address = running.address.unwrap();
    let known = authority.client(Some(&authority));
    assert!(ask_tls(address, &known).await.unwrap().ends_with("/tls"));
    let stranger = Authority::new();
    for client in [authority.client(None), authority.client(Some(&stranger))] {
        ask_tls(address, &client).await.unwrap_err();
    }
    running.stop().await;
}

#[tokio::test]
async fn tls_files_that_do_not_fit_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), false);
    let missing = Tls::load(files.clone()).unwrap_err();
    assert!(missing.to_string().contains("server.pem"), "{missing}");
    Authority::new().write(&files);
    let (other, _) = Authority::new().sign();
    std::fs::write(&files.certificate, other.pem()).unwrap();
    assert!(matches!(
        Tls::load(files.clone()).unwrap_err(),
        LoadTlsError::Pair(_)
    ));
    std::fs::write(&files.certificate, "").unwrap();
    assert!(matches!(
        Tls::load(files).unwrap_err(),
        LoadTlsError::Empty { .. }
    ));
}
