//! Weights, and what moving them costs.

use banyan::sandbox::traffic::{Load, Tally};

use crate::runner::{Scenario, scenarios};
use crate::world::{World, assert_share, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![Gateway:
        weights_are_shares_of_requests,
        a_weight_of_zero_is_none_at_all,
        moving_weights_under_load_costs_no_request,
        a_service_named_at_zero_before_and_after_costs_no_request,
        pods_without_weight_go_without_cost,
        pods_that_go_under_load_cost_no_request,
    ]
}

fn assert_no_failure(tally: &Tally) {
    assert!(tally.sent > 0 && tally.answered() == tally.sent, "{tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
}

async fn weights_are_shares_of_requests(world: &World) {
    let space = world.pair("shares", [90, 10]).await;
    let tally = Load::exactly(space.load().at(2000.0), 4000).await.expect("a load");
    assert_no_failure(&tally);
    assert_eq!(tally.sent, 4000);
    assert_share(tally.of(&space.release("canary")).total(), 4000, 0.1);
    assert_eq!(tally.of(&space.release("canary")).total() + tally.of(&space.release("stable")).total(), 4000);
    // Every pod of stable takes part.
    for pod in space.pods("stable") {
        assert!(tally.pods.contains_key(&pod.name), "{} has no request: {:?}", pod.name, tally.pods);
    }
}

async fn a_weight_of_zero_is_none_at_all(world: &World) {
    let space = world.pair("zero", [50, 50]).await;
    space.route(&[("stable", 100), ("canary", 0)]).await;
    space.hears_nothing_of("canary").await;
    let tally = Load::exactly(space.load().at(2000.0), 3000).await.expect("a load");
    assert_no_failure(&tally);
    assert_eq!(tally.of(&space.release("stable")).total(), 3000, "{tally}");
}

async fn moving_weights_under_load_costs_no_request(world: &World) {
    let space = world.pair("moves", [100, 0]).await;
    let load = Load::start(space.load().at(500.0)).expect("a load");
    for weights in [[99, 1], [50, 50], [0, 100], [50, 50], [100, 0], [0, 100], [100, 0]] {
        space.route(&[("stable", weights[0]), ("canary", weights[1])]).await;
        // In force before the next one, so that each is a change of its own.
        for (name, weight) in ["stable", "canary"].into_iter().zip(weights) {
            if weight == 0 {
                space.hears_nothing_of(name).await;
            } else {
                space.hears_of(name).await;
            }
        }
    }
    let tally = load.stop().await.expect("answers");
    assert_no_failure(&tally);
    assert!(tally.of(&space.release("canary")).total() > 0, "{tally}");
}

/// Envoy hears of routes and of Services on streams of their own. A route that sends requests to a Service that it
/// named never before, or a Service that is named no more, may be known first: then requests are answered 503.
async fn a_service_named_at_zero_before_and_after_costs_no_request(world: &World) {
    let space = world.space("named").await;
    space.deploy("stable", 2).await;
    space.deploy("canary", 2).await;
    space.route(&[("stable", 100)]).await;
    space.hears_of("stable").await;
    assert_eq!(world.known(&space.cluster("canary")).await, 0);
    let load = Load::start(space.load().at(500.0)).expect("a load");
    let forth = [[("stable", 100), ("canary", 0)], [("stable", 0), ("canary", 100)]];
    let back = [[("canary", 100), ("stable", 0)], [("canary", 0), ("stable", 100)]];
    for ([first, second], [from, to]) in [(forth, ["stable", "canary"]), (back, ["canary", "stable"])] {
        space.route(&first).await;
        until("Envoy knows the pods", async || (world.known(&space.cluster(to)).await == 2).then_some(()))
            .await;
        space.route(&second).await;
        space.hears_nothing_of(from).await;
        space.route(&[(to, 100)]).await;
        until("Envoy forgets the others", async || {
            (world.known(&space.cluster(from)).await == 0).then_some(())
        })
        .await;
    }
    assert_no_failure(&load.stop().await.expect("answers"));
}

async fn pods_without_weight_go_without_cost(world: &World) {
    let space = world.pair("leaves", [50, 50]).await;
    let load = Load::start(space.load().at(500.0)).expect("a load");
    until("the load reaches both", async || {
        let tally = load.tally();
        let of = |name: &str| tally.of(&space.release(name)).total();
        (of("stable") > 50 && of("canary") > 50).then_some(())
    })
    .await;
    space.route(&[("stable", 100), ("canary", 0)]).await;
    space.hears_nothing_of("canary").await;
    space.delete("canary").await;
    let gone = load.tally().answered();
    until("the load goes on", async || (load.tally().answered() > gone + 200).then_some(())).await;
    assert_no_failure(&load.stop().await.expect("answers"));
}

async fn pods_that_go_under_load_cost_no_request(world: &World) {
    let space = world.pair("scales", [100, 0]).await;
    let load = Load::start(space.load().at(500.0)).expect("a load");
    let all_take_part = async |number: usize| {
        until(&format!("{number} pods take part"), async || {
            let (tally, pods) = (load.tally(), space.pods("stable"));
            (pods.len() == number && pods.iter().all(|pod| tally.pods.contains_key(&pod.name)))
                .then_some(tally)
        })
        .await
    };
    all_take_part(3).await;
    space.scale("stable", 1).await;
    until("two pods are gone", async || (space.pods("stable").len() == 1).then_some(())).await;
    space.scale("stable", 4).await;
    let tally = all_take_part(4).await;
    // Those that are gone had their part, too.
    assert_eq!(tally.pods.len(), 6, "{:?}", tally.pods);
    assert_no_failure(&load.stop().await.expect("answers"));
}
