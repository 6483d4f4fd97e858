//! `planasonix workspace …`

use serde_json::{Value, json};

use super::on;
use crate::support::{database::Database, program::Ended};

fn lines(listed: Ended) -> Vec<Value> {
    let answer = listed.answer();
    answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_workspace_is_created_listed_and_changed() {
    let database = Database::create().await;
    let create = ["workspace", "create", "--slug", "acme", "--name", "Acme Inc"];
    let created = on(&database, &[&create[..], &["--json"]].concat()).run().json();
    let id = created["id"].as_str().unwrap();
    assert!(id.starts_with("ws_"));
    assert_eq!(created, json!({"id": id, "slug": "acme", "name": "Acme Inc"}));

    let told = on(&database, &["workspace", "create", "--slug", "b-2", "--name", "Größe"]).run().answer();
    assert!(told.starts_with("created workspace b-2 (ws_"), "{told}");
    let told = on(&database, &["workspace", "set", "--slug", "acme", "--max-agents", "2"]).run().answer();
    assert_eq!(told, "changed workspace acme\n");
    let set = ["workspace", "set", "--slug", "b-2", "--reenable-policy", "rotation"];
    assert_eq!(on(&database, &set).run().answer(), "changed workspace b-2\n");

    let rows = lines(on(&database, &["workspace", "list", "--json"]).run());
    assert_eq!(rows.len(), 2);
    let acme = json!({"id": id, "slug": "acme", "name": "Acme Inc", "max_agents": 2, "reenable_policy": "enrollment"});
    assert_eq!(rows[0], acme);
    assert_eq!((&rows[1]["name"], &rows[1]["max_agents"]), (&json!("Größe"), &json!(null)));
    assert_eq!(rows[1]["reenable_policy"], "rotation");
    let table = on(&database, &["workspace", "list"]).run().answer();
    for word in ["slug", "acme", "Acme Inc", id, "b-2"] {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_one_line() {
    let database = Database::create().await;
    let create = ["workspace", "create", "--slug", "acme", "--name", "Acme"];
    on(&database, &create).run().answer();
    let told = on(&database, &create).run().complaint();
    assert!(told.contains("acme") && told.contains("already"), "{told}");

    let told =
        on(&database, &["workspace", "set", "--slug", "nobody", "--max-agents", "2"]).run().complaint();
    assert!(told.contains("nobody") && told.contains("workspace list"), "{told}");
    for (command, blamed) in [
        (["create", "--slug=Acme!", "--name=x"], "--slug"),
        (["create", "--slug=", "--name=x"], "--slug"),
        (["set", "--slug=acme", "--max-agents=-1"], "--max-agents"),
        (["set", "--slug=acme", "--max-agents=some"], "--max-agents"),
        (["set", "--slug=acme", "--reenable-policy=never"], "--reenable-policy"),
    ] {
        let told = on(&database, &[&["workspace"], &command[..]].concat()).run().complaint();
        assert!(told.contains(blamed), "{told}");
    }
    assert_eq!(lines(on(&database, &["workspace", "list", "--json"]).run()).len(), 1);
}
