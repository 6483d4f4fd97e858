//! Reads JSON bodies, and says of a bad one which field is to blame.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::Problem;
use crate::domain::invalid::Invalid;

const MOST_LEVELS: usize = 64;

/// Reads an object.
///
/// # Errors
/// `invalid_json` for what is no JSON or nested too deeply, `invalid_request` naming the field for a
/// value of the wrong type.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::invalid_json("the body is not UTF-8"))?;
    if levels(text) > MOST_LEVELS {
        return Err(Problem::invalid_json(format!("the body is nested deeper than {MOST_LEVELS} levels")));
    }
    // A list would be read as an object's fields in their order.
    if text.trim_ascii_start().starts_with('[') {
        return Err(Invalid::field("body", "wrong_type", "must be a JSON object").into());
    }
    serde_json::from_str(text).map_err(|_| blame::<T>(text))
}

/// Reads the body again, slower, to find out what is wrong with it.
fn blame<T: DeserializeOwned>(text: &str) -> Problem {
    let deserializer = &mut serde_json::Deserializer::from_str(text);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(deserializer) else {
        return Problem::invalid_json("the body goes on after its JSON object");
    };
    let field = match error.path().to_string() {
        path if path == "." => "body".to_owned(),
        path => path,
    };
    let error = error.into_inner();
    let reason = error.to_string();
    let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
    let twice = reason.strip_prefix("duplicate field `").and_then(|rest| rest.strip_suffix('`'));
    if let Some(field) = twice {
        Invalid::field(field, "repeated", "must be given once").into()
    } else if reason == "number out of range" {
        Invalid::field(field, "out_of_range", "is a number beyond all bounds").into()
    } else if error.classify() == Category::Data {
        Invalid::field(field, "wrong_type", format!("has the wrong type: {reason}")).into()
    } else {
        Problem::invalid_json(format!("the body is not valid JSON: {error}"))
    }
}

/// How deeply a JSON text is nested. Meaningless, but harmless, for what is not JSON.
fn levels(text: &str) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !in_string => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_within_strings_are_no_levels() {
        assert_eq!(levels(r#"{"[[\"[[":[[1],"\\"],"a":{}}"#), 3);
        assert_eq!(levels("]]]]"), 0);
    }
}
