//! Conditional requests: `If-Match`, `If-None-Match` and `If-Unmodified-Since` of RFC 9110, section 13.
//!
//! A condition on a request that changes something is either evaluated or refused with 412, never ignored: a caller who
//! believes in a lock that is not there overwrites what others wrote. `If-Modified-Since` is no condition on such
//! requests by the standard, and `If-Unmodified-Since` none where no time of modification is known; of these two, only
//! the second asks for protection, so it is refused.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, header, request::Parts},
};

use planasonix_wire::AgentId;

use super::error::Problem;
use crate::{
    db::workspace::Rows,
    domain::{Error, Result, revision::Revision},
};

const IF_MATCH: &str = "If-Match";
const IF_NONE_MATCH: &str = "If-None-Match";
const IF_UNMODIFIED_SINCE: &str = "If-Unmodified-Since";

/// The tags that a header lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tags {
    /// `*`: those of anything that exists.
    Any,
    /// Each with its quotes, and with `W/` where it is weak.
    Listed(Vec<String>),
    /// No list of tags.
    Malformed,
}

impl Tags {
    /// The tags of all lines of a header; `None` if there is none.
    pub(super) fn of(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let lines = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
        let lines: Vec<_> = lines.collect();
        (!lines.is_empty()).then(|| Self::parse(&lines.join(",")))
    }

    fn parse(list: &str) -> Self {
        if list.trim() == "*" {
            return Self::Any;
        }
        let mut tags = Vec::new();
        let mut rest = list.trim_start_matches(separates);
        while !rest.is_empty() {
            let quoted = rest.strip_prefix("W/").unwrap_or(rest);
            let content = quoted.strip_prefix('"').and_then(|content| content.split_once('"'));
            let Some((_, behind)) =
                content.filter(|(_, behind)| behind.is_empty() || behind.starts_with(separates))
            else {
                return Self::Malformed;
            };
            let (tag, _) = rest.split_at(rest.len() - behind.len());
            tags.push(tag.to_owned());
            rest = behind.trim_start_matches(separates);
        }
        Self::Listed(tags)
    }

    /// Whether the tag, which is strong, is among them; weak ones are not it.
    fn hold_strongly(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|listed| listed == tag),
            Self::Malformed => false,
        }
    }

    /// Whether the tag is among them, weak or strong.
    pub(super) fn hold_weakly(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => {
                tags.iter().any(|listed| listed.strip_prefix("W/").unwrap_or(listed) == tag)
            }
            Self::Malformed => false,
        }
    }
}

/// The strong entity tag of a revision, with its quotes.
pub(super) fn entity_tag(revision: &Revision) -> String {
    format!("\"{}\"", revision.as_str())
}

fn separates(character: char) -> bool {
    matches!(character, ',' | ' ' | '\t')
}

/// The conditions of a request for a record that has an entity tag.
#[derive(Debug, Clone)]
pub struct Preconditions {
    /// `If-Match`.
    required: Option<Tags>,
    /// `If-None-Match`.
    excluded: Option<Tags>,
    /// Whether there is an `If-Unmodified-Since`.
    unmodified_since: bool,
}

/// What a conditional read is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selected {
    /// The record.
    Whole,
    /// That it is the one that the caller has.
    Unchanged,
}

impl Preconditions {
    fn of(headers: &HeaderMap) -> Self {
        Self {
            required: Tags::of(headers, &header::IF_MATCH),
            excluded: Tags::of(headers, &header::IF_NONE_MATCH),
            unmodified_since: headers.contains_key(header::IF_UNMODIFIED_SINCE),
        }
    }

    /// Whether an agent may be changed or removed. The caller holds its lock and makes the change in the same
    /// transaction.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`], [`Error::PreconditionUnsupported`].
    pub async fn check_locked(&self, rows: &mut Rows, agent: AgentId) -> Result<()> {
        if self.required.is_none() && self.excluded.is_none() && !self.unmodified_since {
            return Ok(());
        }
        let (_, current) = rows.agents().get_with_revision(agent).await?;
        self.check_change(&current)
    }

