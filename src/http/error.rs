//! From what went wrong to what is told: the one place that turns an error into a response.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use planasonix_wire::envelope::{Action, Detail, Error as ErrorJson, ErrorBody};

use crate::domain::{
    Error,
    error::{Cause, whole_seconds},
    invalid::{BadField, Invalid},
};

/// How long a caller is asked to wait when the service cannot answer.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The same where only the service's operator can help.
const RETRY_AFTER_RESTART_SECONDS: u64 = 3600;
/// The longest pause between two attempts to prepare an installer.
const RETRY_AFTER_PREPARATION_SECONDS: u64 = 60;

/// The code of a body under a `Content-Encoding`. Its answer names the one that is understood.
pub const UNSUPPORTED_CONTENT_ENCODING: &str = "unsupported_content_encoding";

/// An error as a response: what is told, and apart from it, what is only logged.
#[derive(Debug)]
pub struct Problem {
    /// The status; each code has one.
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    message: String,
    details: Vec<Detail>,
    action: Option<Action>,
    retry_after: Option<u64>,
    cause: Option<Cause>,
}

impl Problem {
    /// An error that names no field.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
            action: None,
            retry_after: None,
            cause: None,
        }
    }

    /// The service cannot answer, for a reason that may be told; asking again may help.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..problem }
    }

    /// The caller holds more than its share of something that is free again within about a second.
    pub fn rate_limited(message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..problem }
    }

    /// A body that is not JSON.
    pub fn invalid_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_json", message)
    }

    /// The same, telling an agent what to do.
    #[must_use]
    pub fn for_agent(mut self) -> Self {
        self.action = Some(match (self.status, self.code) {
            (StatusCode::UNAUTHORIZED, _) | (_, "credential_rotated" | "credential_expired") => {
                Action::ReEnroll
            }
            (_, "agent_revoked" | "agent_not_found") => Action::Stop,
            _ => Action::Retry,
        });
        self
    }

    /// What is only logged.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// After how many seconds the caller may try again, if that is known.
    pub fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// The envelope as JSON.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let body = ErrorBody {
            error: ErrorJson {
                code: self.code.to_owned(),
                message: self.message.clone(),
                details: self.details.clone(),
                action: self.action,
                request_id: request_id.to_owned(),
            },
        };
        // Strings and numbers always are JSON.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// The response, under the id that the logs know the request by.
    pub fn render(&self, request_id: &str) -> Response {
        let mut response = Response::new(Body::from(self.body(request_id)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == UNSUPPORTED_CONTENT_ENCODING {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    fn with_detail(self, field: &str, issue: &str) -> Self {
        Self { details: vec![Detail { field: field.to_owned(), issue: issue.to_owned() }], ..self }
    }

    fn invalid(invalid: &Invalid) -> Self {
        let code = match invalid.fields() {
            [BadField { field, issue: "unsupported", .. }] if field == "platform" => "unsupported_platform",
            _ => "invalid_request",
        };
        let details = invalid
            .fields()
            .iter()
            .map(|bad| Detail { field: bad.field.clone(), issue: bad.issue.to_owned() })
            .collect();
        Self { details, ..Self::new(StatusCode::BAD_REQUEST, code, invalid.to_string()) }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(&invalid)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        use StatusCode as S;
        let (status, code) = match &error {
            Error::Invalid(invalid) => return Self::invalid(invalid),
            Error::InvalidCursor => (S::BAD_REQUEST, "invalid_cursor"),

            Error::Unauthenticated => (S::UNAUTHORIZED, "unauthenticated"),
            Error::ApiKeyRevoked => (S::UNAUTHORIZED, "api_key_revoked"),
            Error::ApiKeyExpired => (S::UNAUTHORIZED, "api_key_expired"),
            Error::EnrollmentTokenInvalid => (S::UNAUTHORIZED, "enrollment_token_invalid"),
            Error::EnrollmentTokenExpired => (S::UNAUTHORIZED, "enrollment_token_expired"),
            Error::EnrollmentTokenUsed => (S::UNAUTHORIZED, "enrollment_token_used"),

            Error::InsufficientScope(_) => (S::FORBIDDEN, "insufficient_scope"),
            Error::AgentLimitReached(_) => (S::FORBIDDEN, "agent_limit_reached"),
            Error::AgentRevoked => (S::FORBIDDEN, "agent_revoked"),
            Error::CredentialRotated => (S::FORBIDDEN, "credential_rotated"),
            Error::CredentialExpired => (S::FORBIDDEN, "credential_expired"),

            Error::AgentNotFound => (S::NOT_FOUND, "agent_not_found"),
            Error::ApiKeyNotFound => (S::NOT_FOUND, "api_key_not_found"),

            Error::InstallerUnavailable { .. }
            | Error::InstallerBeingBuilt(_)
            | Error::InstallerBeingPacked(_) => (S::NOT_FOUND, "installer_unavailable"),

            Error::AgentNotRevoked => (S::CONFLICT, "agent_not_revoked"),
            Error::AgentNotPending => (S::CONFLICT, "agent_not_pending"),
            Error::AgentIsRevoked => (S::CONFLICT, "agent_is_revoked"),

            Error::LastAdminKey => (S::CONFLICT, "last_admin_key"),
            Error::IdempotencyConflict => (S::CONFLICT, "idempotency_conflict"),
            Error::RequestInProgress => (S::CONFLICT, "request_in_progress"),

            Error::PreconditionFailed { .. } | Error::PreconditionUnsupported { .. } => {
                (S::PRECONDITION_FAILED, "precondition_failed")
            }

            Error::RateLimited { .. } => (S::TOO_MANY_REQUESTS, "rate_limited"),
            Error::Unavailable(_) | Error::NoPublicUrl | Error::InstallerFailed { .. } => {
                (S::SERVICE_UNAVAILABLE, "unavailable")
            }
            Error::Internal(_) => (S::INTERNAL_SERVER_ERROR, "internal"),
        };
        let problem = Self::new(status, code, error.to_string());
        match error {
            Error::Unavailable(cause) => {
                Self { cause: Some(cause), retry_after: Some(RETRY_AFTER_SECONDS), ..problem }
            }
            Error::NoPublicUrl => Self { retry_after: Some(RETRY_AFTER_RESTART_SECONDS), ..problem },
            Error::InstallerFailed { .. } => {
                Self { retry_after: Some(RETRY_AFTER_PREPARATION_SECONDS), ..problem }
            }
            Error::RateLimited { retry_after } => {
                Self { retry_after: Some(whole_seconds(retry_after)), ..problem }
            }
            Error::Internal(cause) => Self { cause: Some(cause), ..problem },
            Error::PreconditionFailed { header } => problem.with_detail(header, "not_met"),
            Error::PreconditionUnsupported { header } => problem.with_detail(header, "unsupported"),
            _ => problem,
        }
    }
}

/// Hands the problem on to the edge, which knows the request's id and renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(std::sync::Arc::new(self));
        response
    }
}
