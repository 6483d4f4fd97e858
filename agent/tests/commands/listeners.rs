//! A control plane and a proxy of a few lines each, which do as a test wants.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use planasonix_agent::clock;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// What a control plane answers to a request's head: the status line's end, and the body.
type Behaviour = fn(head: &str) -> (&'static str, String);

/// A listener and what it was asked.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    /// The heads of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn bind() -> (TcpListener, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, Self { address, asked: Arc::default() })
    }
}

/// A control plane that is ready and takes every beat.
pub(crate) fn well(head: &str) -> (&'static str, String) {
    if head.starts_with("GET /readyz") {
        return ("200 OK", r#"{"data":{"status":"ok"}}"#.to_owned());
    }
    let ack = r#"{"data":{"agent_id":"agt_01jq8x5g2m4n6p8r0s2t4v6w8y","status":"active","accepts_work":true,
        "heartbeat_interval_seconds":30,"server_time":"2025-03-27T15:00:00Z","rotate_credential":false}}"#;
    ("200 OK", ack.to_owned())
}

/// The body of a refusal.
pub(crate) fn refusal(code: &str, action: &str) -> String {
    format!(r#"{{"error":{{"code":"{code}","message":"no","action":"{action}","request_id":"req_1"}}}}"#)
}

/// A port that nobody listens on.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A control plane without TLS, whose clock is `ahead` of this host's.
pub(crate) async fn plain(behaviour: Behaviour, ahead: TimeDelta) -> Listener {
    let (listener, handle) = Listener::bind().await;
    let asked = Arc::clone(&handle.asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, behaviour, ahead, Arc::clone(&asked)));
        }
    });
    handle
}

/// A control plane with TLS.
pub(crate) async fn secure(behaviour: Behaviour, certificate: Certificate) -> Listener {
    let (listener, handle) = Listener::bind().await;
    let asked = Arc::clone(&handle.asked);
    let acceptor = certificate.acceptor();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, behaviour, TimeDelta::zero(), asked).await;
                }
            });
        }
    });
    handle
}

/// A proxy that connects to wherever it is asked to, or refuses with a status line.
pub(crate) async fn proxy(refuses: Option<&'static str>) -> Listener {
    let (listener, handle) = Listener::bind().await;
    let asked = Arc::clone(&handle.asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let Some(head) = head(&mut stream).await else { return };
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                asked.lock().unwrap().push(head);
                if let Some(status) = refuses {
                    let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
                    return;
                }
                let mut onward = TcpStream::connect(target).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    handle
}

/// A SOCKS 5 proxy that wants a user and a password, and notes them with the target.
pub(crate) async fn socks() -> Listener {
    let (listener, handle) = Listener::bind().await;
    let asked = Arc::clone(&handle.asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let Some(target) = agree(&mut stream, &asked).await else { return };
                let Ok(mut onward) = TcpStream::connect(target).await else { return };
                stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    handle
}

/// Answers the host and port that the client wants to reach by a name.
async fn agree(stream: &mut TcpStream, asked: &Mutex<Vec<String>>) -> Option<String> {
    let _version = stream.read_u8().await.ok()?;
    let methods = text(stream).await?;
    // RFC 1929.
    let method = if methods.contains('\u{2}') { 2 } else { 255 };
    stream.write_all(&[5, method]).await.ok()?;
    let _version = stream.read_u8().await.ok()?;
    let login = format!("{}:{}", text(stream).await?, text(stream).await?);
    stream.write_all(&[1, 0]).await.ok()?;
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.ok()?;
    assert_eq!(request, [5, 1, 0, 3], "it connects, by a name");
    let target = format!("{}:{}", text(stream).await?, stream.read_u16().await.ok()?);
    asked.lock().unwrap().push(format!("{login} {target}"));
    Some(target)
}

/// A text behind its length.
async fn text(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = vec![0; stream.read_u8().await.ok()?.into()];
    stream.read_exact(&mut bytes).await.ok()?;
    String::from_utf8(bytes).ok()
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    behaviour: Behaviour,
    ahead: TimeDelta,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let Some(head) = head(&mut stream).await else { return };
    let (status, body) = behaviour(&head);
    asked.lock().unwrap().push(head);
    let date = (clock::now() + ahead).to_rfc2822().replace("+0000", "GMT");
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    // A socket closed over an unread body resets the connection before the answer is read.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// An authority that no system knows.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

/// A server's certificate and its key.
pub(crate) struct Certificate {
    chain: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// An authority with a key of its own, which another one of the same name does not have.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for one name until `end`.
    pub(crate) fn issue(&self, name: &str, end: DateTime<Utc>) -> Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let day = |at: DateTime<Utc>| {
            let date = at.date_naive();
            rcgen::date_time_ymd(
                date.year(),
                u8::try_from(date.month()).unwrap(),
                u8::try_from(date.day()).unwrap(),
            )
        };
        params.not_before = day(end - TimeDelta::days(60));
        params.not_after = day(end);
        let key = KeyPair::generate().unwrap();
        Certificate { chain: params.signed_by(&key, &self.issuer).unwrap(), key }
    }
}

impl Certificate {
    fn acceptor(self) -> TlsAcceptor {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.chain.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
