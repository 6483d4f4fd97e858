//! A control plane that misbehaves: HTTP by hand, over TCP or TLS, in a mood that a test can change while
//! an agent speaks with it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use planasonix_agent::clock;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep},
};
use tokio_rustls::TlsAcceptor;

use crate::rig::credential;

/// How the control plane behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mood {
    /// As it should.
    Good,
    /// Nobody listens.
    Away,
    /// 500 in the API's envelope.
    Broken,
    /// A proxy's page, under this status.
    Html(u16),
    /// Another address, under 302.
    Redirect,
    /// Takes the request and says nothing.
    Stall,
    /// Takes the request and hangs up.
    HangUp,
    /// Another certificate than the agent can trust.
    WrongCertificate,
    /// The same certificate, and otherwise as it should.
    OtherAuthority,
    /// 429, and how many seconds to wait.
    Limited(u32),
    /// Its clock is so many seconds ahead.
    ClockOff(i64),
    /// 403 with this action, for beats.
    Refuses(&'static str),
    /// 401 for everything, which asks for another enrollment.
    RefusesAll,
    /// Every good beat asks for a rotation, and the credential that comes of it is refused.
    RefusesNew,
    /// Every good beat of the first credential asks for a rotation.
    Rotates,
    /// Every good beat asks for a rotation.
    AlwaysRotates,
    /// Every good beat asks for this interval.
    Interval(u32),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method and path.
    pub line: String,
    /// What it came with.
    pub bearer: String,
    /// `Idempotency-Key`.
    pub key: Option<String>,
    /// Its body, null if it is none.
    pub body: Value,
    /// Whether it was answered as it should be.
    pub accepted: bool,
    /// When it had come.
    pub at: Instant,
}

/// The running server.
pub struct Rough {
    pub address: SocketAddr,
    mood: watch::Sender<Mood>,
    seen: Arc<Mutex<Vec<Request>>>,
}

/// The two faces of a server with TLS.
#[derive(Clone)]
pub struct Faces {
    pub trusted: TlsAcceptor,
    pub wrong: TlsAcceptor,
}

#[derive(Clone)]
struct Shared {
    mood: watch::Receiver<Mood>,
    seen: Arc<Mutex<Vec<Request>>>,
    /// Number of the next credential that it hands out.
    next: Arc<AtomicU8>,
}

impl Rough {
    /// Starts in a good mood. The credentials that it hands out are numbered from `next` on.
    pub async fn start(faces: Option<Faces>, next: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, watched) = watch::channel(Mood::Good);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let next = Arc::new(AtomicU8::new(next));
        let shared = Shared { mood: watched, seen: Arc::clone(&seen), next };
        tokio::spawn(listen(listener, faces, shared));
        Self { address, mood, seen }
    }

    /// Changes the mood.
    pub fn turn(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// All that has arrived.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Waits until a request arrives that was not among the first `known` and fits.
    pub async fn wait(&self, known: usize, what: &str, fits: impl Fn(&Request) -> bool) -> Request {
        for _ in 0..1_500 {
            if let Some(found) = self.seen().into_iter().skip(known).find(&fits) {
                return found;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} never arrived; {:?}", self.seen());
    }
}

async fn listen(listener: TcpListener, faces: Option<Faces>, mut shared: Shared) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        if *shared.mood.borrow_and_update() == Mood::Away {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.unwrap());
        }
        let Some(open) = &listener else {
            shared.mood.changed().await.unwrap();
            continue;
        };
        tokio::select! {
            accepted = open.accept() => {
                tokio::spawn(converse(accepted.unwrap().0, faces.clone(), shared.clone()));
            }
            changed = shared.mood.changed() => if changed.is_err() { return },
        }
    }
}

async fn converse(stream: TcpStream, faces: Option<Faces>, shared: Shared) {
    let Some(faces) = faces else { return exchange(stream, shared).await };
    let wrong = matches!(*shared.mood.borrow(), Mood::WrongCertificate | Mood::OtherAuthority);
    let face = if wrong { faces.wrong } else { faces.trusted };
    match face.accept(stream).await {
        Ok(stream) => exchange(stream, shared).await,
        // The agent hung up on the certificate: that was an attempt.
        Err(_) => record(&shared, "TLS".to_owned(), String::new(), None, Value::Null, false),
    }
}

