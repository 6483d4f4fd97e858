//! A wire to Postgres that can be cut between a statement's commit and its answer.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use planasonix_wire::AgentId;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};

/// Passes everything on, until it is told to cut.
pub struct Wire {
    /// The database's URL by way of this wire.
    pub url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    wanted: Mutex<Option<[u8; 16]>>,
    cuts: AtomicUsize,
}

impl Wire {
    pub async fn to(database: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, user) = (listener.local_addr().unwrap().port(), database.get_username());
        let name = database.get_database().unwrap();
        let url = format!("postgres://{user}@127.0.0.1:{port}/{name}?sslmode=disable");
        let folder = database.get_socket().unwrap();
        let socket = folder.join(format!(".s.PGSQL.{}", database.get_port()));
        let state = Arc::new(State::default());
        let passing = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let postgres = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(pass(client, postgres, Arc::clone(&passing)));
            }
        });
        Self { url, state }
    }

    /// Cuts the wire under the answer to the next statement that is given this agent's id.
    pub fn cut_after(&self, agent: AgentId) {
        *self.state.wanted.lock().unwrap() = Some(agent.uuid().into_bytes());
    }

    /// How often it was cut.
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl State {
    fn is_wanted(&self, bytes: &[u8]) -> bool {
        let mut wanted = self.wanted.lock().unwrap();
        let found = wanted.is_some_and(|id| bytes.windows(id.len()).any(|part| part == id));
        if found {
            *wanted = None;
        }
        found
    }
}

async fn pass(mut client: TcpStream, mut postgres: UnixStream, state: Arc<State>) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut cutting = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                cutting |= state.is_wanted(&asked[..length]);
                if postgres.write_all(&asked[..length]).await.is_err() { return }
            }
            read = postgres.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if cutting {
                    state.cuts.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if client.write_all(&answered[..length]).await.is_err() { return }
            }
        }
    }
}
