//! Answers as text, for snapshots. What differs from run to run is named by its kind, which also checks its
//! form; everything else stands as it was sent, in its order.

use std::fmt::Write;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Answer;

const CROCKFORD: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Where the answer came from and how it was framed, not what it says.
const UNTOLD_HEADERS: [&str; 3] = ["date", "content-length", "transfer-encoding"];

impl Answer {
    /// Status, headers by name, and the body as it was sent.
    pub fn show(&self) -> String {
        let mut text = format!("{}\n", self.status);
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| !UNTOLD_HEADERS.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        headers.sort_unstable();
        for (name, value) in headers {
            let value: Vec<_> = value.split('/').map(named).collect();
            writeln!(text, "{name}: {}", value.join("/")).unwrap();
        }
        if !self.text.is_empty() {
            text.push('\n');
            show(&mut text, "", &self.text, 0);
        }
        text
    }
}

/// The time that a prefixed ULID holds, as the API writes times.
pub fn time_of(id: &str) -> String {
    let ulid = id.rsplit('_').next().unwrap();
    let millis = ulid.bytes().take(10).fold(0, |millis, digit| {
        let digit = CROCKFORD.iter().position(|&known| known == digit).unwrap();
        millis * 32 + i64::try_from(digit).unwrap()
    });
    let at = chrono::DateTime::from_timestamp_millis(millis).unwrap();
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An object's fields in their order, each as its text.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

fn show(text: &mut String, name: &str, json: &str, depth: usize) {
    let margin = "  ".repeat(depth);
    match json.as_bytes()[0] {
        b'{' => {
            let Fields(fields) = serde_json::from_str(json).unwrap();
            text.push('{');
            for (i, (name, value)) in fields.iter().enumerate() {
                write!(text, "{}\n{margin}  \"{name}\": ", if i > 0 { "," } else { "" }).unwrap();
                show(text, name, value.get(), depth + 1);
            }
            text.push_str(&closing(fields.is_empty(), &margin, '}'));
        }
        b'[' => {
            let rows: Vec<&RawValue> = serde_json::from_str(json).unwrap();
            text.push('[');
            for (i, row) in rows.iter().enumerate() {
                write!(text, "{}\n{margin}  ", if i > 0 { "," } else { "" }).unwrap();
                show(text, name, row.get(), depth + 1);
            }
            text.push_str(&closing(rows.is_empty(), &margin, ']'));
        }
        b'"' => {
            let string: String = serde_json::from_str(json).unwrap();
            match named(&string) {
                same if same == string => text.push_str(json),
                kind => write!(text, "\"{kind}\"").unwrap(),
            }
        }
        _ if name == "heartbeat_interval_seconds" && (27..=33).contains(&json.parse().unwrap()) => {
            text.push_str("[27 to 33]");
        }
        _ => text.push_str(json),
    }
}

fn closing(empty: bool, margin: &str, bracket: char) -> String {
    if empty { bracket.to_string() } else { format!("\n{margin}{bracket}") }
}

/// The kind of a text that no two runs share; any other text as it is.
fn named(text: &str) -> &str {
    let word = |rest: &str| rest.len() > 60 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if text.strip_prefix("agt_").is_some_and(is_ulid) {
        "[agent id]"
    } else if text.strip_prefix("key_").is_some_and(is_ulid) {
        "[key id]"
    } else if text.strip_prefix("plnx_live_").is_some_and(is_ulid) {
        "[key prefix]"
    } else if text.strip_prefix("plnx_live_").is_some_and(word) {
        "[key secret]"
    } else if is_time(text) {
        "[time]"
    } else if is_entity_tag(text) {
        "[entity tag]"
    } else if text.strip_prefix("plnx_enroll_").is_some_and(word) {
        "[enrollment token]"
    } else if text.strip_prefix("plnx_agent_").is_some_and(word) {
        "[credential]"
    } else if text
        .strip_prefix("req_")
        .is_some_and(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        "[request id]"
    } else {
        text
    }
}

fn is_ulid(text: &str) -> bool {
    text.len() == 26 && text.as_bytes()[0] <= b'7' && text.bytes().all(|b| CROCKFORD.contains(&b))
}

fn is_entity_tag(text: &str) -> bool {
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    tag.is_some_and(|tag| tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_time(text: &str) -> bool {
    text.len() == 20
        && text.bytes().zip(*b"0000-00-00T00:00:00Z").all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == form,
        })
}
