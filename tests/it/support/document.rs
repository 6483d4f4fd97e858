//! The OpenAPI document, as the routes make it.

use planasonix::http;
use reqwest::Method;
use serde_json::Value;

/// The document.
pub fn document() -> Value {
    serde_json::from_str(&http::document().json).unwrap()
}

/// One operation of the document.
pub struct Operation {
    pub method: Method,
    pub path: String,
    pub json: Value,
}

impl Operation {
    pub fn id(&self) -> &str {
        self.json["operationId"].as_str().unwrap()
    }

    /// The names of the path's parameters, in order.
    pub fn path_parameters(&self) -> Vec<&str> {
        let parts = self.path.split('/');
        parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect()
    }

    /// The path that names this record, and Linux where it names a platform.
    pub fn path_of(&self, id: &str) -> String {
        let value = |part| match part {
            "{platform}" => "linux",
            part if str::starts_with(part, "{") => id,
            part => part,
        };
        self.path.split('/').map(value).collect::<Vec<_>>().join("/")
    }

    /// Whether the document says that the operation may answer so.
    pub fn may_answer(&self, status: u16, code: &str) -> bool {
        self.json["responses"][status.to_string()]["description"]
            .as_str()
            .is_some_and(|text| text.contains(&format!("`{code}`")))
    }
}

/// Every operation of the document.
pub fn operations() -> Vec<Operation> {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let each = |(path, item): (&String, &Value)| {
        let operations = item.as_object().unwrap().clone();
        let path = path.clone();
        operations.into_iter().map(move |(method, json)| Operation {
            method: method.to_uppercase().parse().unwrap(),
            path: path.clone(),
            json,
        })
    };
    paths.iter().flat_map(each).collect()
}

/// The operation of this id.
#[track_caller]
pub fn operation(id: &str) -> Operation {
    let found = operations().into_iter().find(|operation| operation.id() == id);
    found.unwrap_or_else(|| panic!("no operation {id}"))
}
