//! How the statements that meet the whole fleet find their rows. Postgres changes to a plan for any values
//! after five executions, so that is the plan which counts.

use std::time::Duration;

use planasonix::db::fleet::{self, BeatRules, Search};

use crate::support::{App, database::Database, plan::generic_plan};

const WINDOW: Duration = Duration::from_mins(2);
const RULES: BeatRules = BeatRules { window: WINDOW, min_interval: Duration::ZERO };

#[tokio::test]
async fn a_flush_finds_each_row_by_its_key_and_compares_none_in_vain() {
    let database = Database::create().await;
    let mut connection = database.connect().await;
    fleet::store_beats(&mut connection, &[], RULES).await.unwrap();
    let plan = generic_plan(&mut connection, "store_beats").await;
    assert!(!plan.contains("Join Filter"), "{plan}");
    assert_eq!(plan.matches("Index Scan using agent_liveness_pkey").count(), 2, "{plan}");
}

#[tokio::test]
async fn the_search_for_silent_agents_reads_a_stretch_of_the_table() {
    let database = Database::create().await;
    let mut connection = database.connect().await;
    let search = Search { page: 0, pages: 1, most: 1 };
    fleet::close_silent_runs(&mut connection, WINDOW, &search).await.unwrap();
    let plan = generic_plan(&mut connection, "close_silent_runs").await;
    assert!(plan.contains("Tid Range Scan on agent_liveness"), "{plan}");
}

#[tokio::test]
async fn every_silent_agent_is_found_once_on_whichever_page_it_is() {
    // The app's own search, with a window this long, finds none.
    let app = App::with(|settings| settings.rhythm.window = Duration::from_hours(1)).await;
    let acme = app.workspace("acme").await;
    let mut agents = Vec::new();
    for n in 0..60 {
        let agent = acme.agent(&format!("etl-{n}")).await;
        agent.beat().await;
        agents.push(agent);
    }
    app.time_passes(2 * WINDOW).await;
    agents.pop().unwrap().beat().await;

    let mut connection = app.database.connect().await;
    let (mut closed, mut page, mut pages) = (0, 0, 1);
    while page < pages {
        let search = Search { page, pages: 1, most: 5 };
        let look = fleet::close_silent_runs(&mut connection, WINDOW, &search).await.unwrap();
        if !look.ours {
            // The app's own search is under way.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        assert!(look.closed <= 5);
        closed += look.closed;
        pages = look.pages;
        if look.closed < 5 {
            page += 1;
        }
    }
    assert!(pages > 1, "all on one page: more agents are needed");
    assert_eq!(closed, 59);
    for agent in agents {
        assert_eq!(app.event_types(agent.id).await, ["registered", "enrolled", "connected", "disconnected"]);
    }
}
