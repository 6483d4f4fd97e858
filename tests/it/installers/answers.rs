//! How a bundle is answered: whole, in part, or not again.

use base64::{Engine, engine::general_purpose::STANDARD};
use rand::RngExt;
use sha2::{Digest, Sha256};

use super::path;
use crate::support::{App, actors::Workspace};

const PLATFORMS: [(&str, &str, &str); 3] = [
    ("linux", "application/gzip", "tar.gz"),
    ("macos", "application/gzip", "tar.gz"),
    ("windows", "application/zip", "zip"),
];

async fn subject(app: &App) -> (Workspace, planasonix_wire::AgentId) {
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await.id;
    (acme, agent)
}

#[tokio::test]
async fn a_whole_bundle_says_what_it_is() {
    let app = App::start().await;
    let (acme, agent) = subject(&app).await;
    for (platform, media_type, extension) in PLATFORMS {
        let bundle = acme.operator.bundle(agent, platform).await;
        assert_eq!(bundle.header("content-type"), media_type);
        let name = format!("planasonix-agent-{}-{platform}.{extension}", env!("CARGO_PKG_VERSION"));
        assert_eq!(bundle.header("content-disposition"), format!("attachment; filename=\"{name}\""));
        assert_eq!(bundle.header("content-length"), bundle.bytes.len().to_string());
        assert_eq!(bundle.header("accept-ranges"), "bytes");
        assert_eq!(bundle.header("cache-control"), "private, no-cache");
        assert_eq!(bundle.header("etag"), format!("\"{}\"", bundle.sha256()));
        let digest = STANDARD.encode(Sha256::digest(&bundle.bytes));
        assert_eq!(bundle.header("repr-digest"), format!("sha-256=:{digest}:"));
        assert!(bundle.headers.get("transfer-encoding").is_none());
    }
}

#[tokio::test]
async fn nothing_compresses_a_bundle_again() {
    let app = App::start().await;
    let (acme, agent) = subject(&app).await;
    let plain = acme.operator.bundle(agent, "linux").await;
    let asked = [("accept-encoding", "gzip, br, zstd, deflate")];
    let bundle = acme.operator.fetch(&path(agent, "linux"), &asked).await;
    assert!(bundle.headers.get("content-encoding").is_none() && bundle.bytes == plain.bytes);
}

#[tokio::test]
async fn head_says_the_same_and_sends_nothing() {
    let app = App::start().await;
    let (acme, agent) = subject(&app).await;
    for (platform, ..) in PLATFORMS {
        let bundle = acme.operator.bundle(agent, platform).await;
        let head = acme.operator.head(&path(agent, platform)).await;
        assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
        for name in [
            "content-type",
            "content-length",
            "content-disposition",
            "etag",
            "repr-digest",
            "accept-ranges",
            "cache-control",
        ] {
            assert_eq!(head.header(name), Some(bundle.header(name)), "{name}");
        }
    }
}

#[tokio::test]
async fn whoever_has_it_is_told_so() {
    let app = App::start().await;
    let (acme, agent) = subject(&app).await;
    let bundle = acme.operator.bundle(agent, "linux").await;
    let tag = bundle.header("etag");
    for known in [tag, "*", &format!("W/{tag}"), &format!("\"other\", {tag}")] {
        let asked = [("if-none-match", known), ("range", "bytes=0-1")];
        let answer = acme.operator.fetch(&path(agent, "linux"), &asked).await;
        assert_eq!(answer.status, 304, "{known}");
        assert!(answer.bytes.is_empty() && answer.headers.get("content-type").is_none());
        assert_eq!(answer.header("etag"), tag);
        assert_eq!(answer.header("cache-control"), "private, no-cache");
    }
    let other = acme.register("other").await.id;
    let changed = acme.operator.fetch(&path(other, "linux"), &[("if-none-match", tag)]).await;
    assert_eq!(changed.status, 200, "another agent's is another one");
}

