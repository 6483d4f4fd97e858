//! The lifecycle as a model: random sequences against the real server and a model in memory, compared after
//! every step. `MODEL_SEQUENCES` sets how many, `MODEL_SEED` where they begin.

mod play;
mod state;

use std::time::Instant;

use crate::support::{App, ask::for_each};
use play::{Play, Stage};

const SEQUENCES: u64 = 120;
const STEPS: usize = 30;
const AT_ONCE: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_and_the_model_never_diverge() {
    let (sequences, first) = (number("MODEL_SEQUENCES", SEQUENCES), number("MODEL_SEED", 0));
    let app = App::start().await;
    let began = Instant::now();
    let most = for_each(0..AT_ONCE, AT_ONCE, |worker| {
        let app = &app;
        async move {
            let slug = format!("stage-{worker}");
            let workspace = app.workspace(&slug).await;
            let bystander = workspace.register("bystander").await.id;
            let stage = Stage { app, slug, workspace, bystander };
            let mut most = 0;
            for seed in (first + worker as u64..first + sequences).step_by(AT_ONCE) {
                most = most.max(Play::new(&stage, seed).run(STEPS).await);
            }
            most
        }
    })
    .await;
    println!("{sequences} sequences of {STEPS} steps in {:?}", began.elapsed());
    assert_eq!(most.into_iter().max(), Some(2), "no sequence came to two live credentials");
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}
