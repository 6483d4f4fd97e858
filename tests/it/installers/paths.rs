//! Whatever stands in the path, no file is read for it.

use super::path;
use crate::support::{
    App,
    wire::{Line, request},
};

const EVIL: [&str; 27] = [
    "..",
    ".",
    "../..",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%5c..%5cwindows",
    "..%252f..%252fetc",
    "%c0%ae%c0%ae",
    "%00",
    "linux%00",
    "linux%00.tar.gz",
    "linux%2f..%2fwindows",
    "linux%0d%0aX-Evil:%201",
    "%ff%fe",
    "file:%2f%2f%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "~root",
    "linux;windows",
    "linux.tar.gz",
    "LINUX",
    "Linux",
    "linux%20",
    "%20linux",
    "linux-x86_64",
    "freebsd",
    "$(id)",
];

async fn status_of(app: &App, token: &str, path: &str) -> (u16, Vec<u8>) {
    let mut line = Line::open(app.address).await.unwrap();
    let reply = line.ask(&request("GET", path, Some(token), "")).await.unwrap();
    (reply.status, reply.body)
}

#[tokio::test]
async fn no_platform_and_no_id_leads_out_of_the_catalogue() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await.id;
    let token = acme.operator.token.clone().unwrap();
    let whole = acme.operator.bundle(agent, "linux").await.bytes;
    for evil in EVIL {
        for path in [
            path(agent, evil),
            format!("/api/agents/installer/{evil}/linux"),
            format!("/api/agents/installer/{evil}/{evil}"),
            format!("/api/agents/installer/{evil}"),
            format!("/api/agents/manual-install/{evil}"),
            format!("/api/agents/installer/{agent}/linux/{evil}"),
        ] {
            let (status, body) = status_of(&app, &token, &path).await;
            assert!(matches!(status, 400 | 404), "{path}: {status}");
            let text = String::from_utf8(body).unwrap();
            assert!(text.starts_with("{\"error\":") && !text.contains("root:"), "{path}: {text}");
        }
    }
    assert!(acme.operator.bundle(agent, "linux").await.bytes == whole);
}

#[tokio::test]
async fn an_unknown_platform_is_named_with_those_that_are_known() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await.id;
    for (caller, path) in [
        (&acme.operator, path(agent, "amiga")),
        (&acme.operator, "/api/agents/installer/nonsense/amiga".to_owned()),
    ] {
        let answer = caller.get(&path).await;
        answer.blames_exactly("unsupported_platform", &[("platform", "unsupported")]);
        assert!(answer.text.contains("linux, windows, macos"), "{answer:?}");
    }
    app.anonymous().get(&path(agent, "amiga")).await.error(401, "unauthenticated");
}