/// Three hundred parts of each, the seam between fixed part and tail among them.
#[tokio::test]
async fn any_part_is_that_part_of_the_whole() {
    let app = App::start().await;
    let (acme, agent) = subject(&app).await;
    for (platform, media_type, _) in PLATFORMS {
        let whole = acme.operator.bundle(agent, platform).await;
        let length = whole.bytes.len();
        for round in 0..300 {
            let first = rand::rng().random_range(0..length);
            let last = rand::rng().random_range(first..length + 10);
            let (range, first, end) = match round % 3 {
                0 => (format!("bytes={first}-{last}"), first, length.min(last + 1)),
                1 => (format!("bytes={first}-"), first, length),
                _ => (format!("bytes=-{}", length - first), first, length),
            };
            let part = acme.operator.fetch(&path(agent, platform), &[("range", &range)]).await;
            assert_eq!(part.status, 206, "{range}");
            assert!(part.bytes == whole.bytes[first..end], "{platform} {range} of {length}");
            assert_eq!(part.header("content-range"), format!("bytes {first}-{}/{length}", end - 1));
            assert_eq!(part.header("content-length"), (end - first).to_string());
            assert_eq!(part.header("content-type"), media_type);
            assert_eq!(part.header("etag"), whole.header("etag"));
        }
    }
}

#[tokio::test]
async fn a_part_goes_on_only_with_what_it_is_part_of() {
    let app = App::start().await;
    let (acme, agent) = subject(&app).await;
    let whole = acme.operator.bundle(agent, "linux").await;
    for (tag, status) in
        [(whole.header("etag"), 206), ("\"other\"", 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)]
    {
        let asked = [("range", "bytes=10-19"), ("if-range", tag)];
        let answer = acme.operator.fetch(&path(agent, "linux"), &asked).await;
        assert_eq!(answer.status, status, "{tag}");
        assert_eq!(answer.bytes.len(), if status == 206 { 10 } else { whole.bytes.len() });
    }
}

#[tokio::test]
async fn a_range_behind_the_end_is_not_satisfiable() {
    let app = App::start().await;
    let (acme, agent) = subject(&app).await;
    let length = acme.operator.bundle(agent, "linux").await.bytes.len();
    for range in
        [format!("bytes={length}-"), format!("bytes={}-{}", length + 5, length + 6), "bytes=-0".to_owned()]
    {
        let request = acme.operator.request(reqwest::Method::GET, &path(agent, "linux"));
        let answer = acme.operator.send(request.header("range", &range)).await;
        let error = answer.error(416, "range_not_satisfiable");
        assert!(error["message"].as_str().unwrap().contains(&length.to_string()), "{error}");
        assert_eq!(answer.header("content-range"), Some(format!("bytes */{length}").as_str()));
        assert!(error["action"].is_null(), "an operator decides for himself: {error}");
    }
    let pending = acme.register("b").await;
    let length = acme.operator.bundle(pending.id, "linux").await.bytes.len();
    let request = pending.token.request(reqwest::Method::GET, &path(pending.id, "linux"));
    let answer = pending.token.send(request.header("range", format!("bytes={length}-"))).await;
    assert_eq!(answer.error(416, "range_not_satisfiable")["action"], "retry");
    assert_eq!(answer.header("content-range"), Some(format!("bytes */{length}").as_str()));
}

#[tokio::test]
async fn several_ranges_or_a_broken_one_are_the_whole() {
    let app = App::start().await;
    let (acme, agent) = subject(&app).await;
    let whole = acme.operator.bundle(agent, "linux").await;
    for range in ["bytes=0-1,3-4", "bytes=5-2", "bytes=x-", "lines=0-1", "bytes", "bytes=-", "bytes=0-1;q=1"]
    {
        let answer = acme.operator.fetch(&path(agent, "linux"), &[("range", range)]).await;
        assert_eq!(answer.status, 200, "{range}");
        assert!(answer.bytes == whole.bytes, "{range}");
    }
}
