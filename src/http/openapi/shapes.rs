//! What the derived document says of bodies and cannot know better.

use utoipa::openapi::{
    Components, RefOr, Schema, Type,
    request_body::RequestBody,
    schema::{ArrayItems, Object, SchemaType},
};

/// What a client sends; every text in it is any Unicode but U+0000.
const SENT: [&str; 6] =
    ["RegisterAgent", "UpdateAgent", "Enroll", "Heartbeat", "RevokeAgent", "CreateApiKey"];
const ANY_TEXT: &str = r"^[^\u0000]*$";

/// A body that may be left out is absent, never `null`.
pub(super) fn never_null(body: &mut RequestBody) {
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        let Some(RefOr::T(Schema::OneOf(either))) = &content.schema else { continue };
        if let Some(given) = either.items.iter().find(|item| matches!(item, RefOr::Ref(_))) {
            content.schema = Some(given.clone());
        }
    }
}

/// Tells of each text that a client sends which character it may not hold.
pub(super) fn any_text_but_nul(components: &mut Components) {
    for name in SENT {
        if let Some(RefOr::T(Schema::Object(body))) = components.schemas.get_mut(name) {
            body.properties.values_mut().for_each(mark);
        }
    }
}

fn mark(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(text)) if is_free_text(text) => text.pattern = Some(ANY_TEXT.to_owned()),
        RefOr::T(Schema::Array(list)) => {
            if let ArrayItems::RefOrSchema(items) = &mut list.items {
                mark(items);
            }
        }
        _ => {}
    }
}

fn is_free_text(schema: &Object) -> bool {
    let text = match &schema.schema_type {
        SchemaType::Type(single) => *single == Type::String,
        SchemaType::Array(several) => several.contains(&Type::String),
        SchemaType::AnyValue => false,
    };
    text && schema.format.is_none() && schema.enum_values.is_none() && schema.pattern.is_none()
}
