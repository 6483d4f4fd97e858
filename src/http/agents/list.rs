use planasonix_wire::{agent::AgentSummary, envelope::Page};

use crate::{
    db::agents::Filter,
    domain::{
        agent::{LABEL_CHARS, PLATFORMS, WORD_CHARS},
        invalid::Checks,
    },
    http::{
        answer::Answer,
        auth::Reader,
        cursor::{self, Fingerprint},
        error::Problem,
        extract::Params,
    },
};

const MOST: u32 = 100;

/// List registered agents
///
/// In creation order. Narrow the list with filters, and walk it with `cursor` under the same filters.
#[utoipa::path(
    get, path = "/api/agents", operation_id = "listAgents", tag = "agents", security(("apiKey" = ["agents:read"])),
    params(
        ("status" = Option<planasonix_wire::agent::Status>, Query, description = "Only agents in this state"),
        ("label" = Option<String>, Query, description = "Only agents whose label holds this text, whatever the case", max_length = 255),
        ("platform" = Option<planasonix_wire::agent::Platform>, Query, description = "Only agents whose host runs this"),
        ("tag" = Option<Vec<String>>, Query, description = "Only agents that have this tag; repeat it to ask for several"),
        ("limit" = Option<u32>, Query, description = "How many rows a page holds at most; 50 unless given", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, min_length = 1, pattern = "^[A-Za-z0-9_-]+$", description = "`meta.page.cursor` of the page before"),
    ),
    responses((status = 200, description = "One page of agents", body = Page<AgentSummary>)),
)]
pub async fn list(reader: Reader, params: Params) -> Result<Answer<Page<AgentSummary>>, Problem> {
    let mut checks = Checks::default();
    let status = params.one(&mut checks, "status");
    let label = params.one(&mut checks, "label");
    let platform = params.one(&mut checks, "platform");
    let mut tags = params.all(&mut checks, "tag", WORD_CHARS);
    tags.sort();
    let cursor = params.one(&mut checks, "cursor");
    let size = params.page_size(&mut checks, MOST);
    checks.text("label", label.unwrap_or_default(), 0..=LABEL_CHARS);
    let filter = Filter {
        status: status.and_then(|name| checks.name("status", name, "active, revoked, pending")),
        platform: platform.and_then(|name| checks.name("platform", name, PLATFORMS)),
        label: label.map(ToOwned::to_owned),
        tags,
    };
    checks.finish()?;
    let fingerprint = fingerprint(status, platform, label, &filter.tags);
    let after = cursor.map(|cursor| cursor::decode(cursor, &fingerprint)).transpose()?;

    let filter = &filter;
    let rows = reader
        .workspace
        .read("list_agents", |mut rows| async move { rows.agents().list(filter, after, size).await })
        .await?;
    Ok(Answer::page(rows, size, &fingerprint, |row| row.id)?)
}

/// Of the filters as they were given; the order of tags says nothing.
fn fingerprint(
    status: Option<&str>,
    platform: Option<&str>,
    label: Option<&str>,
    tags: &[String],
) -> Fingerprint {
    let filters = [("status", status), ("platform", platform), ("label", label)];
    let tags = tags.iter().map(|tag| ("tag", Some(tag.as_str())));
    Fingerprint::new("agents", &filters.into_iter().chain(tags).collect::<Vec<_>>())
}
