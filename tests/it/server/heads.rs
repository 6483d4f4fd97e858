//! Heads that two parties could read differently are refused; all others are served, however they arrive.

use tokio::time::{Duration, timeout};

use super::{Server, assert_refused};
use crate::support::wire::Line;

const GOOD: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// What stands between `GET / HTTP/1.1` with a good `Host`, and the empty line.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

fn ambiguous() -> Vec<String> {
    let fields = [
        "Host: test\r\n",
        "host: other\r\n",
        "X: a\nY: b\r\n",
        "X: a\n\r\n",
        "X: a\rb\r\n",
        "X: a\r\r\n",
        "X: a\0b\r\n",
        "X\0: a\r\n",
        "X: a\x7f\r\n",
        "X: a\r\n folded\r\n",
        "X: a\r\n\tfolded\r\n",
        "X : a\r\n",
        "X\t: a\r\n",
        "X\r\n",
        ": a\r\n",
        "X(: a\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5.\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
    ];
    let whole = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: test\r\n\r\n",
        "GET / HTTP/1.1\nHost: test\r\n\r\n",
        "GET / HTTP/1.1\nHost: test\n\n",
        "GET / HTTP/1.1\r\nHost: test\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.1\rHost: test\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /<a> HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\nHost: test\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: test\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /\r\n",
        "GET / http/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: test\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: test\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02",
        "SSH-2.0-OpenSSH_9.9\r\n",
        "POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: test\r\nHost: test\r\n\r\n",
    ];
    let chunks =
        ["2\n{}\r\n", "2\r\n{}0\r\n", "+2\r\n", " 2\r\n", "0x2\r\n", "2 \r\n", "2\r\n{}\r\n0\r\nx\r\n"];
    let chunks = chunks.map(|chunks| with("Transfer-Encoding: chunked\r\n") + chunks);
    fields.map(with).into_iter().chain(chunks).chain(whole.map(ToOwned::to_owned)).collect()
}

/// Requests, each with the body that its answer repeats.
fn good() -> Vec<(String, &'static str)> {
    let body = "hello\r\nGET /smuggled HTTP/1.1\r\n\r\n";
    let length = body.len();
    let chunked = format!(
        "{}6;a=\"b\"\r\nhello\r\r\n{:x}\r\n{}\r\n000\r\n",
        with("Transfer-Encoding: chunked\r\n"),
        length - 6,
        &body[6..]
    );
    vec![
        (GOOD.to_owned(), ""),
        (format!("\r\n\r\n{GOOD}"), ""),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), ""),
        ("GET / HTTP/1.1\r\nHOST:[::1]:80\r\n\r\n".to_owned(), ""),
        ("GET http://test/a?b=c HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), ""),
        ("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), ""),
        ("GET /%00?a=b|c HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), ""),
        (with("X:\r\nY:   a\t\r\nZ: \u{fc}\r\nZ: again\r\n"), ""),
        (with("Content-Length: 0\r\n"), ""),
        (with(&format!("content-length:{length}\r\n")) + body, body),
        (with(&format!("Content-Length: 000{length} \r\n")) + body, body),
        (with("TRANSFER-ENCODING: Chunked\r\n") + "0\r\n\r\n", ""),
        (chunked.clone() + "\r\n", body),
        (chunked + "X-Trailer: a\r\n\r\n", body),
    ]
}

async fn refused(line: &mut Line, bytes: &str, status: u16, code: &str) {
    let reply = line.reply().await.unwrap_or_else(|error| panic!("{error} to {bytes:?}"));
    assert!(reply.status == status, "{} to {bytes:?}", reply.status);
    assert_refused(&reply, status, code);
    timeout(Duration::from_secs(2), line.closed()).await.unwrap_or_else(|_| panic!("open after {bytes:?}"));
}

#[tokio::test]
async fn ambiguous_request_is_400_and_the_connection_closes() {
    let server = Server::start();
    for bytes in ambiguous() {
        let mut line = server.line().await;
        line.say(&bytes).await.unwrap();
        refused(&mut line, &bytes, 400, "invalid_request").await;
    }
}

#[tokio::test]
async fn ambiguous_request_behind_a_good_one_is_400_in_its_turn() {
    let server = Server::start();
    let slow = "GET /trickle HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    for bytes in ambiguous() {
        let mut line = server.line().await;
        line.say(&format!("{GOOD}{}hello{bytes}", with("Content-Length: 5\r\n"))).await.unwrap();
        assert_eq!(line.reply().await.unwrap().status, 200, "{bytes:?}");
        assert_eq!(line.reply().await.unwrap().body, b"hello", "{bytes:?}");
        refused(&mut line, &bytes, 400, "invalid_request").await;
    }
    let mut line = server.line().await;
    line.say(&format!(
        "{}{}",
        slow.replace("1.0", "1.1").replace("\r\n\r\n", "\r\nHost: a\r\n\r\n"),
        ambiguous()[0]
    ))
    .await
    .unwrap();
    let text = String::from_utf8(line.rest().await.unwrap()).unwrap();
    let (served, refused) = text.split_once("0\r\n\r\nHTTP/1.1 400 Bad Request").unwrap();
    assert_eq!(served.matches("piece ").count(), super::PIECES.len());
    assert!(refused.contains("invalid_request"), "{refused}");
}

