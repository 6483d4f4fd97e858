//! Answers that their callers do not read: what they hold, when the next one is refused, and when it is not.

use std::{net::SocketAddr, time::Duration};

use reqwest::Method;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::support::{
    actors::{Caller, Workspace},
    ask::{eventually, for_each},
    process::Pair,
    rows, turn,
    wire::request,
};

/// More than the kernel keeps of an answer that is not read, which is up to 4 MB: 4,000 rows of 1.6 KB.
const AGENTS: i32 = 4_000;
const CONNECTED: &str = "/api/agents/connected";

/// A label as long in JSON as there is one.
fn long_label() -> String {
    "\u{1}".repeat(255)
}

/// A connection that sends a request and takes a status, and no more than its small buffer.
struct Unread {
    status: u16,
    stream: TcpStream,
}

impl Unread {
    async fn ask(address: SocketAddr, caller: &Caller, path: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = TcpSocket::from_std_stream(socket.into());
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(request("GET", path, caller.token.as_deref(), "").as_bytes()).await.unwrap();
        let mut head = [0; 12];
        let read = stream.read_exact(&mut head);
        timeout(Duration::from_secs(20), read).await.expect("an answer").unwrap();
        let status = std::str::from_utf8(&head[9..]).unwrap().parse().unwrap();
        Self { status, stream }
    }
}

async fn ask_all(address: SocketAddr, caller: &Caller, path: &str, many: usize) -> Vec<Unread> {
    for_each(0..many, 8, |_| Unread::ask(address, caller, path)).await
}

fn admitted(streams: &[Unread]) -> usize {
    for stream in streams {
        assert!(matches!(stream.status, 200 | 429 | 503), "{}", stream.status);
    }
    streams.iter().filter(|stream| stream.status == 200).count()
}

async fn tenant(pair: &Pair, slug: &str) -> Workspace {
    let workspace = pair.servers[0].workspace(&pair.database.options, slug).await;
    rows::connected_agents_of(&pair.database.options, workspace.id, AGENTS, &long_label()).await;
    // The memory for verifying a key is another matter.
    workspace.operator.get("/api/agents?limit=1").await.data(200);
    workspace
}

#[tokio::test]
async fn unread_streams_are_limited_by_key_and_come_back() {
    let _alone = turn::alone();
    let pair = Pair::start(&["--shutdown-delay", "0"]).await;
    let (server, tenant) = (&pair.servers[0], tenant(&pair, "many").await);
    let whole = tenant.operator.get(CONNECTED).await;
    assert_eq!(whole.data(200).as_array().unwrap().len(), usize::try_from(AGENTS).unwrap());

    let before = server.resident_bytes();
    let unread = ask_all(server.address, &tenant.operator, CONNECTED, 100).await;
    // On a machine so busy that the database takes 2 s, a stream breaks off and makes room for another.
    assert!((8..16).contains(&admitted(&unread)), "{}", admitted(&unread));
    let grown = server.resident_bytes().saturating_sub(before);
    println!("{} KiB for 8 streams", grown / 1024);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes for 8 streams that nobody reads");

    let refused = tenant.operator.get(CONNECTED).await;
    refused.error(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    pair.acme.operator.get(CONNECTED).await.data(200);
    tenant.operator.get("/api/agents?limit=1").await.data(200);

    drop(unread);
    let again = eventually(async || {
        let answer = tenant.operator.get(CONNECTED).await;
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(again.await.text, whole.text);
}

#[tokio::test]
async fn unread_streams_of_many_tenants_are_limited_together() {
    let _alone = turn::alone();
    let pair = Pair::start(&["--shutdown-delay", "0"]).await;
    let server = &pair.servers[0];
    let mut tenants = Vec::new();
    for number in 0..12 {
        tenants.push(tenant(&pair, &format!("tenant-{number}")).await);
    }
    let before = server.resident_bytes();
    let mut unread = Vec::new();
    // On a machine so busy that the database takes 2 s, a stream breaks off and makes room for one more.
    for caller in tenants.iter().flat_map(|tenant| [&tenant.operator; 8]) {
        unread.push(Unread::ask(server.address, caller, CONNECTED).await);
        if unread.last().unwrap().status != 200 {
            break;
        }
    }
    assert_eq!(unread.last().unwrap().status, 503);
    assert!(unread.len() > 64, "{} streams", unread.len() - 1);
    let grown = server.resident_bytes().saturating_sub(before);
    println!("{} KiB for 64 streams", grown / 1024);
    assert!(grown < 64 * 1024 * 1024, "{grown} bytes for 64 streams that nobody reads");
    // Small answers need no room.
    pair.acme.operator.get(CONNECTED).await.data(200);
}

/// A page is in memory as a whole, so it counts by its size. The kernel takes the first one or two of each
/// connection, and the server holds one of those that are asked for behind them.
#[tokio::test]
async fn unread_large_pages_are_limited_by_size() {
    let _alone = turn::alone();
    let pair = Pair::start(&["--shutdown-delay", "0"]).await;
    let (server, tenant) = (&pair.servers[0], tenant(&pair, "many").await);
    let path = format!("{CONNECTED}?limit=1000");
    let before = server.resident_bytes();
    let mut unread = Vec::new();
    for _ in 0..20 {
        let mut stream = Unread::ask(server.address, &tenant.operator, &path).await;
        let more = request("GET", &path, tenant.operator.token.as_deref(), "").repeat(3);
        stream.stream.write_all(more.as_bytes()).await.unwrap();
        unread.push(stream);
    }
    assert!(unread.iter().any(|stream| stream.status == 429));
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 48 * 1024 * 1024, "{grown} bytes");
    drop(unread);
    eventually(async || (tenant.operator.get(&path).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn head_of_a_stream_holds_nothing() {
    let pair = Pair::start(&["--shutdown-delay", "0"]).await;
    let tenant = tenant(&pair, "many").await;
    for _ in 0..20 {
        let head = tenant.operator.request(Method::HEAD, CONNECTED);
        assert_eq!(tenant.operator.send(head).await.status, 200);
    }
}
