//! What an operator stores with an agent: any JSON object, given back exactly as it came.

use std::{borrow::Cow, collections::BTreeSet};

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{canonical_json::canonical, invalid::Checks};

const MOST_BYTES: usize = 16 * 1024;

/// The text of a JSON object of at most 16 KiB without U+0000 in it.
#[derive(Debug, Clone)]
pub struct Metadata(Box<RawValue>);

impl Metadata {
    /// Takes a field of a request; what is wrong with it goes to `checks`.
    pub fn check(checks: &mut Checks, field: &str, raw: Box<RawValue>) -> Self {
        let text = raw.get();
        if !text.starts_with('{') {
            checks.fail(field, "wrong_type", "must be an object");
        } else if text.len() > MOST_BYTES {
            checks.fail(field, "too_large", format!("must have at most {MOST_BYTES} bytes"));
        } else if let Some(advice) = strings(text).find_map(unstorable) {
            checks.fail(field, "invalid_character", advice);
        }
        Self(raw)
    }

    /// Takes what the database kept.
    pub fn stored(raw: Box<RawValue>) -> Self {
        Self(raw)
    }

    /// The object as it was given.
    pub fn raw(&self) -> &RawValue {
        &self.0
    }

    /// The same text for all objects of the same meaning.
    pub fn canonical(&self) -> String {
        // Half a surrogate pair, which has no canonical text, was refused by `check`.
        canonical(&self.0).unwrap_or_else(|_| self.0.get().to_owned())
    }

    /// The object with the host name that the agent reported, unless the operator set that key.
    ///
    /// # Errors
    /// The stored text is not an object.
    pub fn with_hostname(self, hostname: Option<&str>) -> serde_json::Result<Box<RawValue>> {
        let Some(hostname) = hostname else {
            return Ok(self.0);
        };
        let keys = serde_json::Deserializer::from_str(self.0.get()).deserialize_map(Keys)?;
        if keys.contains("hostname") {
            return Ok(self.0);
        }
        let comma = if keys.is_empty() { "" } else { "," };
        let rest = self.0.get().strip_prefix('{').unwrap_or_default();
        RawValue::from_string(format!(r#"{{"hostname":{}{comma}{rest}"#, serde_json::to_string(hostname)?))
    }
}

/// Reads an object's keys, whatever their values.
struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = BTreeSet<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry()? {
            keys.insert(key);
        }
        Ok(keys)
    }
}

/// Every string literal of a valid JSON text, quotes included.
fn strings(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        let (_, from_quote) = rest.split_at_checked(rest.find('"')?)?;
        let mut escaped = false;
        let closing = from_quote.char_indices().skip(1).find(|&(_, character)| {
            let closes = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            closes
        });
        let (literal, tail) = from_quote.split_at_checked(closing?.0 + 1)?;
        rest = tail;
        Some(literal)
    })
}

/// Why a string literal cannot be stored, if it cannot. Numbers of any size can.
fn unstorable(literal: &str) -> Option<&'static str> {
    match serde_json::from_str::<Cow<'_, str>>(literal) {
        Ok(text) if text.contains('\0') => Some("must not contain U+0000"),
        Ok(_) => None,
        Err(_) => Some("must not contain half of a surrogate pair"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<Metadata, String> {
        let mut checks = Checks::default();
        let metadata =
            Metadata::check(&mut checks, "metadata", RawValue::from_string(json.to_owned()).unwrap());
        checks.finish().map(|()| metadata).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn any_object_is_kept_to_the_letter() {
        for json in [r#"{"b":1e999,"a":1.10, "é\\":"\\u0000 \"","a":[]}"#, "{}", r#"{"x":{"y":["\"", 1]}}"#]
        {
            assert_eq!(check(json).unwrap().raw().get(), json);
        }
    }

    #[test]
    fn what_cannot_be_stored_is_named() {
        for (json, advice) in [
            (r#"{"a":["b","\u0000"]}"#, "metadata must not contain U+0000"),
            (r#"{"\u0000":1}"#, "metadata must not contain U+0000"),
            (r#"{"a":"\\\ud800"}"#, "metadata must not contain half of a surrogate pair"),
            ("[1]", "metadata must be an object"),
            (&format!(r#"{{"a":"{}"}}"#, "x".repeat(MOST_BYTES)), "metadata must have at most 16384 bytes"),
        ] {
            assert_eq!(check(json).unwrap_err(), advice);
        }
    }

    #[test]
    fn the_reported_hostname_shows_unless_the_operator_set_it() {
        for (json, shown) in [
            ("{}", r#"{"hostname":"h\""}"#),
            (r#"{"a":1e999}"#, r#"{"hostname":"h\"","a":1e999}"#),
            (r#"{ "hostname" :null}"#, r#"{ "hostname" :null}"#),
        ] {
            assert_eq!(check(json).unwrap().with_hostname(Some("h\"")).unwrap().get(), shown);
            assert_eq!(check(json).unwrap().with_hostname(None).unwrap().get(), json);
        }
    }
}
