//! An HTTP/1.1 client on one connection, from a chosen loopback address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::Result;

/// Limit for one connection attempt, and for one answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends one request at a time; connects when needed.
pub struct Client {
    address: SocketAddr,
    source: Ipv4Addr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    pub retry_after: bool,
    pub body: Vec<u8>,
}

/// How the kernel treats a client's connection. By default as any on the loopback interface.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Link {
    /// Receive buffer in bytes.
    pub receive_buffer: Option<u32>,
    /// Greatest segment in bytes. That of the loopback interface lets a server's kernel take megabytes that
    /// nobody reads; the 1,460 of an Ethernet leave them to the server.
    pub segment: Option<u32>,
}

pub async fn connect(address: SocketAddr, source: Ipv4Addr, link: Link) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = link.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = link.segment {
        SockRef::from(&socket).set_tcp_mss(bytes)?;
    }
    socket.bind((source, 0).into())?;
    socket.set_nodelay(true)?;
    Ok(timeout(TIMEOUT, socket.connect(address)).await??)
}

/// A request without a body; an empty token is no credential.
pub fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n{}\r\n", authorization(token))
}

pub fn post(path: &str, token: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        authorization(token),
        body.len()
    )
}

fn authorization(token: &str) -> String {
    if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") }
}

impl Client {
    pub fn new(address: SocketAddr, source: Ipv4Addr) -> Self {
        Self { address, source, stream: None, buffer: Vec::new() }
    }

    pub async fn connect(&mut self) -> Result<&mut TcpStream> {
        if self.stream.is_none() {
            self.stream = Some(connect(self.address, self.source, Link::default()).await?);
        }
        self.stream.as_mut().ok_or_else(|| "not connected".into())
    }

    /// Sends a request and reads its answer. After an error the next call connects again.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.connect().await?;
        let Some(mut stream) = self.stream.take() else { return Err("not connected".into()) };
        let answer = timeout(TIMEOUT, exchange(&mut stream, request, &mut self.buffer)).await??;
        if !self.buffer_says_close() {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// As `exchange`, but an answer other than `status` is an error. Returns the body's `data`.
    pub async fn data(&mut self, request: &str, status: u16) -> Result<Value> {
        let answer = self.exchange(request.as_bytes()).await?;
        let body = String::from_utf8_lossy(&answer.body);
        if answer.status != status {
            return Err(format!("expected {status}, got {}: {body}", answer.status).into());
        }
        Ok(serde_json::from_str::<Value>(&body)?.get("data").cloned().unwrap_or_default())
    }

    fn buffer_says_close(&self) -> bool {
        head(&self.buffer)
            .is_some_and(|head| header(head, "connection").is_some_and(|value| value == "close"))
    }
}

async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Result<Answer> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the connection was closed before the end of the answer".into());
        }
        if let Some(answer) = complete(buffer) {
            return Ok(answer);
        }
    }
}

/// The answer, once all of it is there.
fn complete(bytes: &[u8]) -> Option<Answer> {
    let head = head(bytes)?;
    let status = status(bytes)?;
    let body = bytes.get(head.len() + 4..)?;
    let whole = match header(head, "content-length") {
        Some(length) => body.len() >= length.parse().ok()?,
        None if header(head, "transfer-encoding").is_some() => body.ends_with(b"0\r\n\r\n"),
        None => true,
    };
    let retry_after = header(head, "retry-after").is_some();
    whole.then(|| Answer { status, retry_after, body: body.to_vec() })
}

/// The status code, once the status line is there.
pub fn status(bytes: &[u8]) -> Option<u16> {
    std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()
}

fn head(bytes: &[u8]) -> Option<&str> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    std::str::from_utf8(bytes.get(..end)?).ok()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