/// One request a connection.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: Shared) {
    let mut text = Vec::new();
    let (head, body) = loop {
        let mut more = [0; 4_096];
        let Ok(read @ 1..) = stream.read(&mut more).await else { return };
        text.extend_from_slice(&more[..read]);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
        let length = header(head, "content-length").map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let mood = *shared.mood.borrow();
    let line = head.split(" HTTP").next().unwrap().to_owned();
    let bearer = header(&head, "authorization").unwrap_or_default().replace("Bearer ", "");
    let answer = answer(mood, &line, &bearer, &shared);
    let key = header(&head, "idempotency-key");
    let accepted = matches!(answer, Some((200 | 204, _))) && !matches!(mood, Mood::Html(_));
    let body = serde_json::from_str(&body).unwrap_or_default();
    record(&shared, line, bearer, key, body, accepted);
    match answer {
        None if mood == Mood::Stall => sleep(Duration::from_secs(20)).await,
        None => {}
        Some((status, body)) => {
            let _ = stream.write_all(response(mood, status, &body).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
}

fn record(shared: &Shared, line: String, bearer: String, key: Option<String>, body: Value, accepted: bool) {
    let at = Instant::now();
    shared.seen.lock().unwrap().push(Request { line, bearer, key, body, accepted, at });
}

/// The status and the body; none where nothing is said.
fn answer(mood: Mood, line: &str, bearer: &str, shared: &Shared) -> Option<(u16, String)> {
    let error = |status, code: &str, action: &str| {
        let error = json!({"code": code, "message": "no", "action": action, "request_id": "req_1"});
        Some((status, json!({"error": error}).to_string()))
    };
    let beat = line.ends_with("/heartbeat");
    match mood {
        Mood::Stall | Mood::HangUp | Mood::WrongCertificate | Mood::Away => None,
        Mood::Broken => error(500, "internal", "retry"),
        Mood::Limited(_) => error(429, "rate_limited", "retry"),
        Mood::Html(status) => Some((status, "<html><body>Access denied</body></html>".to_owned())),
        Mood::Redirect => Some((302, String::new())),
        Mood::Refuses(action) if beat => error(403, "agent_revoked", action),
        Mood::RefusesAll => error(401, "unauthenticated", "re_enroll"),
        Mood::RefusesNew if bearer != credential(1).expose() => error(403, "credential_rotated", "re_enroll"),
        _ => Some(good(mood, line, bearer, shared)),
    }
}

/// A label that an operator may give, and a terminal would obey.
pub const LABEL: &str = "rough\u{1b}[2J\nagent\u{202e}";

fn good(mood: Mood, line: &str, bearer: &str, shared: &Shared) -> (u16, String) {
    let agent = credential(1).agent().to_string();
    let expires = "2030-01-01T00:00:00Z";
    let hand_out = || credential(shared.next.fetch_add(1, Ordering::Relaxed)).expose().to_owned();
    let data = if line.ends_with("/enroll") {
        json!({"agent_id": agent, "label": LABEL, "status": "active", "credential": hand_out(),
            "credential_expires_at": expires, "heartbeat_interval_seconds": 30, "draining": false})
    } else if line.ends_with("/credential") {
        json!({"agent_id": agent, "credential": hand_out(), "credential_expires_at": expires})
    } else if line.ends_with("/heartbeat") {
        let of_first = matches!(mood, Mood::Rotates | Mood::RefusesNew) && bearer == credential(1).expose();
        let rotate = of_first || mood == Mood::AlwaysRotates;
        let interval = if let Mood::Interval(seconds) = mood { seconds } else { 30 };
        let server_time = now(mood).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        json!({"agent_id": agent, "status": "active", "accepts_work": true, "heartbeat_interval_seconds": interval,
            "server_time": server_time, "rotate_credential": rotate})
    } else {
        return (204, String::new());
    };
    (200, json!({"data": data}).to_string())
}

fn now(mood: Mood) -> DateTime<Utc> {
    let ahead = if let Mood::ClockOff(seconds) = mood { seconds } else { 0 };
    clock::now() + TimeDelta::seconds(ahead)
}

fn response(mood: Mood, status: u16, body: &str) -> String {
    let date = now(mood).format("%a, %d %b %Y %H:%M:%S GMT");
    let extra = match mood {
        Mood::Limited(seconds) => format!("Retry-After: {seconds}\r\n"),
        Mood::Redirect => "Location: /elsewhere\r\n".to_owned(),
        _ => String::new(),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} -\r\nDate: {date}\r\nContent-Length: {length}\r\nConnection: close\r\n{extra}\r\n{body}"
    )
}
