//! The OpenAPI document: made from the routes, completed here with what every route has in common.

mod headers;
mod links;
mod shapes;

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use planasonix_wire::envelope::ErrorBody;
use serde_json::json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::{Operation, PathItem},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::error::UNSUPPORTED_CONTENT_ENCODING;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Planasonix pipeline agents",
        description = "Registers pipeline agents, enrolls them, takes their heartbeats, knows who is connected and \
            healthy, revokes and re-enables them.\n\nEvery error has the same envelope and names what to do. A 503 on \
            a write means that its outcome is unknown: ask again before you repeat it.\n\nAn API key may make 1,200 \
            requests a minute and all keys of a workspace together 6,000, unless the operator has set other limits; \
            what is left is told in headers. Each server counts for itself, so several of them behind one address \
            let more through.\n\nA body goes without `Content-Encoding`; under any, 415 names \
            the one that is understood. On routes that take parameters, a query that is not UTF-8 once decoded, or \
            has a malformed escape, is 400 and names the parameter.\n\nAn agent's `ETag` makes requests about it \
            conditional. A condition (`If-Match`, `If-None-Match`, `If-Unmodified-Since`) on a request that changes \
            something is never ignored: where it cannot be evaluated, as on every POST, the answer is 412 and \
            nothing changes.\n\nA malformed or ambiguous HTTP request is refused in the same envelope before it \
            reaches a route, and the connection closes: 400 `invalid_request`, 414 `uri_too_long` (a request line of \
            more than 16 KiB), 431 `headers_too_large` (more than 100 headers, or more than 32 KiB of them).",
        contact(name = "Planasonix"),
        license(name = "Proprietary")
    ),
    servers(
        (url = "/", description = "The server that this document comes from"),
        (url = "https://api.planasonix.com", description = "The hosted service"),
    ),
    tags(
        (name = "agents", description = "For dashboards and automation, with an API key"),
        (name = "API keys", description = "For administrators, with an API key of scope `admin:organization`"),
        (name = "agent protocol", description = "For the agents themselves"),
        (name = "operation", description = "For whoever runs the service; public"),
    ),
    components(schemas(ErrorBody)),
    modifiers(&Credentials),
)]
struct Preamble;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, description) in [
            ("apiKey", "An API key, `plnx_live_…`"),
            ("enrollmentToken", "An enrollment token, `plnx_enroll_…`"),
            ("agentCredential", "An agent's credential, `plnx_agent_…`"),
        ] {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.description = Some(description.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// What the document says before any route.
pub fn preamble() -> openapi::OpenApi {
    Preamble::openapi()
}

/// The finished document, as text.
pub struct Document {
    /// As JSON.
    pub json: String,
    /// As YAML.
    pub yaml: String,
}

impl Document {
    pub(super) fn new(mut document: openapi::OpenApi) -> Self {
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations(item) {
                complete(path, &method, operation);
                headers::name(operation, takes(operation, "apiKey"));
            }
        }
        links::add(&mut document.paths);
        let components = document.components.get_or_insert_default();
        shapes::any_text_but_nul(components);
        headers::describe(components);
        // Every part of the document is data of ours that has a text in both forms.
        Self {
            json: document.to_pretty_json().unwrap_or_default(),
            yaml: document.to_yaml().unwrap_or_default(),
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Adds the errors that an operation can answer with.
fn complete(path: &str, method: &Method, operation: &mut Operation) {
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        shapes::never_null(body);
    }
    for (status, codes) in refusals(path, method, operation) {
        let known = operation.responses.responses.contains_key(status);
        if codes.is_empty() || known {
            continue;
        }
        let example = json!({"error": {
            "code": codes[0],
            "message": "what went wrong, and what to do about it",
            "request_id": "req_7f3c2a9e41d84b6f8e0a5c1d9b7e3f20",
        }});
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("ErrorBody")))
            .example(Some(example))
            .build();
        let codes: Vec<_> = codes.iter().map(|code| format!("`{code}`")).collect();
        let response =
            ResponseBuilder::new().description(codes.join(", ")).content("application/json", content).build();
        operation.responses.responses.insert(status.to_owned(), response.into());
    }
}

fn refusals(path: &str, method: &Method, operation: &Operation) -> [(&'static str, Vec<&'static str>); 14] {
    let (unauthenticated, mut forbidden) = credential_refusals(operation);
    let has_body = matches!(*method, Method::POST | Method::PATCH);
    let body = |code| if has_body { vec![code] } else { vec![] };
    let (invalid, conflicts, more_forbidden) = refusals_of_its_own(operation);
    let no_range = if is(operation, "downloadInstaller") { vec!["range_not_satisfiable"] } else { vec![] };
    forbidden.extend(more_forbidden);
    let is_conditional = *method != Method::GET || is(operation, "getAgent");
    let conditional = if is_conditional { vec!["precondition_failed"] } else { vec![] };
    [
        ("400", [if has_body { vec!["invalid_request", "invalid_json"] } else { vec![] }, invalid].concat()),
        ("401", unauthenticated),
        ("403", forbidden),
        ("404", not_found(path)),
        ("408", body("request_timeout")),
        ("409", conflicts),
        ("412", conditional),
        ("413", body("body_too_large")),
        ("415", [body("unsupported_media_type"), body(UNSUPPORTED_CONTENT_ENCODING)].concat()),
        ("416", no_range),
        ("429", if operation.security.is_some() { vec!["rate_limited"] } else { vec![] }),
        ("431", vec!["headers_too_large"]),
        ("500", vec!["internal"]),
        ("503", vec!["unavailable"]),
    ]
}

fn not_found(path: &str) -> Vec<&'static str> {
    match path.contains("{id}") {
        _ if path.contains("{agentId}") => vec!["agent_not_found", "installer_unavailable"],
        true if path.starts_with("/api/user") => vec!["api_key_not_found"],
        true => vec!["agent_not_found"],
        false => vec![],
    }
}

