//! The operator is killed at every write, believes what is old, and misses a change: in the end all is as if nothing had happened.
//!
//! Each step of a scenario runs once undisturbed, and once for each thing that can go wrong at each write and each change. Then the
//! objects that are left are compared. After Sieve, <https://www.usenix.org/conference/osdi22/presentation/sun>.

use scenario::{Scenario, Step};

use crate::{
    server::{At, Objects},
    world::{World, normal::differences, operator::Operator},
};

mod scenario;
mod scenarios;

/// So many of a kind go wrong in a step, spread over it. Deaths are not bounded.
const MOST: usize = 5;

/// What goes wrong in a step of so many writes and changes, one at a time.
fn what_goes_wrong((writes, changes): (usize, usize), is_asked: bool) -> Vec<At> {
    let some = |all: usize| (1..=all).step_by(all.div_ceil(MOST).max(1));
    // Where nobody is asked nothing happens between two writes, so that before the one is after the other.
    let mut all: Vec<At> = (1..=writes).filter(|_| is_asked).map(At::KilledBefore).collect();
    all.extend((1..=writes).map(At::KilledAfter));
    all.extend(some(writes).map(At::Stale));
    all.extend(some(changes).map(At::Missed));
    all
}

/// The cluster before the step of this number: as `calm` was, or where somebody is asked made anew out of a `used` one.
async fn before(scenario: &Scenario, number: usize, calm: &World, used: Option<World>) -> World {
    let Some(used) = used else { return calm.copy() };
    let world = used.anew().await;
    let mut operator = Operator::default();
    for step in &scenario.steps[..number] {
        step.take(&world);
        operator.settle(&world).await;
    }
    world
}

/// Takes the step, in which this goes wrong. What is left, and how many writes and changes it took.
async fn take(step: &Step, world: &World, wrong: Option<At>) -> (Objects, (usize, usize)) {
    world.server.trap.set(wrong);
    step.take(world);
    Operator::default().settle(world).await;
    (world.contents().await, world.server.trap.counted())
}

/// Each step is taken undisturbed, and from where it began once for each thing that goes wrong in it: what is left is the same, so
/// what follows is the same too.
async fn check(scenario: Scenario) {
    let mut wrong = Vec::new();
    let mut runs = 0;
    let calm = scenario.world().await;
    let is_asked = calm.is_asked();
    let mut used = if is_asked { Some(scenario.world().await) } else { None };
    for (number, step) in scenario.steps.iter().enumerate() {
        let begun = if is_asked { World::new(&[]).await } else { calm.copy() };
        let (expected, counted) = take(step, &calm, None).await;
        for at in what_goes_wrong(counted, is_asked) {
            runs += 1;
            let world = before(&scenario, number, &begun, used.take()).await;
            let (left, _) = take(step, &world, Some(at)).await;
            used = Some(world).filter(|_| is_asked);
            let differences = differences(&expected, &left);
            if !differences.is_empty() {
                wrong.push(format!("step {number}, {at:?}:\n  {}\n", differences.join("\n  ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {runs} runs:\n{}", wrong.len(), wrong.concat());
}

#[tokio::test]
async fn name_servers_that_come_change_and_go() {
    check(scenarios::name_servers()).await;
}

#[tokio::test]
async fn a_single_broker_that_is_made_rolled_grown_and_put_to_sleep() {
    check(scenarios::one_broker()).await;
}

#[tokio::test]
async fn a_group_that_becomes_three_and_one_again() {
    check(scenarios::scaled()).await;
}

#[tokio::test]
async fn a_group_of_three_whose_template_rolls_with_a_switchover() {
    check(scenarios::rolled()).await;
}

#[tokio::test]
async fn a_group_of_three_that_sleeps_and_grows() {
    check(scenarios::asleep()).await;
}

#[tokio::test]
async fn a_primary_that_somebody_asks_for_and_one_that_is_fenced() {
    check(scenarios::handed_over()).await;
}

#[tokio::test]
async fn a_primary_that_may_lack_messages() {
    check(scenarios::promoted()).await;
}

#[tokio::test]
async fn a_topic_and_a_consumer_group_that_are_made_changed_and_deleted() {
    check(scenarios::declared()).await;
}

#[tokio::test]
async fn a_topic_that_moves() {
    check(scenarios::moved()).await;
}

#[tokio::test]
async fn a_group_that_is_drained_and_deleted() {
    check(scenarios::drained()).await;
}

#[tokio::test]
async fn a_namespace_that_ends() {
    check(scenarios::ended()).await;
}

#[tokio::test]
async fn a_process_that_is_told_what_to_log() {
    check(scenarios::told_what_to_log()).await;
}
