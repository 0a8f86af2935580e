//! HTTP/2: many requests over one connection, and when it ends.

use super::*;

/// A client of HTTP/2, and the end of its connection.
async fn two<I>(
    stream: I,
) -> (
    http2::SendRequest<Body>,
    impl Future<Output = hyper::Result<()>>,
)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap()
}

async fn ask_two(sender: &mut http2::SendRequest<Body>, path: &str) -> hyper::Result<String> {
    use http_body_util::BodyExt as _;
    let request = Request::get(format!("http://x{path}"));
    let request = request.body(Body::empty()).unwrap();
    let answer = sender.send_request(request).await?;
    assert_eq!(answer.version(), hyper::Version::HTTP_2);
    let bytes = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn many_requests_share_a_connection_of_http_2_and_shutdown_waits_for_them() {
    let handler = Gated::new(0);
    let running = Running::start(Listen::Tcp(loopback()), handler.clone(), GRACE).await;
    let stream = TcpStream::connect(running.address.unwrap()).await.unwrap();
    let (mut sender, connection) = two(stream).await;
    let mut other = sender.clone();
    let answers = async {
        let both = tokio::join!(ask_two(&mut sender, "/a"), ask_two(&mut other, "/b"));
        drop((sender, other));
        both
    };
    let closing = async {
        handler.asked.acquire_many(2).await.unwrap().forget();
        running.shutdown.cancel();
        handler.gate.add_permits(2);
    };
    let (answers, ended, ()) = tokio::join!(answers, connection, closing);
    assert_eq!(answers.0.unwrap(), "/a");
    assert_eq!(answers.1.unwrap(), "/b");
    ended.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn http_2_is_spoken_over_a_unix_socket_and_chosen_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let running = Running::start(Listen::Unix(path.clone()), Gated::new(1), GRACE).await;
    let (mut sender, connection) = two(UnixStream::connect(&path).await.unwrap()).await;
    let asked = async {
        let answer = ask_two(&mut sender, "/unix").await;
        drop(sender);
        answer
    };
    let (answer, ended) = tokio::join!(asked, connection);
    assert_eq!(answer.unwrap(), "/unix");
    ended.unwrap();
    running.stop().await;

    let files = files(folder.path(), false);
    let authority = Authority::new();
    authority.write(&files);
    let running = Running::start(Listen::Tls(loopback(), files), Gated::new(9), GRACE).await;
    let mut config = (**authority.client(None).config()).clone();
    for (offered, chosen) in [
        (vec![b"h2".to_vec(), b"http/1.1".to_vec()], Some(&b"h2"[..])),
        (vec![b"http/1.1".to_vec()], Some(b"http/1.1")),
        (vec![], None),
    ] {
        config.alpn_protocols = offered;
        let client = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
        let stream = TcpStream::connect(running.address.unwrap()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = client.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
    }
    running.stop().await;
}

/// Connections whose clients have little time.
fn impatient(handler: Gated) -> Connections<Gated> {
    Connections {
        handler: Arc::new(handler),
        tasks: Tasks::new(tokio::runtime::Handle::current()),
        shutdown: CancellationToken::new(),
        abort: CancellationToken::new(),
        streams: Streams::new(2),
        head_timeout: Duration::from_secs(1),
    }
}

#[tokio::test]
async fn whoever_asks_for_nothing_is_sent_away() {
    let connections = impatient(Gated::new(9));
    // The preface of HTTP/2 begun and never ended.
    let (mut silent, server) = UnixStream::pair().unwrap();
    silent.write_all(b"PRI * HTTP/2.0").await.unwrap();
    connections.serve(server).await;
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());

    let (client, server) = UnixStream::pair().unwrap();
    let (mut sender, connection) = two(client).await;
    let asked = async {
        let answer = ask_two(&mut sender, "/one").await;
        // Kept: it is the server that closes.
        (answer, sender)
    };
    let ((answer, _sender), ended, ()) = tokio::join!(asked, connection, connections.serve(server));
    assert_eq!(answer.unwrap(), "/one");
    ended.unwrap();
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_keeps_its_connection() {
    let handler = Gated::new(0);
    let connections = impatient(handler.clone());
    let (client, server) = UnixStream::pair().unwrap();
    let (mut sender, connection) = two(client).await;
    let asked = async {
        let answer = ask_two(&mut sender, "/slow").await;
        let again = ask_two(&mut sender, "/again").await;
        drop(sender);
        (answer, again)
    };
    let opening = async {
        handler.asked.acquire().await.unwrap().forget();
        // Others come and are sent away, one after the other.
        for _ in 0..4 {
            let (_silent, server) = UnixStream::pair().unwrap();
            connections.serve(server).await;
        }
        handler.gate.add_permits(2);
    };
    let ((answer, again), _, (), ()) =
        tokio::join!(asked, connection, opening, connections.serve(server));
    assert_eq!(answer.unwrap(), "/slow");
    assert_eq!(again.unwrap(), "/again");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_its_connection() {
    use http_body_util::BodyExt as _;
    let connections = Connections {
        streams: Streams::new(8),
        ..impatient(Gated::new(Semaphore::MAX_PERMITS / 2))
    };
    let (client, server) = UnixStream::pair().unwrap();
    let mut client_of = http2::Builder::new(TokioExecutor::new());
    client_of.initial_stream_window_size(100_000);
    let stream = TokioIo::new(client);
    let (mut sender, connection) = client_of.handshake(stream).await.unwrap();
    let asked = async {
        let request = |path: &str| Request::get(format!("http://x{path}")).body(Body::empty());
        let read = ask_two(&mut sender, "/long").await.unwrap();
        assert_eq!(read, "long".repeat(1 << 18));
        let unread = sender.send_request(request("/long").unwrap()).await;
        // Whoever goes on asking does not keep it.
        while let Ok(answer) = ask_two(&mut sender, "/one").await {
            assert_eq!(answer, "/one");
        }
        unread.unwrap().into_body().collect().await.unwrap_err();
    };
    let served = async {
        connections.serve(server).await;
        connections.streams.clone()
    };
    let ((), _, streams) = tokio::join!(asked, connection, served);
    // What was under way is given back.
    let room = || streams.enter(hyper::Version::HTTP_2).ok();
    while (0..8).filter_map(|_| room()).collect::<Vec<_>>().len() < 8 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn connections_of_http_2_share_what_may_be_under_way() {
    let handler = Gated::new(0);
    let connections = Connections {
        head_timeout: HEAD_TIMEOUT,
        ..impatient(handler.clone())
    };
    let (first, server) = UnixStream::pair().unwrap();
    let (mut first, one) = two(first).await;
    let served = connections.serve(server);
    let (second, server) = UnixStream::pair().unwrap();
    let (mut second, two) = two(second).await;
    let served = async { tokio::join!(served, connections.serve(server)) };
    let asked = async {
        let mut again = first.clone();
        let filled = async {
            handler.asked.acquire_many(2).await.unwrap().forget();
            let refused = ask_two(&mut second, "/third").await;
            handler.gate.add_permits(3);
            refused
        };
        let asked = tokio::join!(ask_two(&mut first, "/1"), ask_two(&mut again, "/2"), filled);
        // There is room again once they are answered.
        let after = ask_two(&mut second, "/third").await;
        drop((first, again, second));
        (asked, after)
    };
    let ((asked, after), ..) = tokio::join!(asked, one, two, served);
    assert_eq!(asked.0.unwrap(), "/1");
    assert_eq!(asked.1.unwrap(), "/2");
    assert_eq!(asked.2.unwrap(), "/third is over 2");
    assert_eq!(after.unwrap(), "/third");
}

#[tokio::test]
async fn a_client_that_only_resets_is_cut_off() {
    let handler = Gated::new(0);
    let running = Running::start(Listen::Tcp(loopback()), handler, GRACE).await;
    let mut stream = TcpStream::connect(running.address.unwrap()).await.unwrap();
    let mut bytes =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    for number in (1_u32..4000).step_by(2) {
        // GET http / x, by the static table, and its reset.
        let id = number.to_be_bytes();
        let head = b"\x82\x86\x84\x41\x01x";
        bytes.extend_from_slice(&[0, 0, 6, 1, 5, id[0], id[1], id[2], id[3]]);
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(&[0, 0, 4, 3, 0, id[0], id[1], id[2], id[3], 0, 0, 0, 8]);
    }
    // The server may close before it has read them all.
    drop(stream.write_all(&bytes).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    // GOAWAY with ENHANCE_YOUR_CALM.
    let calm = [0, 0, 0, 11];
    assert!(answer.windows(4).any(|four| four == calm), "{answer:?}");
    running.stop().await;
}
