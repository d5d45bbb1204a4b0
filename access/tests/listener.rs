//! The listener over real sockets: TLS and plaintext on one port, silent peers, the cap.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::listener::{self, Connection, Incoming, Listener, Options, TlsMode};
use futures::StreamExt;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

struct Port {
    addr: SocketAddr,
    incoming: Incoming,
    metrics: access::listener::Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Port {
    fn open(options: Options) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
        let (addr, metrics) = (listener.local_addr(), listener.metrics());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let incoming = listener.accept(&tasks, stop.clone());
        Self { addr, incoming, metrics, tasks, stop }
    }

    async fn next(&mut self) -> Connection {
        self.incoming.next().await.expect("the listener is open").unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn close(mut self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        assert!(self.incoming.next().await.is_none(), "a stopped listener ends its stream");
    }
}

/// Takes any certificate, as the official clients do.
#[derive(Debug)]
struct TrustAll;

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

async fn connect_tls(stream: TcpStream) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAll))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("10.1.2.3").unwrap(), stream).await
}

async fn talk(
    client: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    server: &mut Connection,
) -> (Vec<u8>, Vec<u8>) {
    let mut heard = vec![0; 3];
    client.write_all(b"PRI").await.unwrap();
    server.read_exact(&mut heard).await.unwrap();
    let mut answer = vec![0; 2];
    server.write_all(b"ok").await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut answer).await.unwrap();
    (heard, answer)
}

#[tokio::test]
async fn one_port_takes_tls_and_plaintext() {
    let mut port = Port::open(Options::default());

    let stream = port.connect().await;
    let (client, server) = tokio::join!(connect_tls(stream), port.next());
    let (mut client, mut server) = (client.unwrap(), server);
    assert!(server.is_tls());
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(talk(&mut client, &mut server).await, (b"PRI".to_vec(), b"ok".to_vec()));

    let mut plain = port.connect().await;
    plain.write_all(b"P").await.unwrap();
    let mut server = port.next().await;
    assert!(!server.is_tls());
    let mut first = [0];
    server.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"P", "looking at the first byte does not take it");
    assert_eq!(talk(&mut plain, &mut server).await, (b"PRI".to_vec(), b"ok".to_vec()));
    assert_eq!(port.metrics.open_connections(), 2);
    port.close().await;
}

#[tokio::test]
async fn a_silent_peer_blocks_nobody_and_loses_its_place() {
    let options = Options { handshake_timeout: Duration::from_millis(300), ..Options::default() };
    let mut port = Port::open(options);
    let mut silent = port.connect().await;
    let mut half = port.connect().await;
    half.write_all(&[0x16, 3, 1]).await.unwrap();

    let mut plain = port.connect().await;
    plain.write_all(b"PRI").await.unwrap();
    let _served = port.next().await;

    let mut end = Vec::new();
    assert_eq!(silent.read_to_end(&mut end).await.unwrap(), 0, "closed when its time is over");
    half.read_to_end(&mut end).await.ok();
    port.close().await;
}

#[tokio::test]
async fn without_tls_a_silent_peer_loses_its_place_too() {
    let handshake_timeout = Duration::from_millis(300);
    let port = Port::open(Options { handshake_timeout, tls: TlsMode::Off, ..Options::default() });
    let mut silent = port.connect().await;
    let mut byte = [0];
    let end = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut byte)).await;
    assert_eq!(end.expect("closed when its time is over").unwrap(), 0);
    port.close().await;
}

#[tokio::test]
async fn garbage_in_a_handshake_closes_that_connection_only() {
    let mut port = Port::open(Options::default());
    let mut garbage = port.connect().await;
    garbage.write_all(&[0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]).await.unwrap();
    let mut end = Vec::new();
    garbage.read_to_end(&mut end).await.ok();

    let mut plain = port.connect().await;
    plain.write_all(b"PRI").await.unwrap();
    assert!(!port.next().await.is_tls());
    port.close().await;
}

#[tokio::test]
async fn a_connection_beyond_the_cap_is_closed_and_a_free_place_is_given_again() {
    let mut port = Port::open(Options { max_connections: 1, ..Options::default() });
    let mut first = port.connect().await;
    first.write_all(b"PRI").await.unwrap();
    let served = port.next().await;

    let mut second = port.connect().await;
    let mut end = Vec::new();
    assert_eq!(second.read_to_end(&mut end).await.unwrap_or(0), 0);

    drop(served);
    let mut third = port.connect().await;
    third.write_all(b"PRI").await.unwrap();
    port.next().await;
    port.close().await;
}

#[tokio::test]
async fn with_tls_off_every_connection_is_plain() {
    let mut port = Port::open(Options { tls: TlsMode::Off, ..Options::default() });
    let mut client = port.connect().await;
    client.write_all(&[0x16]).await.unwrap();
    assert!(!port.next().await.is_tls());
    port.close().await;
}

#[tokio::test]
async fn a_taken_port_is_named_in_the_error() {
    let port = Port::open(Options::default());
    let error = Listener::bind(port.addr, Options::default()).unwrap_err();
    assert!(error.to_string().contains(&port.addr.to_string()), "{error}");
    port.close().await;
}

#[tokio::test]
async fn a_port_that_requires_tls_closes_what_begins_otherwise() {
    let mut port = Port::open(Options { tls: TlsMode::Required, ..Options::default() });
    let mut plain = port.connect().await;
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Closed with unread bytes: a reset, or an end.
    let ended = plain.read_to_end(&mut answer).await;
    assert!(answer.is_empty() && !matches!(ended, Ok(read) if read > 0));
    let stream = port.connect().await;
    let (client, server) = tokio::join!(connect_tls(stream), port.next());
    assert!(client.is_ok() && server.is_tls());
    port.close().await;
}

#[tokio::test]
async fn a_port_beside_another_has_its_own_word_on_tls_and_counts_with_it() {
    let any = "127.0.0.1:0".parse().unwrap();
    let first = Listener::bind(any, Options { max_connections: 2, ..Options::default() }).unwrap();
    let second = first.beside(listener::Port::bind(any).unwrap(), TlsMode::Required).unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let open = |listener: Listener| {
        let (addr, metrics) = (listener.local_addr(), listener.metrics());
        let incoming = listener.accept(&tasks, stop.clone());
        Port { addr, incoming, metrics, tasks: tasks.clone(), stop: stop.clone() }
    };
    let (mut first, mut second) = (open(first), open(second));

    let stream = second.connect().await;
    let (secret, server) = tokio::join!(connect_tls(stream), second.next());
    let shown = secret.unwrap().get_ref().1.peer_certificates().unwrap()[0].clone();
    drop(server);
    let stream = first.connect().await;
    let (secret, _server) = tokio::join!(connect_tls(stream), first.next());
    assert_eq!(secret.unwrap().get_ref().1.peer_certificates().unwrap()[0], shown, "one certificate");

    let mut plain = second.connect().await;
    plain.write_all(b"PRI").await.unwrap();
    assert_eq!(plain.read(&mut [0]).await.unwrap_or(0), 0, "this port requires TLS");

    // The cap is one for both.
    let stream = second.connect().await;
    let (_secret, _another) = tokio::join!(connect_tls(stream), second.next());
    let mut refused = first.connect().await;
    assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0, "there are too many");
    first.close().await;
}
