//! Answers that are no errors.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use planasonix_wire::envelope::{Data, Meta, Page, PageMeta};
use serde::Serialize;

use super::{
    conditional::entity_tag,
    cursor::{self, Fingerprint},
    error::Problem,
};
use crate::domain::{Error, page::PageSize, revision::Revision};

/// Spare capacity below this is not worth a copy.
const SPARE_BYTES: usize = 4 * 1024;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A JSON body with its status and headers.
pub struct Answer<T> {
    status: StatusCode,
    body: T,
    location: Option<String>,
    secret: bool,
    revision: Option<Revision>,
}

impl<T> Answer<Data<T>> {
    /// One resource.
    pub fn ok(data: T) -> Self {
        Self { status: StatusCode::OK, body: Data { data }, location: None, secret: false, revision: None }
    }

    /// One resource that was just made, and where it is from now on.
    pub fn created(data: T, location: String) -> Self {
        Self { status: StatusCode::CREATED, location: Some(location), ..Self::ok(data) }
    }
}

impl<T> Answer<Page<T>> {
    /// One page of a collection, of rows that were fetched with one of lookahead.
    ///
    /// # Errors
    /// None that can happen: a cursor is always JSON.
    pub fn page<Id: Serialize>(
        mut rows: Vec<T>,
        size: PageSize,
        fingerprint: &Fingerprint,
        id: impl Fn(&T) -> Id,
    ) -> Result<Self, Error> {
        let more = size.cut(&mut rows);
        let last = rows.last().filter(|_| more);
        let cursor = last.map(|row| cursor::encode(id(row), fingerprint)).transpose()?;
        let meta = Meta { page: PageMeta { limit: Some(size.get()), cursor } };
        let body = Page { data: rows, meta };
        Ok(Self { status: StatusCode::OK, body, location: None, secret: false, revision: None })
    }
}

impl<T> Answer<T> {
    /// Says that the answer carries a secret, which nothing on the way may keep.
    #[must_use]
    pub fn with_secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Sets the `ETag` of the agent that the answer shows.
    #[must_use]
    pub fn with_revision(self, revision: Revision) -> Self {
        Self { revision: Some(revision), ..self }
    }
}

/// 304, for a caller who has this revision.
pub fn not_modified(revision: &Revision) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    set_tag(response.headers_mut(), revision);
    response
}

/// The tag says nothing of what agents report, such as `last_seen_at`: a cache that revalidated by it would go on
/// showing old times, so none may keep the answer.
fn set_tag(headers: &mut HeaderMap, revision: &Revision) {
    if let Ok(tag) = HeaderValue::try_from(entity_tag(revision)) {
        headers.insert(header::ETAG, tag);
        headers.insert(header::CACHE_CONTROL, NO_STORE);
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let mut body = match serde_json::to_vec(&self.body) {
            Ok(body) => body,
            Err(error) => return Problem::from(Error::Internal(error.into())).into_response(),
        };
        // Text grows by doubling, and a caller who does not read would keep the spare half too.
        if body.capacity() - body.len() > SPARE_BYTES {
            body.shrink_to_fit();
        }
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.secret {
            headers.insert(header::CACHE_CONTROL, NO_STORE);
        }
        if let Some(revision) = &self.revision {
            set_tag(headers, revision);
        }
        if let Some(location) = self.location.and_then(|path| HeaderValue::try_from(path).ok()) {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}
