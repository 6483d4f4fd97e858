//! Answers that are no errors.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use planasonix_wire::envelope::{Data, Meta, Page, PageMeta};
use serde::Serialize;

use super::{
    cursor::{self, Fingerprint},
    error::Problem,
};
use crate::domain::{Error, page::PageSize};

/// Spare capacity below this is not worth a copy.
const SPARE_BYTES: usize = 4 * 1024;

/// A JSON body with its status and headers.
pub struct Answer<T> {
    status: StatusCode,
    body: T,
    location: Option<String>,
    secret: bool,
}

impl<T> Answer<Data<T>> {
    /// One resource.
    pub fn ok(data: T) -> Self {
        Self { status: StatusCode::OK, body: Data { data }, location: None, secret: false }
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
        Ok(Self { status: StatusCode::OK, body: Page { data: rows, meta }, location: None, secret: false })
    }
}

impl<T> Answer<T> {
    /// Says that the answer carries a secret, which nothing on the way may keep.
    #[must_use]
    pub fn with_secret(self) -> Self {
        Self { secret: true, ..self }
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
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if let Some(location) = self.location.and_then(|path| HeaderValue::try_from(path).ok()) {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}
