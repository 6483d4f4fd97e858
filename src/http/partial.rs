//! Answers in part, or not again: `Range`, `If-Range` and `If-None-Match`, of RFC 9110.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderValue, Method, header};

use super::conditional::Tags;

/// What a request wants of a body that has a strong entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These of its bytes, at least one.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Nothing,
    /// Only to know that it is still the one that the caller has.
    Unchanged,
}

impl Wanted {
    /// Reads a request's headers. Whatever is not understood, or asks for several parts, asks for the whole.
    pub fn of(method: &Method, headers: &HeaderMap, tag: &str, length: u64) -> Self {
        if knows(headers, tag) {
            return Self::Unchanged;
        }
        let same = headers.get(header::IF_RANGE).is_none_or(|given| given.as_bytes() == tag.as_bytes());
        let mut ranges = headers.get_all(header::RANGE).iter();
        match (ranges.next().and_then(text), ranges.next()) {
            (Some(range), None) if same && method == Method::GET => part(range, length),
            _ => Self::Whole,
        }
    }
}

/// Whether the caller names the tag among those that it has.
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    Tags::of(headers, &header::IF_NONE_MATCH).is_some_and(|tags| tags.hold_weakly(tag))
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

fn part(range: &str, length: u64) -> Wanted {
    parse(range).map_or(Wanted::Whole, |asked| match asked {
        Asked::Last(0) => Wanted::Nothing,
        Asked::Last(_) if length == 0 => Wanted::Nothing,
        Asked::Last(bytes) => Wanted::Part(length.saturating_sub(bytes)..length),
        Asked::From(first, _) if first >= length => Wanted::Nothing,
        Asked::From(first, last) => Wanted::Part(first..last.min(length - 1) + 1),
    })
}

/// One range as it is asked for.
enum Asked {
    /// From this byte through that one.
    From(u64, u64),
    /// So many at the end.
    Last(u64),
}

fn parse(range: &str) -> Option<Asked> {
    let (unit, set) = range.split_once('=')?;
    let (first, last) = set.trim().split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first, last) {
        ("", last) => Some(Asked::Last(number(last)?)),
        (first, "") => Some(Asked::From(number(first)?, u64::MAX)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Asked::From(first, last))
        }
    }
}

/// A number of any length; one that is too large for us is larger than anything that we have.
fn number(digits: &str) -> Option<u64> {
    let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"tag\"";

    fn wanted(method: Method, given: &[(&'static str, &str)]) -> Wanted {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Wanted::of(&method, &headers, TAG, 100)
    }

    #[test]
    fn one_range_is_one_part() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-99", 0..100),
            ("bytes=0-", 0..100),
            ("bytes=7-8", 7..9),
            ("BYTES=99-99", 99..100),
            ("bytes= 7-8 ", 7..9),
            ("bytes=50-1000", 50..100),
            ("bytes=50-99999999999999999999999", 50..100),
            ("bytes=-1", 99..100),
            ("bytes=-100", 0..100),
            ("bytes=-1000", 0..100),
        ] {
            assert_eq!(wanted(Method::GET, &[("range", range)]), Wanted::Part(part), "{range}");
        }
    }

    #[test]
    fn what_is_not_there_is_nothing_and_what_is_not_understood_is_the_whole() {
        for range in ["bytes=100-", "bytes=100-200", "bytes=99999999999999999999999-", "bytes=-0"] {
            assert_eq!(wanted(Method::GET, &[("range", range)]), Wanted::Nothing, "{range}");
        }
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=2-1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0-0,2-2",
            "bytes=0x0-1",
            "lines=0-1",
            "bytes:0-1",
            "bytes=0-1;",
            "=0-1",
        ] {
            assert_eq!(wanted(Method::GET, &[("range", range)]), Wanted::Whole, "{range}");
        }
        let twice = [("range", "bytes=0-1"), ("range", "bytes=0-1")];
        assert_eq!(wanted(Method::GET, &twice), Wanted::Whole);
        assert_eq!(wanted(Method::HEAD, &[("range", "bytes=0-1")]), Wanted::Whole);
    }

    #[test]
    fn a_part_of_something_else_is_the_whole() {
        let range = ("range", "bytes=0-1");
        assert_eq!(wanted(Method::GET, &[range, ("if-range", TAG)]), Wanted::Part(0..2));
        for other in ["\"other\"", "W/\"tag\"", "tag", "*", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(wanted(Method::GET, &[range, ("if-range", other)]), Wanted::Whole, "{other}");
        }
    }

    #[test]
    fn a_known_tag_is_told_unchanged() {
        let range = ("range", "bytes=0-1");
        for known in [TAG, "*", "W/\"tag\"", "\"a\", \"tag\"", "\"a\",W/\"tag\" , \"b\""] {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(wanted(method, &[("if-none-match", known), range]), Wanted::Unchanged, "{known}");
            }
        }
        for other in ["\"other\"", "tag", "\"tag", ""] {
            assert_eq!(wanted(Method::GET, &[("if-none-match", other)]), Wanted::Whole, "{other}");
        }
    }
}
