//! What every operation of the document must have.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{
    document::{Operation, document, operations},
    schema::complaints,
};

/// Open to everybody; everything else asks for a credential.
const PUBLIC: [&str; 4] = ["livez", "readyz", "getOpenApiJson", "getOpenApiYaml"];

#[test]
fn every_operation_is_described() {
    let mut ids = HashSet::new();
    for operation in operations() {
        let id = operation.id();
        assert!(ids.insert(id.to_owned()), "{id} twice");
        let summary = operation.json["summary"].as_str();
        assert!(summary.is_some_and(|text| (5..=60).contains(&text.len())), "{id}: {summary:?}");
        assert_eq!(operation.json["tags"].as_array().map(Vec::len), Some(1), "{id}");
        assert_eq!(operation.json["security"].is_null(), PUBLIC.contains(&id), "{id}");
    }
}

#[test]
fn path_parameters_bear_the_page_s_names() {
    for operation in operations() {
        let declared: Vec<_> =
            parameters(&operation, "path").map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(declared, operation.path_parameters(), "{}", operation.path);
        let names: &[&str] = match &operation.path {
            path if path.starts_with("/api/agents/installer/") => &["agentId", "platform"],
            path if path.starts_with("/api/agents/manual-install/") => &["agentId"],
            _ => &["id"],
        };
        assert!(declared.is_empty() || declared == names, "{}", operation.path);
        for parameter in parameters(&operation, "path").chain(parameters(&operation, "query")) {
            assert!(parameter["schema"].is_object() && parameter["description"].is_string(), "{parameter}");
        }
    }
}

fn parameters<'o>(operation: &'o Operation, place: &'static str) -> impl Iterator<Item = &'o Value> {
    let all = operation.json["parameters"].as_array().into_iter().flatten();
    all.filter(move |parameter| parameter["in"] == place)
}

#[test]
fn every_operation_says_how_it_ends() {
    for operation in operations() {
        let (id, responses) = (operation.id(), operation.json["responses"].as_object().unwrap());
        let whole = |status: &&String| status.starts_with('2') && *status != "206";
        let good: Vec<_> = responses.keys().filter(whole).collect();
        assert_eq!(good.len(), 1, "{id}: {good:?}");
        let content = &responses[good[0]]["content"];
        let schemas: Vec<_> = content.as_object().into_iter().flatten().collect();
        assert_eq!(schemas.is_empty(), good[0] == "204", "{id}");
        assert!(schemas.iter().all(|(_, content)| content["schema"].is_object()), "{id}");

        let secured = !PUBLIC.contains(&id);
        for (status, wanted) in [
            ("400", operation.json["requestBody"].is_object() || has_query(&operation)),
            ("401", secured),
            ("403", secured),
            ("404", !operation.path_parameters().is_empty()),
            ("413", operation.json["requestBody"].is_object()),
            ("415", operation.json["requestBody"].is_object()),
            ("429", secured),
            ("500", true),
            ("503", true),
        ] {
            assert!(!wanted || responses.contains_key(status), "{id} says nothing of {status}");
        }
    }
}

fn has_query(operation: &Operation) -> bool {
    parameters(operation, "query").next().is_some()
}

#[test]
fn every_error_is_the_envelope_with_a_code_of_its_status() {
    let document = document();
    let envelope = json!({"$ref": "#/components/schemas/ErrorBody"});
    let mut statuses = std::collections::HashMap::new();
    for operation in operations() {
        let responses = operation.json["responses"].as_object().unwrap();
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let content = &response["content"]["application/json"];
            assert_eq!(content["schema"], envelope, "{} {status}", operation.id());
            let example = &content["example"];
            assert_eq!(complaints(&document, &envelope, example), [""; 0]);
            let status_number = status.parse().unwrap();
            let code = example["error"]["code"].as_str().unwrap();
            assert!(operation.may_answer(status_number, code), "{} {status}", operation.id());
            let mut told = HashSet::new();
            for code in response["description"].as_str().unwrap().split(", ") {
                assert!(told.insert(code), "{} says {code} twice", operation.id());
                let first = statuses.entry(code.to_owned()).or_insert_with(|| status.clone());
                assert_eq!(first, status, "{code} has two statuses");
            }
        }
    }
}

#[test]
fn every_answer_names_the_headers_that_it_bears() {
    let document = document();
    for operation in operations() {
        let takes_key = operation.json["security"].to_string().contains("apiKey");
        for (status, response) in operation.json["responses"].as_object().unwrap() {
            let named = response["headers"].as_object();
            let names = |wanted: &str| named.is_some_and(|headers| headers.contains_key(wanted));
            for header in ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"] {
                let wanted = takes_key && (status.starts_with('2') || status == "429");
                assert_eq!(names(header), wanted, "{} {status}", operation.id());
            }
            let wanted = status == "429" || status == "503";
            assert_eq!(names("Retry-After"), wanted, "{} {status}", operation.id());
            for header in named.into_iter().flat_map(|headers| headers.values()) {
                let place = header["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
                let header = place.map_or(Some(header), |place| document.pointer(place)).unwrap();
                assert!(header["description"].is_string() && header["schema"].is_object(), "{header}");
            }
        }
    }
}

/// An example that breaks its own schema teaches the wrong thing.
#[test]
fn every_example_fits_its_schema() {
    let document = document();
    let mut examples = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let fields = schema["properties"].as_object().into_iter().flatten();
        for (field, rule) in fields.chain([(name, schema)]) {
            let listed = rule["examples"].as_array().into_iter().flatten();
            for example in rule.get("example").into_iter().chain(listed) {
                examples += 1;
                assert_eq!(complaints(&document, rule, example), [""; 0], "{name} {field}");
            }
        }
    }
    assert!(examples > 20);
}

/// A reader of the document alone knows what each field is.
#[test]
fn every_schema_and_field_is_described() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, rule) in schema["properties"].as_object().into_iter().flatten() {
            let described = rule["description"].is_string()
                || rule["oneOf"]
                    .as_array()
                    .is_some_and(|one| one.iter().any(|rule| rule["description"].is_string()));
            assert!(described, "{name}.{field}");
        }
    }
}
