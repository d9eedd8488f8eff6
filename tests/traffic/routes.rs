//! Weights, and what moving them costs.

use banyan::sandbox::traffic::{Load, Tally};

use crate::runner::{Scenario, scenarios};
use crate::world::{Space, World, assert_share, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        weights_are_shares_of_requests,
        a_weight_of_zero_is_none_at_all,
        moving_weights_under_load_costs_no_request,
        a_service_named_at_zero_before_and_after_costs_no_request,
        pods_without_weight_go_without_cost,
        pods_that_go_under_load_cost_no_request,
        how_much_it_carries,
    ]
}

async fn pair<'a>(world: &'a World, name: &str, weights: [u32; 2]) -> Space<'a> {
    let space = world.space(name).await;
    let pods = [("stable", 3), ("canary", 1)];
    for (name, count) in pods {
        space.deploy(name, count).await;
    }
    space.route(&[("stable", weights[0]), ("canary", weights[1])]).await;
    // One at zero as well: its first request may come with the next route.
    for (name, count) in pods {
        let knows = async || (world.known(&space.cluster(name)).await == count as u64).then_some(());
        until("Envoy knows the pods", knows).await;
    }
    for (name, weight) in ["stable", "canary"].into_iter().zip(weights) {
        if weight > 0 {
            space.hears_of(name).await;
        }
    }
    space
}

fn assert_no_failure(tally: &Tally) {
    assert!(tally.sent > 0 && tally.answered() == tally.sent, "{tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
}

async fn weights_are_shares_of_requests(world: &World) {
    let space = pair(world, "shares", [90, 10]).await;
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
    let space = pair(world, "zero", [50, 50]).await;
    space.route(&[("stable", 100), ("canary", 0)]).await;
    space.hears_nothing_of("canary").await;
    let tally = Load::exactly(space.load().at(2000.0), 3000).await.expect("a load");
    assert_no_failure(&tally);
    assert_eq!(tally.of(&space.release("stable")).total(), 3000, "{tally}");
}

async fn moving_weights_under_load_costs_no_request(world: &World) {
    let space = pair(world, "moves", [100, 0]).await;
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
    let space = pair(world, "leaves", [50, 50]).await;
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
    let space = pair(world, "scales", [100, 0]).await;
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

async fn how_much_it_carries(world: &World) {
    let space = pair(world, "carries", [90, 10]).await;
    // As fast as they are answered, so many at once. The number is printed and not asserted: it is the machine's.
    let began = std::time::Instant::now();
    let options = banyan::sandbox::traffic::LoadOptions { at_once: 64, ..space.load().at(1e9) };
    let tally = Load::exactly(options, 10_000).await.expect("a load");
    assert_no_failure(&tally);
    println!("{:.0} requests/s: {tally}", 10_000.0 / began.elapsed().as_secs_f64());
    for (name, megabytes) in world.memory() {
        println!("{name}: {megabytes} MB");
    }
}