fn is(operation: &Operation, id: &str) -> bool {
    operation.operation_id.as_deref() == Some(id)
}

/// Whether the operation takes this kind of credential.
fn takes(operation: &Operation, scheme: &str) -> bool {
    serde_json::to_string(&operation.security).unwrap_or_default().contains(scheme)
}

/// What a credential of the kind that the operation takes can be refused with: 401 and 403.
fn credential_refusals(operation: &Operation) -> (Vec<&'static str>, Vec<&'static str>) {
    if operation.security.is_none() {
        return (vec![], vec![]);
    }
    let (mut unauthenticated, mut forbidden) = (vec!["unauthenticated"], vec![]);
    if takes(operation, "apiKey") {
        unauthenticated.extend(["api_key_revoked", "api_key_expired"]);
        forbidden.push("insufficient_scope");
    }
    let (token, credential) = (takes(operation, "enrollmentToken"), takes(operation, "agentCredential"));
    if token {
        unauthenticated.extend(["enrollment_token_invalid", "enrollment_token_expired"]);
    }
    if is(operation, "enrollAgent") {
        unauthenticated.push("enrollment_token_used");
    }
    if token || credential {
        forbidden.push("agent_revoked");
    }
    if credential {
        forbidden.extend(["credential_rotated", "credential_expired"]);
    }
    (unauthenticated, forbidden)
}

/// Codes of one operation alone: 400, 409 and 403.
fn refusals_of_its_own(operation: &Operation) -> (Vec<&'static str>, Vec<&'static str>, Vec<&'static str>) {
    match operation.operation_id.as_deref().unwrap_or_default() {
        "listAgents" | "listConnectedAgents" | "listEvents" | "listAgentEvents" | "listApiKeys" => {
            (vec!["invalid_request", "invalid_cursor"], vec![], vec![])
        }
        "registerAgent" => (
            vec!["unsupported_platform"],
            vec!["idempotency_conflict", "request_in_progress"],
            vec!["agent_limit_reached"],
        ),
        "enrollAgent" => (vec!["unsupported_platform"], vec!["request_in_progress"], vec![]),
        "deleteApiKey" => (vec![], vec!["last_admin_key"], vec![]),
        "enableAgent" => (vec![], vec!["agent_not_revoked"], vec![]),
        "drainAgent" | "resumeAgent" | "getManualInstall" => (vec![], vec!["agent_is_revoked"], vec![]),
        "downloadInstaller" => (vec!["unsupported_platform"], vec!["agent_is_revoked"], vec![]),
        "issueEnrollmentToken" => (vec![], vec!["agent_not_pending", "agent_is_revoked"], vec![]),
        _ => (vec![], vec![], vec![]),
    }
}

/// This document, as JSON
#[utoipa::path(
    get, path = "/api/openapi.json", operation_id = "getOpenApiJson", tag = "operation",
    responses((status = 200, description = "The OpenAPI document", content_type = "application/json", body = Object)),
)]
pub async fn json(Extension(document): Extension<Arc<Document>>) -> Response {
    text(Shared(document, |document| &document.json), "application/json")
}

/// This document, as YAML
#[utoipa::path(
    get, path = "/api/openapi.yaml", operation_id = "getOpenApiYaml", tag = "operation",
    responses((status = 200, description = "The OpenAPI document", content_type = "application/yaml", body = Object)),
)]
pub async fn yaml(Extension(document): Extension<Arc<Document>>) -> Response {
    text(Shared(document, |document| &document.yaml), "application/yaml")
}

/// One of the document's texts. All answers share it, so one that is not read holds no copy.
struct Shared(Arc<Document>, fn(&Document) -> &str);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        (self.1)(&self.0).as_bytes()
    }
}

fn text(text: Shared, media_type: &'static str) -> Response {
    let media_type = HeaderValue::from_static(media_type);
    ([(header::CONTENT_TYPE, media_type)], Bytes::from_owner(text)).into_response()
}
