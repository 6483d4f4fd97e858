//! Who is charged for a token, and what is asked of the database for it.

use std::cell::Cell;

use uuid::Uuid;

use super::*;

const ADDRESS: &str = "192.0.2.1";

fn limits(rates: Rates) -> Limits {
    Limits::new(rates)
}

fn agent(number: u128) -> Owner {
    let workspace = WorkspaceId::from_uuid(Uuid::from_u128(9));
    Owner::Agent(AgentId::from_uuid(Uuid::from_u128(number)), workspace)
}

/// Presents a token; gives the result and whether it was looked up.
async fn present(limits: &Limits, address: &str, token: u8, found: Result<Owner>) -> (Result<()>, bool) {
    let (request, budget, looked_up) = (Extensions::new(), Budget::default(), Cell::new(false));
    let claim = Claim {
        address: address.parse().unwrap(),
        digest: [token; 32],
        purpose: Purpose::Access,
        request: &request,
        budget: &budget,
    };
    let trial = async |_| {
        looked_up.set(true);
        found.map(|owner| (owner, ()))
    };
    (limits.admit(claim, trial).await, looked_up.get())
}

async fn forged(limits: &Limits, address: &str, token: u8) -> (bool, bool) {
    let (result, looked_up) = present(limits, address, token, Err(Error::Unauthenticated)).await;
    (matches!(result, Err(Error::RateLimited { .. })), looked_up)
}

#[tokio::test]
async fn failures_are_charged_to_the_address_and_of_ipv6_to_its_network() {
    for [one, neighbour, other] in [
        ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"],
        ["2001:db8:0:1::1", "2001:db8:0:1:ffff::", "2001:db8:0:2::1"],
    ] {
        let limits = limits(Rates { failed_auth: 2, ..Rates::default() });
        let (first, second) = (forged(&limits, one, 1).await, forged(&limits, one, 2).await);
        assert_eq!([first, second], [(false, true); 2]);
        assert_eq!(forged(&limits, one, 3).await, (true, false));
        assert_eq!(forged(&limits, neighbour, 4).await, (true, false));
        assert_eq!(forged(&limits, other, 5).await, (false, true));
    }
}

#[tokio::test]
async fn limited_address_looks_up_what_was_good_before_and_nothing_new() {
    let limits = limits(Rates { failed_auth: 1, ..Rates::default() });
    assert!(present(&limits, ADDRESS, 7, Ok(agent(1))).await.0.is_ok());
    assert_eq!(forged(&limits, ADDRESS, 8).await, (false, true));
    assert!(present(&limits, ADDRESS, 7, Ok(agent(1))).await.0.is_ok());
    let (unseen, looked_up) = present(&limits, ADDRESS, 9, Ok(agent(2))).await;
    assert!(matches!(unseen, Err(Error::RateLimited { .. })) && !looked_up);
    assert!(matches!(limits.reject(ADDRESS.parse().unwrap()), Error::RateLimited { .. }));
}

#[tokio::test]
async fn refused_token_is_refused_from_memory_and_still_charged() {
    let limits = limits(Rates { failed_auth: 3, ..Rates::default() });
    present(&limits, ADDRESS, 7, Ok(agent(1))).await.0.unwrap();
    for looked_up_now in [true, false, false] {
        let (result, looked_up) = present(&limits, ADDRESS, 7, Err(Error::ApiKeyRevoked)).await;
        assert!(matches!(result, Err(Error::ApiKeyRevoked)));
        assert_eq!(looked_up, looked_up_now);
    }
    assert_eq!(forged(&limits, ADDRESS, 7).await, (true, false));
}

#[tokio::test]
async fn refusal_that_may_change_is_looked_up_a_number_of_times() {
    let limits = limits(Rates::default());
    let mut looked_up = 0;
    for number in 0..100 {
        let reason = if number < 10 { Error::AgentRevoked } else { Error::CredentialRotated };
        let (result, asked) = present(&limits, ADDRESS, 1, Err(reason)).await;
        looked_up += usize::from(asked);
        assert_eq!(matches!(result, Err(Error::AgentRevoked)), number < 10);
    }
    assert_eq!(looked_up, 30);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert!(present(&limits, ADDRESS, 1, Err(Error::CredentialRotated)).await.1, "the second is over");
}

#[tokio::test]
async fn owner_over_its_allowance_is_refused_without_a_look_up() {
    let limits = limits(Rates { agent: 2, ..Rates::default() });
    let mut seen = Vec::new();
    for token in [1, 2, 1, 2, 3] {
        let (result, looked_up) = present(&limits, ADDRESS, token, Ok(agent(1))).await;
        seen.push((result.is_ok(), looked_up));
    }
    assert_eq!(seen, [(true, true), (true, true), (false, false), (false, false), (false, true)]);
}

#[tokio::test]
async fn retired_credential_pays_for_itself_and_not_for_its_agent() {
    let limits = limits(Rates { agent: 2, failed_auth: 1, ..Rates::default() });
    for allowed in [true, true, true, false] {
        let (result, _) = present(&limits, ADDRESS, 1, Err(Error::CredentialRotated)).await;
        assert_eq!(
            matches!(result, Err(Error::CredentialRotated)),
            allowed,
            "the first one was not known yet"
        );
    }
    assert!(present(&limits, ADDRESS, 2, Ok(agent(1))).await.0.is_ok());
    assert_eq!(forged(&limits, ADDRESS, 3).await, (false, true), "that was no failure");
}

#[tokio::test]
async fn failure_of_the_database_is_not_charged() {
    let limits = limits(Rates { failed_auth: 1, ..Rates::default() });
    for _ in 0..5 {
        let (result, looked_up) = present(&limits, ADDRESS, 1, Err(Error::Unavailable("away".into()))).await;
        assert!(matches!(result, Err(Error::Unavailable(_))) && looked_up);
    }
}
