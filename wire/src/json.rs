//! The pieces that JSON bodies are made of.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected, Visitor},
};
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};

/// An instant as the API writes it: RFC 3339, UTC with `Z`, whole seconds (fractions are cut off).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Timestamp(DateTime<Utc>);

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(at: Timestamp) -> Self {
        at.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2025-03-27T15:00:00Z"])
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

/// A field of a merge patch (RFC 7396): left out, `null`, or a value.
///
/// Fields of this type stand under `#[serde(default, skip_serializing_if = "Patch::is_keep")]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Patch<T> {
    /// Left out: the stored value stays.
    #[default]
    Keep,
    /// `null`: the stored value goes.
    Clear,
    /// A new value.
    Set(T),
}

impl<T> Patch<T> {
    /// Whether the field was left out.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The new value, if there is one.
    pub const fn set(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// Takes over what `later` says; what it leaves out stays.
    pub fn merge(&mut self, later: Self) {
        if !later.is_keep() {
            *self = later;
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T: Serialize> Serialize for Patch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.set().serialize(serializer)
    }
}

/// A whole number, however it is written: to JSON, `2.0` is one like `2`.
struct Whole(i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(WholeVisitor)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Whole, E> {
        Ok(Whole(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
        // Beyond any bound that a field has.
        Ok(Whole(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole, E> {
        if number.fract() == 0.0 {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "saturates, beyond any bound that a field has"
            )]
            Ok(Whole(number as i64))
        } else {
            Err(E::invalid_type(Unexpected::Float(number), &self))
        }
    }
}

/// Reads an optional whole number.
///
/// # Errors
/// The value is neither a whole number nor `null`.
pub fn optional_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<Whole>::deserialize(deserializer)?.map(|Whole(number)| number))
}

/// Reads a whole number of a merge patch.
///
/// # Errors
/// Those of [`optional_whole`].
pub fn whole_patch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patch<i64>, D::Error> {
    Ok(optional_whole(deserializer)?.map_or(Patch::Clear, Patch::Set))
}

/// Reads an optional field that, when given, may not be `null`.
///
/// # Errors
/// The value is `null` or of another type.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Body {
        #[serde(default, skip_serializing_if = "Patch::is_keep")]
        cpu: Patch<f64>,
    }

    #[test]
    fn a_patch_tells_left_out_from_null() {
        for (text, cpu) in
            [("{}", Patch::Keep), (r#"{"cpu":null}"#, Patch::Clear), (r#"{"cpu":34.2}"#, Patch::Set(34.2))]
        {
            let body: Body = serde_json::from_str(text).unwrap();
            assert_eq!(body, Body { cpu });
            assert_eq!(serde_json::to_string(&body).unwrap(), text);
        }
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        let read = |text| optional_whole(&mut serde_json::Deserializer::from_str(text)).ok().flatten();
        assert_eq!(
            ["2", "2.0", "-2e0", "1e30", "18446744073709551615"].map(read),
            [Some(2), Some(2), Some(-2), Some(i64::MAX), Some(i64::MAX)]
        );
        assert_eq!(["null", "2.5", "true", "\"2\""].map(read), [None; 4]);
    }

    #[test]
    fn a_later_patch_wins_and_what_it_leaves_out_stays() {
        let mut patch = Patch::Set(1);
        patch.merge(Patch::Keep);
        assert_eq!(patch, Patch::Set(1));
        patch.merge(Patch::Clear);
        assert_eq!(patch, Patch::Clear);
    }
}
