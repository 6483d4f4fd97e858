//! Answers that are given before the whole request was read.

use tokio::time::{Duration, sleep, timeout};

use crate::support::{
    App,
    database::Database,
    process::Server,
    wire::{Line, request},
};

const UNKNOWN: &str = "Authorization: Bearer nonsense\r\n";

#[tokio::test]
async fn answer_before_the_body_says_that_the_connection_closes() {
    let app = App::one_process(|_| {}).await;
    for (head, status) in [
        (format!("POST /api/agents HTTP/1.1\r\nHost: a\r\n{UNKNOWN}Content-Length: 100\r\n\r\n"), 401),
        ("POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel".to_owned(), 404),
        ("GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n".to_owned(), 200),
        (
            "PUT /api/agents HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
                .to_owned(),
            405,
        ),
    ] {
        let mut line = Line::open(app.address).await.unwrap();
        line.say(&head).await.unwrap();
        let reply = line.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{head:?}");
        timeout(Duration::from_secs(8), line.closed()).await.expect("closed");
    }
}

#[tokio::test]
async fn answer_before_a_body_that_has_come_keeps_the_connection() {
    let app = App::one_process(|_| {}).await;
    let mut line = Line::open(app.address).await.unwrap();
    for body in ["{}".to_owned(), "x".repeat(5_000), "x".repeat(50_000)] {
        for _ in 0..3 {
            let reply = line.ask(&request("POST", "/api/agents", Some("nonsense"), &body)).await.unwrap();
            assert_eq!(reply.status, 401);
            if reply.header("connection") == Some("close") {
                // It was answered before the rest had come, which a busy machine makes possible.
                assert!(body.len() > 8_000, "{reply:?}");
                line = Line::open(app.address).await.unwrap();
            }
        }
    }
}

/// Were the connection closed at once, the system would discard the answer.
#[tokio::test]
async fn answer_to_a_large_body_reaches_a_client_that_sends_it_all_first() {
    let app = App::one_process(|_| {}).await;
    let mut line = Line::open(app.address).await.unwrap();
    let body = "x".repeat(8 * 1024 * 1024);
    let reply = line.ask(&request("POST", "/api/agents", Some("nonsense"), &body)).await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (401, Some("close")));
}

#[tokio::test]
async fn malformed_chunks_are_400_and_the_connection_closes() {
    let app = App::one_process(|_| {}).await;
    let acme = app.workspace("acme").await;
    let token = acme.operator.token.as_deref().unwrap();
    for chunks in
        ["2\n{}\r\n0\r\n\r\n", "2\r\n{}0\r\n\r\n", "+2\r\n{}\r\n0\r\n\r\n", "2\r\n{}\r\n0\r\nx\r\n\r\n"]
    {
        let mut line = Line::open(app.address).await.unwrap();
        let head = format!(
            "POST /api/agents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        line.say(&head).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        line.say(chunks).await.unwrap();
        let reply = line.reply().await.unwrap();
        let code = &reply.json()["error"]["code"];
        assert_eq!((reply.status, code), (400, &"invalid_json".into()), "{chunks:?}");
        assert_eq!(reply.header("connection"), Some("close"));
        timeout(Duration::from_secs(8), line.closed()).await.expect("closed");
    }
}

/// In a process of its own, since the limit is the process's.
#[tokio::test]
async fn large_bodies_are_limited_in_number_and_small_ones_go_on() {
    let database = Database::create().await;
    let server = Server::start(&database.url(), &[]).await;
    let acme = server.workspace(&database.options, "acme").await;
    let token = acme.operator.token.as_deref();
    acme.operator.get("/api/agents").await.data(200);
    let large = request("POST", "/api/agents", token, &"x".repeat(20_000));
    let mut held = Vec::new();
    for _ in 0..256 {
        let mut line = Line::open(server.address).await.unwrap();
        line.say(large.split_at(large.len() - 1).0).await.unwrap();
        held.push(line);
    }
    sleep(Duration::from_secs(2)).await;
    let mut line = Line::open(server.address).await.unwrap();
    let reply = line.ask(&large).await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{reply:?}");
    assert_eq!(reply.json()["error"]["code"], "unavailable");
    acme.register("etl").await;
    drop(held);
    sleep(Duration::from_secs(1)).await;
    let mut line = Line::open(server.address).await.unwrap();
    assert_eq!(line.ask(&large).await.unwrap().status, 400, "read, and no JSON");
}
