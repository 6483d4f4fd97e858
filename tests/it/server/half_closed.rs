//! Peers that close their half of the connection behind a request and read on.

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use super::{LARGE_BYTES, PIECES, Server};
use crate::support::{
    App, rows,
    wire::{Line, request},
};

const MOMENT: Duration = Duration::from_millis(200);

/// Says this and nothing more; everything that comes until the other side ends too.
async fn told(server: &Server, text: &str) -> String {
    let mut line = server.line().await;
    line.say(text).await.unwrap();
    line.end().await.unwrap();
    String::from_utf8(line.rest().await.unwrap()).unwrap()
}

#[tokio::test]
async fn complete_request_is_answered_however_long_it_takes() {
    let server = Server::start();
    let waited = told(&server, "GET /wait HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(waited.starts_with("HTTP/1.1 200 "), "{waited}");
    let pieces = told(&server, "GET /trickle HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(pieces.matches(PIECES[0]).count(), PIECES.len(), "{pieces}");
    let large = told(&server, "GET /large HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(large.len() > LARGE_BYTES);
    let closes = told(&server, "GET /wait HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    assert!(closes.starts_with("HTTP/1.1 200 "), "{closes}");
}

#[tokio::test]
async fn bodies_and_pipelined_requests_are_answered_in_turn() {
    let server = Server::start();
    let sized = request("POST", "/", None, "{\"a\": 1}");
    let chunked =
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned();
    let text = told(&server, &format!("{sized}{chunked}{sized}")).await;
    assert_eq!(text.matches("HTTP/1.1 200 ").count(), 3, "{text}");
    assert_eq!((text.matches("{\"a\": 1}").count(), text.matches("abc").count()), (2, 1), "{text}");
}

#[tokio::test]
async fn incomplete_request_is_not_carried_out() {
    let server = Server::start();
    for cut in
        ["GET / HTTP/1.1\r\nHost: te", "", "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabc"]
    {
        let text = told(&server, cut).await;
        assert!(!text.contains(" 200 "), "{cut:?}: {text}");
    }
}

/// While the database makes them wait.
#[tokio::test]
async fn write_of_a_half_closed_connection_is_done_and_answered() {
    let app = App::one_process(|_| {}).await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("half closed").await;
    let held = rows::Held::flushes(&app.database.options).await;
    let path = format!("/api/agents/{}/heartbeat", agent.id);
    let mut lines = Vec::new();
    for (path, token, body) in [
        (path.as_str(), &agent.me.token, r#"{"active_jobs": 7}"#),
        ("/api/agents", &acme.operator.token, r#"{"label": "new", "platform": "linux"}"#),
    ] {
        let mut line = Line::open(app.address).await.unwrap();
        line.say(&request("POST", path, token.as_deref(), body)).await.unwrap();
        line.end().await.unwrap();
        lines.push(line);
    }
    sleep(MOMENT).await;
    held.let_go().await;
    let mut answers: Vec<Value> = Vec::new();
    for line in &mut lines {
        let reply = line.reply().await.unwrap();
        assert!(matches!(reply.status, 200 | 201), "{reply:?}");
        answers.push(reply.json());
    }
    assert_eq!(answers[0]["data"]["agent_id"], json!(agent.id));
    assert_eq!(acme.health(agent.id).await["active_jobs"], 7);
    assert_eq!(answers[1]["data"]["label"], "new");
}
