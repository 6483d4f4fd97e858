//! What wrong keys cost, by the hundred at once.

use std::time::{Duration, Instant};

use planasonix::domain::{
    Scope,
    credential::{ApiKey, Plain},
};
use planasonix_wire::token::{Kind, assemble, inspect};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use ulid::Ulid;

use crate::support::{Answer, App, actors::Caller, ask::for_each, rows, turn};

/// More than may wait for their verification.
const MANY: usize = 400;
/// Less than anybody's turn is waited for.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn ask(caller: &Caller) -> (Answer, Duration) {
    let started = Instant::now();
    (caller.get("/api/agents").await, started.elapsed())
}

/// Keys that only the slow hash tells from good ones.
async fn plausible(app: &App, like: &Caller) -> Vec<Caller> {
    let mut rng = StdRng::seed_from_u64(1);
    let keys: Vec<_> = (0..MANY)
        .map(|_| {
            let public_id = Ulid(rng.random());
            Plain::<ApiKey>::generate(&mut rng, public_id)
        })
        .collect();
    let (_, public_id) = inspect(like.token.as_deref().unwrap()).unwrap();
    let id = planasonix_wire::ApiKeyId::from_uuid(uuid::Uuid::from_u128(public_id.0));
    rows::plausible_keys(&app.database.options, id, &keys).await;
    keys.into_iter().map(|key| app.bearer(&key.reveal())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifications_are_few_at_once_their_queue_is_short_and_their_verdicts_are_remembered() {
    let _alone = turn::alone();
    let app = App::one_process(|_| {}).await;
    let acme = app.workspace("acme").await;
    let (_, fresh) = app.operator(acme.id, &[Scope::AgentsRead]).await;
    acme.operator.get("/api/agents").await.data(200);
    let (_, public_id) = inspect(fresh.token.as_deref().unwrap()).unwrap();
    let bogus = app.bearer(&assemble(Kind::ApiKey, public_id, &[0; 32]));
    let mut wrong = plausible(&app, &acme.operator).await;

    let flood = wrong.clone();
    let flood = tokio::spawn(async move { for_each(&flood, MANY, ask).await });
    sleep(Duration::from_millis(300)).await;
    // Nothing has to be verified of one that was good before, nor of one whose first bytes are wrong.
    acme.operator.get("/api/agents").await.data(200);
    bogus.get("/api/agents").await.error(401, "unauthenticated");
    assert!(!flood.is_finished(), "they wait for nobody");
    let answers = flood.await.unwrap();
    let turned_away = answers.iter().filter(|(answer, took)| answer.status == 503 && *took < AT_ONCE);
    assert!(turned_away.count() > 0, "the queue has no end");

    let all = wrong.clone();
    while !wrong.is_empty() {
        let answers = for_each(&wrong, MANY, ask).await;
        let (mut left, asked) = (Vec::new(), wrong.len());
        for ((answer, _), caller) in answers.iter().zip(&wrong) {
            match answer.status.as_u16() {
                503 => {
                    answer.error(503, "unavailable");
                    assert!(answer.header("retry-after").is_some());
                    left.push(caller.clone());
                }
                _ => drop(answer.error(401, "unauthenticated")),
            }
        }
        assert!(left.len() < asked, "nobody's turn comes");
        wrong = left;
    }
    let again = for_each(&all, MANY, ask).await;
    // A busy machine may be late for some; if they were verified anew, a third of them would find no place.
    assert!(again.iter().filter(|(answer, _)| answer.status == 503).count() < MANY / 4, "forgotten");
    assert!(again.iter().all(|(answer, _)| [401, 503].contains(&answer.status.as_u16())));
    fresh.get("/api/agents").await.data(200);
}
