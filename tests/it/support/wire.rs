//! One HTTP/1.1 connection, byte by byte: cheap enough for storms, and as rude as a test needs.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// No answer may take so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a control plane.
pub struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer whose body has a known length.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// A request as its bytes; an empty body is left out.
pub fn request(method: &str, path: &str, token: Option<&str>, body: &str) -> String {
    let bearer = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    let content = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{bearer}{content}\r\n{body}")
}

impl Line {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// A connection from this local address, with the smallest buffers that the system has.
    pub async fn open_narrow(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(2 * 1024)?;
        socket.set_send_buffer_size(2 * 1024)?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    pub async fn say(&mut self, text: &str) -> io::Result<()> {
        self.say_bytes(text.as_bytes()).await
    }

    pub async fn say_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends as much of the bytes as is taken at once.
    pub fn try_say(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    /// Closes this half of the connection; the other one can still be read.
    pub async fn end(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Takes at most this many of the bytes that have come.
    pub async fn take(&mut self, bytes: usize) -> io::Result<usize> {
        self.stream.read(&mut vec![0; bytes]).await
    }

    /// Everything up to the end of the connection.
    pub async fn rest(mut self) -> io::Result<Vec<u8>> {
        timeout(PATIENCE, self.stream.read_to_end(&mut self.unread)).await??;
        Ok(self.unread)
    }

    /// Sends a request and takes its answer.
    pub async fn ask(&mut self, request: &str) -> io::Result<Reply> {
        self.say(request).await?;
        self.reply().await
    }

    /// The next answer.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        timeout(PATIENCE, self.read_reply()).await?
    }

    /// Waits until the other side closes the connection.
    pub async fn closed(&mut self) {
        while let Ok(1..) = self.read().await {}
    }

    async fn read_reply(&mut self) -> io::Result<Reply> {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_some().await?;
        };
        let head = String::from_utf8_lossy(&self.unread[..head_end]).into_owned();
        let mut reply =
            Reply { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |text| text.parse().unwrap());
        while self.unread.len() < head_end + length {
            self.read_some().await?;
        }
        reply.body = self.unread[head_end..head_end + length].to_vec();
        self.unread.drain(..head_end + length);
        Ok(reply)
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.unread).await
    }

    async fn read_some(&mut self) -> io::Result<()> {
        match self.read().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (given, value) = line.split_once(':')?;
            given.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
