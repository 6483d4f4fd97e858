//! `planasonix healthcheck`: a container's probe, so that the image needs no other program to ask.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use super::failure::Failure;
use crate::config::HealthcheckArgs;

/// A ready server has asked its database within two seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// Asks the server on this host whether it is ready.
///
/// # Errors
/// It is not, or does not answer.
pub fn run(args: &HealthcheckArgs) -> Result<(), Failure> {
    let address = reachable(args.listen);
    let status = ask(address).map_err(|error| Failure::new(format!("{address} does not answer: {error}")))?;
    if status.split(' ').nth(1) == Some("200") {
        Ok(())
    } else {
        Err(Failure::new(format!("{address} is not ready: {}", status.trim_end())))
    }
}

/// Who listens everywhere is reached at the loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The status line of the answer to `GET /readyz`.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status)?;
    Ok(status)
}
