//! Headers that many answers bear: described once, named wherever they may come.

use utoipa::openapi::{
    Components, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, Type, path::Operation,
};

const RETRY_AFTER: &str = "Retry-After";

/// Each with the least value that it may have.
const RATE_LIMIT: [(&str, &str, i32); 3] = [
    (
        "X-RateLimit-Limit",
        "How many requests a minute the key may make, and at once; or its workspace, if that is tighter",
        1,
    ),
    ("X-RateLimit-Remaining", "How many of them may be made now", 0),
    ("X-RateLimit-Reset", "The unix second in which all of them may be made, if none is made until then", 0),
];

/// Describes them.
pub(super) fn describe(components: &mut Components) {
    let retry_after = (RETRY_AFTER, "How many seconds to wait before the next try", 1);
    for (name, description, least) in RATE_LIMIT.into_iter().chain([retry_after]) {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).build();
        let header = HeaderBuilder::new().schema(Some(number)).description(Some(description)).build();
        components.headers.insert(name.to_owned(), header.into());
    }
}

/// Names those that the operation's answers bear. One to an API key tells what the key has left, if it got as
/// far as being verified; a good one and a 429 are sure to have done so.
pub(super) fn name(operation: &mut Operation, takes_key: bool) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if takes_key && (status.starts_with('2') || status == "429") {
            for (name, ..) in RATE_LIMIT {
                bear(response, name);
            }
        }
        if status == "429" || status == "503" {
            bear(response, RETRY_AFTER);
        }
    }
}

fn bear(response: &mut Response, name: &str) {
    let place = Ref::new(format!("#/components/headers/{name}"));
    response.headers.insert(name.to_owned(), RefOr::Ref(place));
}