#[tokio::test]
async fn ambiguous_request_that_comes_byte_by_byte_is_400() {
    let server = Server::start();
    // Chunks that come behind their head are judged while the request is served.
    for bytes in ambiguous().into_iter().filter(|bytes| !bytes.contains("Encoding: chunked\r\n\r\n")) {
        let mut line = server.line().await;
        for byte in bytes.as_bytes() {
            // The answer may have come before the last byte.
            if line.say_bytes(&[*byte]).await.is_err() {
                break;
            }
        }
        refused(&mut line, &bytes, 400, "invalid_request").await;
    }
}

#[tokio::test]
async fn good_request_is_served_whole_in_bytes_and_pipelined() {
    let server = Server::start();
    for (request, body) in good() {
        let mut line = server.line().await;
        line.say(&request).await.unwrap();
        assert_eq!(line.reply().await.unwrap().body, body.as_bytes(), "{request:?}");
        for byte in request.as_bytes() {
            line.say_bytes(&[*byte]).await.unwrap();
        }
        assert_eq!(line.reply().await.unwrap().body, body.as_bytes(), "{request:?}");
    }
    let mut line = server.line().await;
    let all: String = good().iter().map(|(request, _)| request.as_str()).collect();
    for piece in [all.len(), 1, 7, 1000] {
        for bytes in all.as_bytes().chunks(piece) {
            line.say_bytes(bytes).await.unwrap();
        }
        for (request, body) in good() {
            let reply = line.reply().await.unwrap();
            assert_eq!((reply.status, reply.body.as_slice()), (200, body.as_bytes()), "{request:?}");
        }
    }
}

/// Each boundary is one between two packets that are read apart.
#[tokio::test]
async fn good_request_is_served_wherever_it_is_split() {
    let server = Server::start();
    let (request, body) = good().into_iter().next_back().unwrap();
    let mut line = server.line().await;
    for at in 1..request.len() {
        let (first, second) = request.split_at(at);
        line.say(first).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        line.say(second).await.unwrap();
        assert_eq!(line.reply().await.unwrap().body, body.as_bytes(), "{at}");
    }
}

#[tokio::test]
async fn http_1_0_needs_no_host_and_closes_unless_asked() {
    let server = Server::start();
    let mut line = server.line().await;
    for _ in 0..2 {
        line.say("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        assert_eq!(line.reply().await.unwrap().status, 200);
    }
    line.say("GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(line.reply().await.unwrap().status, 200);
    timeout(Duration::from_secs(2), line.closed()).await.unwrap();
}

#[tokio::test]
async fn head_beyond_a_limit_is_refused_while_it_arrives() {
    let server = Server::start();
    let many = with(&"X: a\r\n".repeat(120));
    let large = with(&format!("X: {}\r\n", "x".repeat(1_000_000)));
    for (bytes, status, code) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(17_000)), 414, "uri_too_long"),
        (format!("GET /{}", "x".repeat(17_000)), 414, "uri_too_long"),
        ("x".repeat(17_000), 414, "uri_too_long"),
        (many, 431, "headers_too_large"),
        (large[..60_000].to_owned(), 431, "headers_too_large"),
        (large, 431, "headers_too_large"),
    ] {
        let mut line = server.line().await;
        line.say(&bytes).await.unwrap();
        let reply = line.reply().await.unwrap();
        assert_refused(&reply, status, code);
    }
}

/// The HTTP library's buffer for it would stay as large for as long as the connection lives.
#[tokio::test]
async fn long_head_is_served_and_its_request_is_the_connections_last() {
    let server = Server::start();
    let mut line = server.line().await;
    for (length, connection) in [(3_000, None), (7_000, None), (30_000, Some("close"))] {
        let request = with(&format!("X: {}\r\nContent-Length: 5\r\n", "x".repeat(length))) + "hello";
        let reply = line.ask(&request).await.unwrap();
        assert_eq!((reply.body.as_slice(), reply.header("connection")), (b"hello".as_slice(), connection));
    }
    timeout(Duration::from_secs(2), line.closed()).await.unwrap();
}

#[tokio::test]
async fn incomplete_long_heads_are_limited_in_number() {
    let server = Server::start();
    let partial = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(5_000));
    let mut held = Vec::new();
    for _ in 0..256 {
        let mut line = server.line().await;
        line.say(&partial).await.unwrap();
        held.push(line);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut line = server.line().await;
    line.say(&partial).await.unwrap();
    let reply = line.reply().await.unwrap();
    assert_refused(&reply, 503, "unavailable");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(server.line().await.ask(GOOD).await.unwrap().status, 200, "short ones go on");
    drop(held);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut line = server.line().await;
    assert_eq!(line.ask(&format!("{partial}\r\n\r\n")).await.unwrap().status, 200);
}
