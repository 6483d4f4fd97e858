//! Does a value fit its schema? Stricter than JSON Schema: a field that the schema does not name is a
//! complaint, and so is a word of the schema that this file does not know.

use regex::Regex;
use serde_json::{Map, Value};

/// What speaks against a value, each with the place where it stands.
pub fn complaints(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Checker { document }.check(schema, value, "", &mut found);
    found
}

/// Words that describe and do not restrict.
const DESCRIBING: [&str; 5] = ["description", "example", "examples", "title", "default"];

struct Checker<'d> {
    document: &'d Value,
}

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        let schema = schema.as_object().unwrap();
        for (word, rule) in schema {
            if !self.fits(schema, word, rule, value, at, found) {
                found.push(format!("{at}: {value} breaks {word}: {rule}"));
            }
        }
        if let (Some(object), true) = (value.as_object(), names_fields(schema)) {
            for field in object.keys().filter(|field| rule_of(schema, field).is_none()) {
                found.push(format!("{at}: the schema does not name {field}"));
            }
        }
    }

    fn fits(
        &self,
        schema: &Map<String, Value>,
        word: &str,
        rule: &Value,
        value: &Value,
        at: &str,
        found: &mut Vec<String>,
    ) -> bool {
        match word {
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                let target = self.document.pointer(pointer);
                self.check(target.unwrap(), value, at, found);
                true
            }
            "oneOf" => {
                let fitting = rule.as_array().unwrap().iter();
                fitting.filter(|one| complaints(self.document, one, value).is_empty()).count() == 1
            }
            "properties" => {
                for (field, value) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = rule_of(schema, field) {
                        self.check(rule, value, &format!("{at}/{field}"), found);
                    }
                }
                true
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(rule, value, &format!("{at}/{index}"), found);
                }
                true
            }
            _ => restricts(word, rule, value).unwrap_or_else(|| DESCRIBING.contains(&word)),
        }
    }
}

/// Words that look at the value alone; `None` for a word that is not one of them.
fn restricts(word: &str, rule: &Value, value: &Value) -> Option<bool> {
    let number = value.as_f64().zip(rule.as_f64());
    let length =
        |length: Option<usize>| length.zip(rule.as_u64().and_then(|most| usize::try_from(most).ok()));
    let chars = length(value.as_str().map(|text| text.chars().count()));
    Some(match word {
        "type" => types(rule).any(|name| is_of(name, value)),
        "required" => {
            let object = value.as_object();
            let mut fields = rule.as_array().unwrap().iter().map(|field| field.as_str().unwrap());
            object.is_none_or(|object| fields.all(|field| object.contains_key(field)))
        }
        "enum" => rule.as_array().unwrap().contains(value),
        "minimum" => number.is_none_or(|(value, least)| value >= least),
        "maximum" => number.is_none_or(|(value, most)| value <= most),
        "minLength" => chars.is_none_or(|(chars, least)| chars >= least),
        "maxLength" => chars.is_none_or(|(chars, most)| chars <= most),
        "maxItems" => length(value.as_array().map(Vec::len)).is_none_or(|(items, most)| items <= most),
        "pattern" => {
            let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
            value.as_str().is_none_or(|text| pattern.is_match(text))
        }
        "format" => has_format(rule.as_str().unwrap(), value)?,
        _ => return None,
    })
}

fn types(rule: &Value) -> impl Iterator<Item = &str> {
    let list = rule.as_array().map_or(std::slice::from_ref(rule), Vec::as_slice);
    list.iter().map(|name| name.as_str().unwrap())
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    }
}

/// Times are whole seconds in UTC, everywhere.
fn has_format(format: &str, value: &Value) -> Option<bool> {
    let time = || Regex::new(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$").unwrap();
    match format {
        "date-time" => Some(value.as_str().is_none_or(|text| time().is_match(text))),
        "int32" => Some(value.as_i64().is_none_or(|number| i32::try_from(number).is_ok())),
        "binary" => Some(value.is_string()),
        "double" => Some(value.is_number() || value.is_null()),
        _ => None,
    }
}

/// A bare `object` may hold anything.
fn names_fields(schema: &Map<String, Value>) -> bool {
    schema.contains_key("properties")
}

fn rule_of<'s>(schema: &'s Map<String, Value>, field: &str) -> Option<&'s Value> {
    schema.get("properties")?.get(field)
}
