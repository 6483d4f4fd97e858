//! What stands between agents and a server: passes all on, notes each request, and can be away.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What a request of an agent begins with; its id follows.
const REQUEST: &[u8] = b"POST /api/agents/agt_";
const ID_CHARS: usize = 26;

/// When a request went by, and which agent sent it.
pub type Passed = (Instant, String);

/// The relay. Away until it is opened.
pub struct Relay {
    pub address: SocketAddr,
    server: SocketAddr,
    passed: Arc<Mutex<Vec<Passed>>>,
    listening: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay that passes on to `server`.
    pub async fn to(server: SocketAddr) -> Self {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut relay = Self { address: anywhere, server, passed: Arc::default(), listening: None };
        relay.open().await;
        relay
    }

    /// From now on it accepts connections.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.listening = Some(tokio::spawn(listen(listener, self.server, Arc::clone(&self.passed))));
    }

    /// From now on connections are refused. Those that stand go on for as long as the server does.
    pub async fn close(&mut self) {
        let Some(listening) = self.listening.take() else { return };
        listening.abort();
        assert!(listening.await.unwrap_err().is_cancelled());
    }

    /// All requests that went by from `start` on.
    pub fn passed_since(&self, start: Instant) -> Vec<Passed> {
        let passed = self.passed.lock().unwrap();
        passed.iter().filter(|(at, _)| *at >= start).cloned().collect()
    }
}

async fn listen(listener: TcpListener, server: SocketAddr, passed: Arc<Mutex<Vec<Passed>>>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(pass(client, server, Arc::clone(&passed)));
    }
}

async fn pass(client: TcpStream, server: SocketAddr, passed: Arc<Mutex<Vec<Passed>>>) {
    // A server that is just going takes no more.
    let Ok(onward) = TcpStream::connect(server).await else { return };
    let (mut from, mut back) = client.into_split();
    let (mut answers, mut to) = onward.into_split();
    let asking = async move {
        let mut bytes = vec![0; 16_384];
        while let Ok(length @ 1..) = from.read(&mut bytes).await {
            note(&bytes[..length], &passed);
            if to.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    };
    let answering = async move {
        let _ = copy(&mut answers, &mut back).await;
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}

/// Agents send a request in one piece, so its beginning is whole.
fn note(bytes: &[u8], passed: &Mutex<Vec<Passed>>) {
    for rest in (0..bytes.len()).map(|place| &bytes[place..]).filter(|rest| rest.starts_with(REQUEST)) {
        let id = String::from_utf8_lossy(&rest[REQUEST.len()..][..ID_CHARS]).into_owned();
        passed.lock().unwrap().push((Instant::now(), id));
    }
}
