//! What is decided where the cloud is asked for the nodes of the source, and where every site serves.

use super::super::journal::NodesJournal;
use super::tests::COMMITTED;
use super::tests::world::{World, held};
use super::*;
use crate::api::failover::MoveAction;
use crate::api::failovergroup::Approval;
use crate::authority::known::StoreShows;

const ACCEPT: &str = "kubectl banyan failover accept-data-loss move";

/// A Failover from a site that cannot be closed.
fn silent(asks: NodePools) -> World {
    let mut world = World::new(MoveAction::Failover);
    (world.silent, world.fences, world.node_pools) = (vec!["a".to_owned()], false, Some(asks));
    world
}

/// Some nodes are up, and are to be stopped.
const UP: NodesJournal = NodesJournal { due: true, failed: false, ordered: false };

#[test]
fn a_source_without_nodes_counts_as_closed_and_what_it_had_is_not_known() {
    let mut world = silent(NodePools::Confirm);
    assert_eq!(world.goes(), "claim Claim\nfence Fence: not done\n");
    world.store().level = Some(FenceLevel::Stopped);
    assert_eq!(world.goes(), format!("catch-up Freeze\ncatch-up waits: DataLoss -> {ACCEPT}\n"));
    world.journal.accepts_loss = true;
    assert_eq!(world.goes(), format!("try Try\ncommit Commit\n{COMMITTED}"));
}

#[test]
fn a_source_without_nodes_needs_nobody_where_the_lag_is_allowed_and_no_claim_told() {
    let mut world = silent(NodePools::Confirm);
    world.goes();
    world.store().level = Some(FenceLevel::Stopped);
    world.store().lag_allowed = true;
    assert_eq!(world.goes(), format!("catch-up Freeze\ntry Try\ncommit Commit\n{COMMITTED}"));
    // One store is closed over the wire, and the other site has not taken the claim: that counts no more than before.
    let mut world = silent(NodePools::Confirm);
    world.store().level = Some(FenceLevel::StoreAcknowledged);
    assert!(world.goes().contains("waits: ClaimNotTold"));
}

#[test]
fn where_nothing_may_be_closed_over_the_wire_the_cloud_is_asked_alone() {
    let mut world = silent(NodePools::Confirm);
    // Which of both is the standby has not been seen.
    world.known.stores[0].1 = Known::NotYet("not yet".to_owned());
    let stored = |world: &mut World, shows| world.known.stores[0].1 = Known::Read(shows);
    stored(&mut world, StoreShows { primary: true, open: false, ..StoreShows::default() });
    assert_eq!(world.goes(), "claim Claim\nfence Confirm: not done\n");
    world.store().level = Some(FenceLevel::Stopped);
    assert!(world.goes().starts_with("catch-up waits: DataLoss"), "an old primary may lack something");
    world.node_pools = None;
    world.store().level = None;
    assert!(world.goes().starts_with("fence waits: ClaimNotTold"));
}

#[test]
fn nodes_are_stopped_once_they_are_to_be_and_only_where_the_group_says_so() {
    let mut world = silent(NodePools::Stop);
    assert_eq!(world.goes(), "claim Claim\nfence Fence: not done\n");
    world.journal.nodes = UP;
    assert_eq!(world.goes(), "fence Stop: not done\n");
    // It is looked again until all are gone, and the source is closed over the wire where it can be.
    assert_eq!(world.goes(), "fence Fence: not done\n");
    world.journal.nodes = NodesJournal { failed: true, ordered: true, ..UP };
    assert_eq!(world.goes(), "fence Fence: not done\n", "it is looked before it is tried again");
    world.journal.nodes = NodesJournal { ordered: true, ..UP };
    world.store().level = Some(FenceLevel::StoreAcknowledged);
    assert!(!world.goes().contains("fence Stop"), "it was closed after all");
    let mut world = silent(NodePools::Confirm);
    world.journal.nodes = UP;
    assert!(!world.goes().contains("fence Stop"));
}

#[test]
fn no_switchover_stops_nodes_and_no_failover_before_those_agree_who_must() {
    let mut world = World::new(MoveAction::Switchover);
    (world.node_pools, world.journal.nodes) = (Some(NodePools::Stop), UP);
    let text = world.goes();
    assert!(!text.contains("fence Stop") && text.ends_with(COMMITTED), "{text}");
    let mut world = silent(NodePools::Stop);
    world.goes();
    world.journal.nodes = UP;
    world.approval = Some(Approval { before: Some(ApprovedStep::Commit), people: None });
    assert!(world.goes().starts_with("approval waits: NotApproved"));
    world.journal.approvals = 1;
    world.journal.paused = true;
    assert!(world.goes().starts_with("fence waits: Paused"));
    (world.journal.paused, world.changed) = (false, true);
    assert!(world.goes().starts_with("fence waits: GroupChanged"));
    (world.changed, world.journal.asserted) = (false, true);
    assert!(!world.goes().contains("fence Stop"), "a person has said that nobody writes there");
    let mut world = silent(NodePools::Stop);
    world.goes();
    (world.journal.nodes, world.journal.abort) = (UP, true);
    assert_eq!(world.goes(), "undo Withdraw\nAborted\n");
}

#[test]
fn who_gives_up_says_that_the_source_has_no_nodes_by_it() {
    let mut world = silent(NodePools::Stop);
    world.goes();
    (world.journal.nodes, world.journal.abort) = (NodesJournal { ordered: true, ..UP }, true);
    world.goes();
    let Next::End(Phase::Aborted, words) = world.next() else { panic!("{:?}", world.next()) };
    assert!(words.contains("status.nodes has the commands"), "{words}");
}

#[test]
fn where_several_serve_a_failover_takes_authority_from_the_others() {
    let mut world = World::new(MoveAction::Failover);
    world.known.stores.clear();
    let holders = vec!["a".to_owned(), "b".to_owned()];
    world.known.own = Some(AuthoritySpec { holders, ..held("b", 16) });
    assert!(matches!(world.next(), Next::Do(Step::Claim, Act::Claim { .. })));
    world.journal.action = MoveAction::Switchover;
    assert!(matches!(world.next(), Next::End(Phase::Refused, _)), "there is nothing to add");
    // There is nothing to open: it serves from its commit on, and takes down when that was.
    (world.journal.claim, world.known.own) = (Some((33, 16)), Some(held("b", 33)));
    assert_eq!(world.next(), Next::Do(Step::Open, Act::Serve));
    world.journal.served = true;
    assert!(matches!(world.next(), Next::End(Phase::Done, _)));
}
