//! Clients that take their time.

use std::io;

use planasonix::installer::Installers;
use rand::RngExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::path;
use crate::support::{
    App,
    agents::{put, stocked},
    wire::request,
};

/// More than any socket's buffers hold.
const MEGABYTES: usize = 24;
const DAWDLERS: usize = 40;

fn large() -> Installers {
    let folder = tempfile::tempdir().unwrap();
    let mut program = vec![0; MEGABYTES << 20];
    rand::rng().fill(&mut program[..]);
    put(folder.path(), "linux-x86_64", "planasonix-agent", &program);
    stocked(folder.path())
}

#[tokio::test]
async fn slow_and_vanishing_readers_are_in_nobody_s_way() {
    let installers = large();
    let app = App::with(|settings| settings.installers = installers).await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    let token = acme.operator.token.clone().unwrap();
    let asked = request("GET", &path(agent.id, "linux"), Some(&token), "");
    let mut dawdlers = Vec::new();
    for _ in 0..DAWDLERS {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        dawdlers.push(stream);
    }
    let whole = acme.operator.bundle(agent.id, "linux").await;
    agent.beat().await;
    acme.health(agent.id).await;
    let mut last = dawdlers.pop().unwrap();
    drop(dawdlers);
    let body = rest(&mut last, whole.bytes.len()).await.unwrap();
    assert!(body == whole.bytes, "who was slow got something else");
}

/// What follows the head, of which the first bytes were read.
async fn rest(stream: &mut TcpStream, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let head = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(head) = head {
            let mut body = bytes.split_off(head + 4);
            while body.len() < length && stream.read_buf(&mut body).await? > 0 {}
            return Ok(body);
        }
        stream.read_buf(&mut bytes).await?;
    }
}