    fn check_change(&self, current: &Revision) -> Result<()> {
        self.check_if_match(current)?;
        // `If-Match` replaces it, by the standard.
        if self.required.is_none() && self.unmodified_since {
            return Err(Error::PreconditionUnsupported { header: IF_UNMODIFIED_SINCE });
        }
        match &self.excluded {
            Some(Tags::Malformed) => Err(Error::PreconditionUnsupported { header: IF_NONE_MATCH }),
            Some(tags) if tags.hold_weakly(&entity_tag(current)) => {
                Err(Error::PreconditionFailed { header: IF_NONE_MATCH })
            }
            _ => Ok(()),
        }
    }

    /// What a read is answered with.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`].
    pub fn check_read(&self, current: &Revision) -> Result<Selected> {
        self.check_if_match(current)?;
        let known = self.excluded.as_ref().is_some_and(|tags| tags.hold_weakly(&entity_tag(current)));
        Ok(if known { Selected::Unchanged } else { Selected::Whole })
    }

    fn check_if_match(&self, current: &Revision) -> Result<()> {
        match &self.required {
            Some(tags) if !tags.hold_strongly(&entity_tag(current)) => {
                Err(Error::PreconditionFailed { header: IF_MATCH })
            }
            _ => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Preconditions {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// A request that changes something and makes no condition: what it is about has no entity tag. One that makes a
/// condition is refused.
pub struct Unconditional;

impl<S: Sync> FromRequestParts<S> for Unconditional {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Problem> {
        let conditions = [
            (header::IF_MATCH, IF_MATCH),
            (header::IF_NONE_MATCH, IF_NONE_MATCH),
            (header::IF_UNMODIFIED_SINCE, IF_UNMODIFIED_SINCE),
        ];
        match conditions.into_iter().find(|(name, _)| parts.headers.contains_key(name)) {
            Some((_, header)) => Err(Error::PreconditionUnsupported { header }.into()),
            None => Ok(Self),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn tags(lines: &[&[u8]]) -> Tags {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, HeaderValue::from_bytes(line).unwrap());
        }
        Tags::of(&headers, &header::IF_MATCH).unwrap()
    }

    #[test]
    fn tags_are_listed_whatever_stands_between_them() {
        for list in
            [&b"\"a\",W/\"b,c\""[..], b" \"a\" , W/\"b,c\" ", b",\"a\",,\t,W/\"b,c\",", b"\"a\" W/\"b,c\""]
        {
            assert_eq!(tags(&[list]), Tags::Listed(vec!["\"a\"".to_owned(), "W/\"b,c\"".to_owned()]));
        }
        assert_eq!(tags(&[b"\"a\"", b"W/\"b,c\""]), tags(&[b"\"a\", W/\"b,c\""]));
        assert_eq!(tags(&[b" * "]), Tags::Any);
        assert_eq!(tags(&[b""]), Tags::Listed(vec![]));
    }

    #[test]
    fn what_is_no_list_of_tags_holds_none() {
        for bad in [
            &b"a"[..],
            b"\"a",
            b"a\"",
            b"\"a\"\"b\"",
            b"w/\"a\"",
            b"W/a",
            b"*,\"a\"",
            b"\"a\",*",
            b"'a'",
            b"\"a\"\xff",
        ] {
            assert_eq!(tags(&[bad]), Tags::Malformed, "{bad:?}");
        }
        assert!(!Tags::Malformed.hold_strongly("\"a\"") && !Tags::Malformed.hold_weakly("\"a\""));
    }

    #[test]
    fn weak_tag_holds_for_reads_alone() {
        let weak = tags(&[b"W/\"a\""]);
        assert!(weak.hold_weakly("\"a\"") && !weak.hold_strongly("\"a\""));
    }
}
