//! Links: which operations take the id that a creation answers with.

use utoipa::openapi::{
    RefOr,
    link::{Link, LinkBuilder},
    path::Paths,
};

use super::operations;

/// What creates a record, with which status, and the folder of the paths that take its id.
const CREATIONS: [(&str, &str, &str); 2] =
    [("registerAgent", "201", "/api/agents/"), ("createApiKey", "201", "/api/user/api-keys/")];

/// Links each creation to what can be asked of the record by its creator.
pub(super) fn add(paths: &mut Paths) {
    for (creation, status, folder) in CREATIONS {
        let links = links_into(paths, folder);
        let mut all = paths.paths.values_mut().flat_map(operations);
        let created = all.find(|(_, operation)| operation.operation_id.as_deref() == Some(creation));
        let answer = created.and_then(|(_, operation)| operation.responses.responses.get_mut(status));
        if let Some(RefOr::T(answer)) = answer {
            answer.links.extend(links);
        }
    }
}

fn links_into(paths: &mut Paths, folder: &str) -> Vec<(String, RefOr<Link>)> {
    let into = paths.paths.iter_mut().filter(|(path, _)| path.starts_with(folder));
    into.filter_map(|(path, item)| Some((parameter(path)?.to_owned(), item)))
        .flat_map(|(parameter, item)| {
            operations(item).map(move |(_, operation)| (parameter.clone(), operation))
        })
        .filter(|(_, operation)| super::takes(operation, "apiKey"))
        .filter_map(|(parameter, operation)| {
            let id = operation.operation_id.clone()?;
            let link = LinkBuilder::new()
                .operation_id(id.clone())
                .parameter(parameter, "$response.body#/data/id")
                .build();
            Some((id, RefOr::T(link)))
        })
        .collect()
}

/// The path's parameter that holds the record's id: its first.
fn parameter(path: &str) -> Option<&str> {
    path.split_once('{')?.1.split_once('}').map(|(name, _)| name)
}
