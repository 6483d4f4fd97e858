//! Decodes the query of a request (`application/x-www-form-urlencoded`) without repairing it.
//!
//! The usual decoders replace what is not UTF-8 by U+FFFD and keep a malformed escape as it stands, so a filter would
//! search for a text that the caller did not send.

use std::collections::BTreeSet;

use crate::domain::invalid::Invalid;

/// Bad parameters that one answer names.
const MAX_NAMED: usize = 16;
/// Characters of a name that cannot be decoded, of those that the answer repeats.
const MAX_NAME_CHARS: usize = 64;

/// Names and values in their order. `+` is a blank; a parameter without `=` has an empty value.
///
/// # Errors
/// Names each parameter whose name or value has a malformed escape or is not UTF-8. A name that cannot be decoded is
/// repeated as it was sent.
pub fn parse(query: &str) -> Result<Vec<(String, String)>, Invalid> {
    let mut parameters = Vec::new();
    let mut bad = BTreeSet::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (decode(name), decode(value)) {
            (Some(name), Some(value)) => parameters.push((name, value)),
            (Some(name), None) => drop(bad.insert(name)),
            (None, _) => drop(bad.insert(name.chars().take(MAX_NAME_CHARS).collect())),
        }
    }
    if bad.is_empty() { Ok(parameters) } else { Err(refusal(bad)) }
}

fn refusal(bad: BTreeSet<String>) -> Invalid {
    let advice = "must be UTF-8, with % and two hexadecimal digits for each escaped byte";
    let named = bad.into_iter().take(MAX_NAMED);
    Invalid::fields_of(named.map(|name| (name, "invalid_encoding", advice.to_owned())))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_decoded_in_its_order() {
        for (query, expected) in [
            ("", &[][..]),
            ("&&", &[]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("=b", &[("", "b")]),
            ("a=b=c&a=d", &[("a", "b=c"), ("a", "d")]),
            ("a+b=c+d%2B%26%3d%25", &[("a b", "c d+&=%")]),
            ("%C3%B6=%f0%9F%9a%80", &[("ö", "🚀")]),
            ("ö=%00", &[("ö", "\0")]),
            ("a=%EF%BF%BD", &[("a", "\u{fffd}")]),
        ] {
            let decoded = parse(query).unwrap();
            let decoded: Vec<_> =
                decoded.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(decoded, expected, "{query}");
        }
    }

    #[test]
    fn every_parameter_that_cannot_be_decoded_is_named_once() {
        for (query, expected) in [
            ("a=%", &["a"][..]),
            ("a=%4", &["a"]),
            ("a=%zz", &["a"]),
            ("a=%+1", &["a"]),
            ("a=%u0041", &["a"]),
            ("a=100%&b=1", &["a"]),
            ("a=%ff", &["a"]),
            ("a=%C3", &["a"]),
            ("a=%C0%80", &["a"]),
            ("a=%ED%A0%80", &["a"]),
            ("a=%F4%90%80%80", &["a"]),
            ("a=%E9t%E9&a=%ff&ok=1", &["a"]),
            ("%C3%B6=%ff", &["ö"]),
            ("l%FFbel=1", &["l%FFbel"]),
            ("%=1", &["%"]),
            ("b=%ff&%ff&a=%", &["%ff", "a", "b"]),
        ] {
            let refused = parse(query).unwrap_err();
            let named: Vec<_> = refused.fields().iter().map(|bad| bad.field.as_str()).collect();
            assert_eq!(named, expected, "{query}");
            assert!(refused.fields().iter().all(|bad| bad.issue == "invalid_encoding"));
        }
    }

    #[test]
    fn answer_to_many_bad_parameters_is_short() {
        let query: Vec<_> = (0..3_000).map(|number| format!("%{}{number}", "x".repeat(200))).collect();
        let refused = parse(&query.join("&")).unwrap_err();
        assert!(refused.to_string().len() < 4_000, "{}", refused.to_string().len());
    }
}
