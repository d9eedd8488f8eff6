//! The table of failures: what must happen is tried on two real API servers with real PostgreSQL, under clients that write and
//! users who send requests, beside a group that nobody touches.
//!
//! | module | rows of the table |
//! |---|---|
//! | [`clusters`] | none: stores are Clusters of CloudNativePG |
//! | [`deaths`] | the target dies after its fence, with a witness and without, or after its commit |
//! | [`duels`] | two Failovers against each other |
//! | [`everywhere`] | a site is away whose group every site serves |
//! | [`hooks`] | what a group has called on the way fails |
//! | [`kills`] | the operator is killed between any two writes |
//! | [`mirrors`] | none: topics are copied by MirrorMaker 2 |
//! | [`nodes`] | the cloud of a source says that no node is left there |
//! | [`orders`] | git, the provider, nodes, residency, a broken application, an order that is deleted |
//! | [`releases`] | a cloud is dead: releases in the other one |
//! | [`series`] | none: a group moves again and again under load |
//! | [`silence`] | the source's API server, a partition, the witness, an Authority that is deleted, paused processes |
//!
//! [`field`] brings it up, [`users`] send requests, [`keeper`] keeps the operators, and [`gate`] sees each of their writes before it is taken.

mod clusters;
mod deaths;
mod duels;
mod everywhere;
mod field;
mod gate;
mod hooks;
mod keeper;
mod kills;
mod mirrors;
mod nodes;
mod orders;
mod releases;
mod series;
mod silence;
mod users;

use std::time::Instant;

use super::number;
use super::stage::AWS;
use deaths::At;
use field::{Field, Kind, lost};

/// What is played where `BANYAN_FAULTS` names no other parts: what takes no longer than it must. `all` plays the rest too.
const USUALLY: &str = "broken,hooks,git,witness,residency,duels,partition,everywhere,clusters,mirrors,authority,fence,kills,server";

/// Plays a part, if it is one that is to be played.
async fn part(name: &str, play: impl Future<Output = ()>) {
    let named = std::env::var("BANYAN_FAULTS").unwrap_or_else(|_| USUALLY.to_owned());
    if named.split(',').any(|one| one == name || one == "all") {
        let since = Instant::now();
        play.await;
        println!("== {name}: {:.1?}", since.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_the_table_is_met() {
    let _turn = crate::world::with_two_clouds().await;
    let began = Instant::now();
    let kinds = [("alpha", true, 50), ("bravo", false, 100), ("twin", false, 100)];
    let kinds = kinds.map(|(name, whole, standby)| Kind { name, whole, standby });
    let Some(field) = Field::start(&kinds).await else { return };
    let twin = field.group("twin").postgres.client();
    println!("the field stands after {:.0?}", began.elapsed());

    // Each group has faults of its own.
    let (alpha, bravo) = (field.group("alpha"), field.group("bravo"));
    tokio::join!(
        async {
            part("broken", orders::a_broken_application_holds_the_shift(&field, alpha)).await;
            part("nodes", orders::no_nodes_hold_before_the_fence(&field, alpha)).await;
            part("deleted", orders::an_order_that_is_deleted_after_its_commit_goes_on(&field, alpha)).await;
            part("hooks", hooks::nothing_is_closed_while_one_fails(&field, alpha)).await;
            part("git", orders::git_takes_nothing_back_and_no_provider_is_needed(&field, alpha)).await;
            part("witness", silence::the_witness_is_down(&field, alpha)).await;
            part("residency", orders::residency_forbids_it(&field, alpha)).await;
        },
        async {
            part("duels", duels::two_orders_meet(&field, bravo)).await;
            part("primary", silence::a_paused_primary_wakes_up(&field, bravo)).await;
        },
    );
    // And what is cut from all of them.
    part("partition", silence::a_partition(&field, field.group("bravo"))).await;
    part("everywhere", everywhere::a_site_leaves_and_comes_back(&field)).await;
    part("clusters", clusters::of_cloudnativepg_move(&field)).await;
    part("mirrors", mirrors::turn_with_authority(&field)).await;
    part("authority", silence::an_authority_is_deleted(&field, field.group("alpha"))).await;
    part("fence", deaths::the_target_dies(&field, "bravo", At::Fence)).await;
    part("commit", deaths::the_target_dies(&field, "alpha", At::Commit)).await;
    part("kills", kills::of_a_switchover(&field, "alpha")).await;
    part("back", kills::of_a_failover(&field, "alpha")).await;
    part("leader", silence::a_former_leader_wakes_up(&field, "bravo")).await;
    part("server", silence::the_api_server_of_the_source_is_down(&field, "alpha")).await;
    part("series", series::of_switchovers(&field, "alpha")).await;
    part("each", kills::at_each_write(&field, "alpha")).await;
    // An API server that is away for so long finds its nodes without a sign of life, and played ones do not bring the pods
    // back that are taken for lost then: nothing moves there any more.
    part("nodes-gone", nodes::of_a_source_that_cannot_be_closed(&field, "bravo")).await;
    part("back-by-witness", deaths::the_witness_gives_authority_back(&field, "alpha")).await;

    let tally = twin.tally();
    let (holder, epoch) = field.agreed(field.group("twin")).await;
    assert_eq!((holder, epoch), (AWS, 16), "nobody has touched it");
    println!(
        "the twin: {} writes, {} unanswered, {:.1?} without",
        tally.acknowledged.len(),
        tally.unanswered,
        tally.longest_gap
    );
    assert_eq!(tally.unanswered, 0, "none of its sessions was ended");
    assert_eq!(lost(field.group("twin"), AWS, &twin).await, 0);
    println!("in all {:.0?}", began.elapsed());
    field.stop().await;
}
