//! One text for all JSON texts of the same meaning, to compare what two requests ask for.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::value::RawValue;

/// The canonical text of a JSON value: no white space, keys in order, the last of equal keys alone, strings with the
/// fewest escapes, numbers by their exact decimal value.
///
/// # Errors
/// A string holds half of a surrogate pair.
pub fn canonical(value: &RawValue) -> serde_json::Result<String> {
    let mut text = String::new();
    write(value.get(), &mut text)?;
    Ok(text)
}

fn write(json: &str, text: &mut String) -> serde_json::Result<()> {
    match json.as_bytes().first() {
        Some(b'{') => object(&serde_json::from_str(json)?, text),
        Some(b'[') => array(&serde_json::from_str::<Vec<_>>(json)?, text),
        Some(b'"') => string(&serde_json::from_str::<Cow<'_, str>>(json)?, text),
        Some(b'-' | b'0'..=b'9') => {
            text.push_str(&number(json));
            Ok(())
        }
        _ => {
            text.push_str(json);
            Ok(())
        }
    }
}

fn object(fields: &BTreeMap<String, &RawValue>, text: &mut String) -> serde_json::Result<()> {
    text.push('{');
    for (index, (key, value)) in fields.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        string(key, text)?;
        text.push(':');
        write(value.get(), text)?;
    }
    text.push('}');
    Ok(())
}

fn array(values: &[&RawValue], text: &mut String) -> serde_json::Result<()> {
    text.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(value.get(), text)?;
    }
    text.push(']');
    Ok(())
}

fn string(value: &str, text: &mut String) -> serde_json::Result<()> {
    text.push_str(&serde_json::to_string(value)?);
    Ok(())
}

/// A number as its digits without leading and trailing zeros and the power of ten that they are multiplied by; an
/// integer with fewer than 20 zeros at its end as such. No double: two large integers may share one.
fn number(json: &str) -> String {
    let (sign, unsigned) = json.strip_prefix('-').map_or(("", json), |rest| ("-", rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return "0".to_owned();
    }
    // No text of a request is long enough for these to be wrong, and an exponent beyond `i64` keeps its own text.
    let places = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let zeros = places(&digits) - places(digits.trim_end_matches('0'));
    let scale = zeros - places(fraction);
    match exponent.parse::<i64>().ok().and_then(|exponent| exponent.checked_add(scale)) {
        Some(power @ 0..20) => {
            let zeros = "0".repeat(usize::try_from(power).unwrap_or_default());
            format!("{sign}{significant}{zeros}")
        }
        Some(power) => format!("{sign}{significant}e{power}"),
        None => {
            let (minus, digits) = exponent.strip_prefix('-').map_or(("", exponent), |rest| ("-", rest));
            format!("{sign}{significant}e{scale}e{minus}{}", digits.trim_start_matches(['+', '0']))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(json: &str) -> String {
        canonical(&RawValue::from_string(json.to_owned()).unwrap()).unwrap()
    }

    #[test]
    fn texts_of_one_meaning_have_one_canonical_text() {
        for (canonical, texts) in [
            ("{}", &["{}", "{ }", "{\n\t}"][..]),
            (
                r#"{"a":1,"b":[true,null]}"#,
                &[r#"{"b":[true,null],"a":1}"#, r#"{ "a" : 1.0 , "b" : [ true , null ] }"#],
            ),
            (r#"{"a":2}"#, &[r#"{"a":1,"a":2}"#, r#"{"\u0061":2}"#]),
            (r#"{"x":{"a":{},"b":[]}}"#, &[r#"{"x":{"b":[ ],"a":{ }}}"#]),
            (r#""é/\"\n""#, &[r#""\u00e9\/\u0022\u000A""#, "\"é/\\\"\\n\""]),
            (r#""🚀""#, &[r#""\ud83d\ude80""#, r#""\uD83D\uDE80""#]),
            ("0", &["0", "-0", "0.0", "-0e5", "0E-999999999999999999999", "0.000e7"]),
            ("1", &["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000"]),
            ("-150", &["-150", "-1.5e2", "-150.0", "-15E1"]),
            ("15e-1", &["1.5", "1.50", "15e-1", "0.15e1"]),
            ("1e21", &["1e21", "1000000000000000000000", "1E+21", "10e20"]),
            ("12345678901234567890123", &["12345678901234567890123", "12345678901234567890123.0"]),
            ("1e999", &["1e999", "10e998", "0.1e1000"]),
            ("1e0e99999999999999999999", &["1e99999999999999999999", "1.0E+099999999999999999999"]),
            ("[1,2]", &["[1,2]", "[1.0, 2]"]),
        ] {
            for text in texts {
                assert_eq!(of(text), canonical, "{text}");
            }
        }
    }

    #[test]
    fn texts_of_different_meanings_differ() {
        for (one, other) in [
            ("[1,2]", "[2,1]"),
            ("1", "\"1\""),
            ("null", "{}"),
            (r#"{"a":null}"#, "{}"),
            ("12345678901234567890123", "12345678901234567890124"),
            ("9007199254740993", "9007199254740992"),
            ("1e999", "1e998"),
            ("1e99999999999999999999", "1e99999999999999999998"),
            ("10e99999999999999999999", "1e99999999999999999999"),
            ("1e99999999999999999999", "1e-99999999999999999999"),
            ("0.1", "0.10000000000000001"),
            ("1", "-1"),
            (r#"["a"]"#, r#"["A"]"#),
            (r#"{"é":1}"#, r#"{"e\u0301":1}"#),
        ] {
            assert_ne!(of(one), of(other), "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_has_the_meaning_and_stays(digits in "-?(0|[1-9][0-9]{0,6})(\\.[0-9]{1,4})?([eE][+-]?[0-9])?", key: String) {
            let text = format!("{{ {} : [{digits}] }}", serde_json::to_string(&key).unwrap());
            let canonical = of(&text);
            let read = |json: &str| serde_json::from_str::<BTreeMap<String, Vec<f64>>>(json).unwrap();
            prop_assert_eq!(read(&canonical), read(&text));
            prop_assert_eq!(of(&canonical), canonical);
        }
    }
}
