//! Where a credential may be carried: in `Authorization`, an API key also in two headers of old, never in
//! a URL.

use super::{operator_routes, routes, workspace};
use crate::support::{Answer, App, actors::Workspace};

const LEGACY: [&str; 2] = ["X-Planasonix-Api-Key", "X-Planasonix-Key"];

async fn with_headers(app: &App, acme: &Workspace, route: &super::Route, headers: &[(&str, &str)]) -> Answer {
    let (subject, caller) = (route.subject(acme).await, app.anonymous());
    let request = headers
        .iter()
        .fold(route.request(&caller, &subject), |request, (name, value)| request.header(*name, *value));
    caller.send(request).await
}

#[tokio::test]
async fn an_api_key_may_come_in_the_headers_of_old() {
    let app = App::start().await;
    let acme = workspace(&app, "acme").await;
    let key = acme.operator.token.clone().unwrap();
    for route in operator_routes() {
        for name in LEGACY {
            let answer = with_headers(&app, &acme, &route, &[(name, &key)]).await;
            assert!(answer.status.is_success(), "{} by {name}: {answer:?}", route.name());
            assert_private(&answer);
            let answer = with_headers(&app, &acme, &route, &[(name, "nonsense")]).await;
            answer.error(401, "unauthenticated");
            assert_private(&answer);
        }
    }
}

/// Caches know of `Authorization` that its answers are for one caller; of the other headers they must be told.
#[track_caller]
fn assert_private(answer: &Answer) {
    let cache_control = answer.header("cache-control").unwrap_or_default();
    assert!(["private", "no-store"].iter().any(|word| cache_control.contains(word)), "{:?}", answer.headers);
    let vary = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap().to_lowercase());
    let vary: Vec<_> = vary.collect();
    assert!(LEGACY.iter().all(|name| vary.contains(&name.to_lowercase())), "{vary:?}");
}

#[tokio::test]
async fn legacy_key_answer_is_private_and_varies_whatever_it_is() {
    let app = App::start().await;
    let acme = workspace(&app, "acme").await;
    let key = acme.operator.token.clone().unwrap();
    let id = acme.register("etl").await.id;
    let agent = format!("/api/agents/{id}");
    for name in LEGACY {
        for (method, path) in
            [("GET", agent.as_str()), ("HEAD", &agent), ("GET", "/nowhere"), ("PUT", &agent)]
        {
            let request = app.anonymous().request(method.parse().unwrap(), path).header(name, &key);
            assert_private(&app.anonymous().send(request).await);
        }
        let tag = acme.operator.get(&agent).await.header("etag").map(ToOwned::to_owned);
        if let Some(tag) = tag {
            let request = app.anonymous().request(reqwest::Method::GET, &agent).header("if-none-match", tag);
            assert_private(&app.anonymous().send(request.header(name, &key)).await);
        }
    }
    // One that has no entity tag.
    let by_bearer = acme.operator.get("/api/agents").await;
    assert_eq!((by_bearer.header("cache-control"), by_bearer.header("vary")), (None, None));
}

#[tokio::test]
async fn authorization_wins_over_the_headers_of_old() {
    let app = App::start().await;
    let acme = workspace(&app, "acme").await;
    let key = acme.operator.token.clone().unwrap();
    let bearer = format!("bearer {key}");
    for route in operator_routes() {
        for name in LEGACY {
            let headers = [("authorization", bearer.as_str()), (name, "nonsense")];
            let answer = with_headers(&app, &acme, &route, &headers).await;
            assert!(answer.status.is_success(), "{}: {answer:?}", route.name());
            for bad in ["Bearer nonsense", "Basic eDp5", ""] {
                let headers = [("authorization", bad), (name, key.as_str())];
                let answer = with_headers(&app, &acme, &route, &headers).await;
                answer.error(401, "unauthenticated");
            }
        }
    }
}

#[tokio::test]
async fn the_headers_of_old_carry_no_other_kind() {
    let app = App::start().await;
    let acme = workspace(&app, "acme").await;
    let (waiting, agent) = (acme.register("waiting").await, acme.agent("enrolled").await);
    let tokens = [waiting.token.token.clone().unwrap(), agent.me.token.clone().unwrap()];
    for route in routes().iter().filter(|route| route.is_agent()) {
        for (name, token) in LEGACY.iter().flat_map(|name| tokens.iter().map(move |token| (name, token))) {
            let caller = app.anonymous();
            let request = route.request(&caller, &agent.id.to_string()).header(*name, token);
            caller.send(request).await.error(401, "unauthenticated");
        }
    }
    waiting.enroll().await;
}

#[tokio::test]
async fn no_credential_is_taken_from_a_url_or_a_cookie() {
    let app = App::start().await;
    let acme = workspace(&app, "acme").await;
    let (waiting, agent) = (acme.register("waiting").await, acme.agent("enrolled").await);
    for route in routes().iter().filter(|route| route.is_operator() || route.is_agent()) {
        let good = match route.needs {
            super::Needs::Token => &waiting.token,
            super::Needs::Credential => &agent.me,
            _ => &acme.operator,
        };
        let good = good.token.clone().unwrap();
        let caller = app.anonymous();
        for name in ["token", "access_token", "api_key", "key", "authorization", "enrollment_token"] {
            let path = route.operation.path_of(&agent.id.to_string());
            let request = route.request_to(&caller, &format!("{path}?{name}={good}"));
            caller.send(request).await.error(401, "unauthenticated");
        }
        let request = route.request(&caller, &agent.id.to_string());
        let request = request.header("cookie", format!("token={good}; authorization={good}"));
        caller.send(request).await.error(401, "unauthenticated");
    }
    waiting.enroll().await;
}
