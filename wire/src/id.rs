//! Prefixed, lower-case ULIDs: `agt_01jq8…`, `key_…`, `ws_…`, `evt_…`.
//!
//! A ULID begins with its creation time in milliseconds, so ids sort in creation order and every
//! record's `created_at` is its id's own time.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::{ULID_LEN, Ulid};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use uuid::Uuid;

use crate::json::Timestamp;

/// A text that is not an id of the wanted kind in its canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct MalformedId;

/// A ULID as ids and tokens write it: 26 lower-case characters of Crockford's base 32.
pub(crate) fn ulid_text(ulid: Ulid) -> String {
    let mut buffer = [0; ULID_LEN];
    ulid.array_to_str(&mut buffer).to_ascii_lowercase()
}

/// Reads a ULID in canonical form alone: what is written differently is a different id.
pub(crate) fn parse_ulid(text: &str) -> Result<Ulid, MalformedId> {
    let ulid = Ulid::from_string(text).map_err(|_| MalformedId)?;
    if ulid_text(ulid) == text { Ok(ulid) } else { Err(MalformedId) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &str = concat!($prefix, "_");

            /// The id that a database row's key stands for.
            pub const fn from_uuid(key: Uuid) -> Self {
                Self(Ulid(key.as_u128()))
            }

            /// The id of a bare ULID, as tokens carry it.
            pub const fn from_ulid(ulid: Ulid) -> Self {
                Self(ulid)
            }

            /// The database's key of this id.
            pub const fn uuid(self) -> Uuid {
                Uuid::from_u128(self.0.0)
            }

            /// The bare ULID, as tokens carry it.
            pub const fn ulid(self) -> Ulid {
                self.0
            }

            /// When the id was made. A time beyond the calendar counts as its beginning.
            pub fn created_at(self) -> Timestamp {
                let millis = i64::try_from(self.0.timestamp_ms()).unwrap_or(0);
                Timestamp::from(DateTime::from_timestamp_millis(millis).unwrap_or_default())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", Self::PREFIX, ulid_text(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(text: &str) -> Result<Self, MalformedId> {
                parse_ulid(text.strip_prefix(Self::PREFIX).ok_or(MalformedId)?).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-7][0-9a-hjkmnp-tv-z]{25}$")))
                    .examples([concat!($prefix, "_01jq8x5g2m4n6p8r0s2t4v6w8y")])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

id!(
    /// A pipeline agent.
    AgentId, "agt"
);
id!(
    /// An API key.
    ApiKeyId, "key"
);
id!(
    /// A workspace: one customer's agents and keys.
    WorkspaceId, "ws"
);
id!(
    /// One entry of the audit trail.
    EventId, "evt"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let id = AgentId(Ulid::from_parts(1_743_087_600_000, 42));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(AgentId::from_uuid(id.uuid()), id);
        assert_eq!(id.created_at().to_string(), "2025-03-27T15:00:00Z");
    }

    #[test]
    fn only_the_canonical_form_is_an_id() {
        let id = AgentId(Ulid::from_parts(1_743_087_600_000, 42)).to_string();
        for bad in [
            id.to_uppercase(),
            id.replace("agt", "key"),
            format!("{id}0"),
            id.chars().rev().skip(1).collect(),
            id.replace("agt_0", "agt_8"),
            "agt_01jq8new01".to_owned(),
            String::new(),
        ] {
            assert_eq!(bad.parse::<AgentId>(), Err(MalformedId), "{bad}");
        }
    }
}
