//! An answer, taken whole, with what tests ask of it.

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;

/// An answer with its body.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn take(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `data` of an answer that must have this status.
    #[track_caller]
    pub fn data(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()["data"].clone()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts an error and what every error must have; gives its `error` object.
    #[track_caller]
    pub fn error(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{self:?}");
        assert_eq!(error["request_id"], self.header("x-request-id").unwrap());
        assert!(!error["message"].as_str().unwrap().is_empty());
        if status == 401 {
            assert_eq!(self.header("www-authenticate"), Some("Bearer"));
        }
        if matches!(status, 429 | 503) {
            let seconds: u32 = self.header("retry-after").unwrap().parse().unwrap();
            assert!(seconds >= 1);
        }
        error
    }
}
