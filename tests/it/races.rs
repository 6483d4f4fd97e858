//! Races over two processes on one database.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use planasonix_wire::AgentId;
use serde_json::json;
use tokio::{sync::Barrier, task::JoinSet, time::sleep};

use crate::support::{
    actors::{Agent, Caller, PendingAgent},
    process::{Pair, Server},
    rows,
    storm::{self, Beat, Outcome, Storm, heartbeat},
    turn,
    wire::{Line, request},
};

const TOKENS: usize = 200;
const CALLERS: usize = 32;

/// What a token brought each of its callers: a credential, or nothing.
type Wins = Vec<Option<String>>;

#[tokio::test]
async fn of_many_callers_with_one_enrollment_token_exactly_one_gets_the_credential() {
    let pair = Pair::start(&[]).await;
    let pending = storm::pending(&pair.acme, TOKENS).await;
    let tokens: Arc<Vec<_>> =
        Arc::new(pending.iter().map(|agent| agent.token.token.clone().unwrap()).collect());

    let starting_line = Arc::new(Barrier::new(CALLERS));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let (tokens, line) = (Arc::clone(&tokens), Arc::clone(&starting_line));
        let address = pair.servers[number % 2].address;
        callers.spawn(async move { race(Line::open(address).await.unwrap(), &tokens, &line).await });
    }
    let results: Vec<(Wins, Vec<usize>)> = callers.join_all().await;

    let trails = rows::trails(&pair.database.options).await;
    for (number, agent) in pending.iter().enumerate() {
        let winners: Vec<_> = results.iter().filter_map(|(wins, _)| wins[number].clone()).collect();
        // Of a 503 nobody knows the outcome: the winner may have been told one, and been refused afterwards.
        let unheard = results.iter().any(|(_, postponed)| postponed.contains(&number));
        assert!(winners.len() == 1 || winners.is_empty() && unheard, "token {number}: {winners:?}");
        let types: Vec<_> = trails[&agent.id].iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(
            types,
            ["registered", "enrolled", "enrollment_refused"],
            "refusals are told once a minute"
        );
        for credential in &winners {
            let winner = Agent { id: agent.id, me: agent.token.with_token(credential) };
            winner.beat().await;
        }
    }
    let postponed: usize = results.iter().map(|(_, postponed)| postponed.len()).sum();
    println!("{} calls, {postponed} of them 503 and sent again", TOKENS * CALLERS);
}

/// Tries every token when all others do; also tells for which it was asked to come again, each time.
async fn race(mut line: Line, tokens: &[String], starting_line: &Barrier) -> (Wins, Vec<usize>) {
    let (mut wins, mut postponed) = (Vec::new(), Vec::new());
    for (number, token) in tokens.iter().enumerate() {
        let enroll = request("POST", "/api/agents/enroll", Some(token), "");
        starting_line.wait().await;
        wins.push(loop {
            let reply = line.ask(&enroll).await.unwrap();
            let answer = reply.json();
            match (reply.status, answer["error"]["code"].as_str()) {
                (200, _) => break Some(answer["data"]["credential"].as_str().unwrap().to_owned()),
                (401, Some("enrollment_token_used")) => break None,
                (503, Some("unavailable")) if postponed.len() < 1_000 => postponed.push(number),
                _ => panic!("{reply:?}"),
            }
            sleep(Duration::from_millis(50)).await;
        });
    }
    (wins, postponed)
}

const AGENTS: usize = 1_000;
const REVOKED: usize = 50;
const DELETED: usize = 20;

/// Every agent beats at both servers, so that their flushes want the same rows all the time.
#[tokio::test]
async fn in_a_storm_a_barred_agent_is_barred_on_every_server_from_the_answer_on() {
    let _alone = turn::alone();
    let pair = Pair::start(&[]).await;
    let agents = storm::agents(&pair.acme, AGENTS).await;
    let began = Instant::now();
    let storms = pair
        .servers
        .each_ref()
        .map(|server| Storm::start(&agents, server.address, Duration::from_secs(1), 0));
    sleep(Duration::from_secs(2)).await;
    let (revoked, others) = agents.split_at(REVOKED);
    let deleted = &others[..DELETED];
    let mut barred = HashMap::new();
    for (number, agent) in revoked.iter().chain(deleted).enumerate() {
        let operator = pair.acme.operator.at(pair.servers[number % 2].address);
        bar(&operator, agent.id, number < REVOKED).await;
        barred.insert(agent.id, Instant::now());
    }
    // So that each of them tries again on both.
    sleep(Duration::from_secs(3)).await;
    let beats = join_all(storms.map(Storm::stop)).await;
    let took = began.elapsed();

    for (beats, server) in beats.iter().zip(&pair.servers) {
        let late =
            |agent: &Agent| count(beats, |beat| beat.agent == agent.id && beat.started > barred[&agent.id]);
        assert!(revoked.iter().chain(deleted).all(|agent| late(agent) > 0));
        assert_nobody_got_past(beats, &barred, deleted);
        let accepted = count(beats, |beat| beat.accepted_at().is_some());
        let slowest = beats.iter().map(|beat| beat.took).max().unwrap();
        println!("{} beats, {accepted} accepted, in {took:?}, slowest {slowest:?}", beats.len());
        assert!(accepted > AGENTS, "a storm that nobody could stand in proves nothing");
        assert!(!server.log().contains("deadlock"), "{}", server.log());
    }
}

