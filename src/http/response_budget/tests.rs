//! Tests of the budget and of how long an answer counts.

use axum::http::StatusCode;
use futures_util::stream;
use http_body_util::BodyExt;

use super::*;

const MIB: u64 = 1024 * 1024;

fn key(number: u128) -> ApiKeyId {
    ApiKeyId::from_uuid(uuid::Uuid::from_u128(number))
}

fn workspace(number: u128) -> WorkspaceId {
    WorkspaceId::from_uuid(uuid::Uuid::from_u128(number))
}

#[test]
fn budget_is_limited_by_key_workspace_and_process() {
    let budget = ResponseBudget::default();
    let mut permits = Vec::new();
    let reserve = |owner: u128, tenant: u128| budget.reserve(key(owner), workspace(tenant), MIB);
    permits.extend((0..8).map(|_| reserve(1, 1).unwrap()));
    assert_eq!(reserve(1, 1).err().unwrap().status, StatusCode::TOO_MANY_REQUESTS);
    permits.extend((0..8).map(|_| reserve(2, 1).unwrap()));
    assert_eq!(reserve(3, 1).err().unwrap().status, StatusCode::TOO_MANY_REQUESTS);
    for other in 10..16 {
        permits.extend((0..8).map(|_| reserve(other, other).unwrap()));
    }
    assert_eq!(reserve(99, 99).err().unwrap().status, StatusCode::SERVICE_UNAVAILABLE);

    permits.pop();
    assert!(reserve(99, 99).is_ok());
    drop(permits);
    let usage = budget.usage();
    assert!(usage.keys.is_empty() && usage.workspaces.is_empty() && usage.process == 0);
}

#[test]
fn one_answer_is_never_too_large() {
    let budget = ResponseBudget::default();
    let permit = budget.reserve(key(1), workspace(1), 2 * PROCESS_BYTES).unwrap();
    assert!(budget.reserve(key(2), workspace(2), 1).is_err());
    drop(permit);
    assert!(budget.reserve(key(2), workspace(2), 1).is_ok());
}

fn counted(budget: &ResponseBudget, response: Response) -> Response {
    let mut request = Request::new(Body::empty());
    let owner = AnswerOwner::attach(&mut request);
    AnswerOwner::note(request.extensions(), budget, key(1), workspace(1));
    owner.count(response)
}

#[tokio::test]
async fn answer_counts_until_its_last_byte_is_dropped() {
    let budget = ResponseBudget::default();
    let text = vec![b'x'; 20_000];
    let mut response = counted(&budget, Response::new(Body::from(text.clone())));
    assert_eq!(response.body().size_hint().exact(), Some(20_000));
    let bytes = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    drop(response);
    assert_eq!((budget.usage().process, &bytes[..]), (20_000, &text[..]));
    drop(bytes);
    assert_eq!(budget.usage().process, 0);
}

#[tokio::test]
async fn stream_counts_as_such_and_small_answer_is_free() {
    let budget = ResponseBudget::default();
    let _small = counted(&budget, Response::new(Body::from(vec![b'x'; 16 * 1024])));
    assert_eq!(budget.usage().process, 0);
    let chunks = stream::iter([Ok::<_, std::convert::Infallible>("a"), Ok("b")]);
    let mut response = Response::new(Body::from_stream(chunks));
    response.extensions_mut().insert(Streamed);
    let response = counted(&budget, response);
    assert_eq!(budget.usage().process, STREAM_BYTES);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ab");
    assert_eq!(budget.usage().process, 0);
}

#[test]
fn answer_over_the_budget_becomes_an_error() {
    let budget = ResponseBudget::default();
    let large = || Response::new(Body::from(vec![b'x'; 5 * 1024 * 1024]));
    let _held = counted(&budget, large());
    assert_eq!(counted(&budget, large()).status(), StatusCode::TOO_MANY_REQUESTS);
}
