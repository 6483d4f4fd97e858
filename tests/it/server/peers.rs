//! Peers that do not take what they asked for, and peers that are slow and mean it.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{LARGE_BYTES, PIECES, Server};
use crate::support::{App, wire::Line};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MS: Duration = Duration::from_millis(1);
const LARGE: &str = "GET /large HTTP/1.1\r\nHost: test\r\n\r\n";

/// How long it takes until the connection is reset, while `meanwhile` is done over and over.
async fn reset_after(line: &mut Line, limit: Duration, take: usize, pause: Duration) -> Duration {
    let began = Instant::now();
    while began.elapsed() < limit {
        // Sent ahead, so never answered; it fails when the connection is gone.
        if line.say("G").await.is_err() || (take > 0 && line.take(take).await.is_err()) {
            return began.elapsed();
        }
        sleep(pause).await;
    }
    panic!("still open after {limit:?}");
}

#[tokio::test]
async fn peer_that_takes_nothing_is_reset_pipelined_or_not() {
    let server = Server::with_timeouts(|timeouts| timeouts.write_stall = 500 * MS);
    for ahead in ["", "G", LARGE] {
        let mut line = Line::open_narrow(LOCALHOST, server.address).await.unwrap();
        line.say(&format!("{LARGE}{ahead}")).await.unwrap();
        let waited = if ahead.is_empty() {
            sleep(1_500 * MS).await;
            500 * MS
        } else {
            reset_after(&mut line, 3_000 * MS, 0, 20 * MS).await
        };
        assert!(waited >= 400 * MS, "{waited:?}");
        if ahead.is_empty() {
            assert!(line.rest().await.is_err(), "a reset, not an end that looks whole");
        }
    }
}

/// At the limits of production: half a minute.
#[tokio::test]
async fn peer_that_takes_nothing_of_the_docs_is_reset_after_30_s() {
    let app = App::one_process(|_| {}).await;
    let mut line = Line::open_narrow(LOCALHOST, app.address).await.unwrap();
    line.say("GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: test\r\n\r\nG").await.unwrap();
    let waited = reset_after(&mut line, Duration::from_secs(40), 0, 100 * MS).await;
    assert!(waited > Duration::from_secs(28), "{waited:?}");
}

#[tokio::test]
async fn peer_below_the_least_rate_is_reset_and_one_above_is_served() {
    let server = Server::with_timeouts(|timeouts| {
        timeouts.write_window = 1_000 * MS;
        timeouts.write_rate = 100_000;
    });
    let mut line = Line::open_narrow(LOCALHOST, server.address).await.unwrap();
    line.say(LARGE).await.unwrap();
    let slow = reset_after(&mut line, 20_000 * MS, 2_000, 100 * MS);
    let mut other = server.line().await;
    other.say(LARGE).await.unwrap();
    let steady = async {
        for _ in 0..30 {
            let mut left = 50_000;
            while left > 0 {
                left -= other.take(left).await.unwrap();
            }
            sleep(100 * MS).await;
        }
    };
    let (waited, ()) = tokio::join!(slow, steady);
    assert!(waited > 900 * MS, "{waited:?}");
}

#[tokio::test]
async fn slow_producer_is_not_the_peers_fault() {
    let server = Server::with_timeouts(|timeouts| {
        timeouts.write_stall = 50 * MS;
        timeouts.write_window = 200 * MS;
        timeouts.idle = 50 * MS;
    });
    let mut line = server.line().await;
    line.say("GET /trickle HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
    let text = String::from_utf8(line.rest().await.unwrap()).unwrap();
    assert_eq!(text.matches(PIECES[0]).count(), PIECES.len(), "{text}");
    assert!(text.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn large_answer_is_served_whole() {
    let server = Server::start();
    let mut line = server.line().await;
    for _ in 0..2 {
        assert_eq!(line.ask(LARGE).await.unwrap().body.len(), LARGE_BYTES);
    }
}

/// Bytes that are sent ahead stay in the system's buffers, and those are small.
#[tokio::test]
async fn bytes_sent_ahead_are_bounded() {
    let server = Server::start();
    let mut line = Line::open_narrow(LOCALHOST, server.address).await.unwrap();
    line.say("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    sleep(100 * MS).await;
    let mut pushed = 0;
    for _ in 0..20 {
        while let Ok(bytes @ 1..) = line.try_say(&[b'\r'; 512]) {
            pushed += bytes;
        }
        sleep(20 * MS).await;
    }
    assert!((1..100_000).contains(&pushed), "{pushed}");
}

#[tokio::test]
async fn idle_connection_is_closed_after_its_time_and_not_before() {
    let server = Server::with_timeouts(|timeouts| {
        timeouts.head = 300 * MS;
        timeouts.idle = 1_000 * MS;
    });
    let (mut silent, mut idle) = (server.line().await, server.line().await);
    // Of an answer in pieces the HTTP library does not look for the next request by itself.
    let mut streamed = server.line().await;
    streamed.say("GET /trickle HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap().status, 200);
        sleep(500 * MS).await;
    }
    timeout(10 * MS, silent.closed()).await.expect("nothing came in time");
    timeout(3_000 * MS, idle.closed()).await.expect("closed");
    assert!(began.elapsed() >= 1_900 * MS, "{:?}", began.elapsed());
    timeout(5_000 * MS, streamed.closed()).await.expect("closed");
    assert!(began.elapsed() >= 2_900 * MS, "{:?}", began.elapsed());
}