/// Revokes or deletes an agent, again where the outcome of the first try is unknown.
async fn bar(operator: &Caller, agent: AgentId, revoke: bool) {
    for postponed in [false, true, true] {
        let answer = if revoke {
            operator.post_nothing(&format!("/api/agents/revoke/{agent}")).await
        } else {
            operator.delete(&format!("/api/agents/{agent}")).await
        };
        match answer.status.as_u16() {
            200 | 204 => return,
            404 if postponed && !revoke => return,
            _ => drop(answer.error(503, "unavailable")),
        }
    }
    panic!("{agent} cannot be barred");
}

fn count(beats: &[Beat], which: impl Fn(&Beat) -> bool) -> usize {
    beats.iter().filter(|beat| which(beat)).count()
}

/// Nobody was accepted after their bar, and nobody else was refused.
fn assert_nobody_got_past(beats: &[Beat], barred: &HashMap<AgentId, Instant>, deleted: &[Agent]) {
    for beat in beats {
        let since = barred.get(&beat.agent);
        let is_deleted = deleted.iter().any(|agent| agent.id == beat.agent);
        let fits = match &beat.outcome {
            Outcome::Accepted(_) => since.is_none_or(|bar| beat.started < *bar),
            Outcome::Refused { status: 503, .. } => beat.was_postponed(),
            Outcome::Refused { .. } => {
                since.is_some() && beat.was_told(if is_deleted { "unauthenticated" } else { "agent_revoked" })
            }
            Outcome::Broken => false,
        };
        assert!(fits, "{beat:?}, barred at {since:?}");
    }
}

#[tokio::test]
async fn after_a_revoke_that_raced_an_enrollment_nothing_authenticates_until_enable() {
    let pair = Pair::start(&[]).await;
    let [here, there] = &pair.servers;
    let mut enrolled_first = 0;
    for number in 0..50 {
        let pending = pair.acme.register(&format!("contested {number}")).await;
        let elsewhere = pending_at(there, &pending);
        let (enrolled, revoked) = tokio::join!(elsewhere.try_enroll(), pair.acme.revoke(pending.id));
        assert_eq!(revoked.data(200)["status"], "revoked");
        pending.try_enroll().await.error(403, "agent_revoked");
        let earlier = if enrolled.status == 200 {
            enrolled_first += 1;
            let credential = enrolled.data(200)["credential"].as_str().unwrap().to_owned();
            let me = pending.token.with_token(&credential);
            Some(Agent { id: pending.id, me })
        } else {
            enrolled.error(403, "agent_revoked");
            None
        };
        for server in [here, there] {
            if let Some(agent) = &earlier {
                let refused = agent.at(server.address).heartbeat(&json!({})).await;
                refused.error(403, "agent_revoked");
            }
        }

        let agent = pending_at(there, &pair.acme.enable(pending.id).await).enroll().await;
        agent.beat().await;
        if let Some(earlier) = &earlier {
            let refused = earlier.at(there.address).heartbeat(&json!({})).await;
            assert_eq!(refused.status, 403, "{refused:?}");
        }
    }
    println!("{enrolled_first} of 50 enrolled before they were revoked");
}

fn pending_at(server: &Server, pending: &PendingAgent) -> PendingAgent {
    PendingAgent { id: pending.id, token: pending.token.at(server.address) }
}

#[tokio::test]
async fn a_first_beat_at_every_server_at_once_is_one_connection() {
    let pair = Pair::start(&[]).await;
    let agents = storm::agents(&pair.acme, 100).await;
    for agent in &agents {
        let beat = heartbeat(agent, 1);
        let mut lines = Vec::new();
        for place in 0..8 {
            lines.push(Line::open(pair.servers[place % 2].address).await.unwrap());
        }
        join_all(lines.iter_mut().map(|line| storm::insist(line, &beat))).await;
    }
    let trails = rows::trails(&pair.database.options).await;
    for agent in &agents {
        let types: Vec<_> = trails[&agent.id].iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(types, ["registered", "enrolled", "connected"]);
    }
}
