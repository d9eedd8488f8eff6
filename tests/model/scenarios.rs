//! What is explored, and in which bounds. With `BANYAN_MODEL_LARGE=1` the bounds are wider.

use banyan::api::failover::MoveAction;

use super::checker::{BOTH, Scenario};
use super::holds;
use super::world::Left;

/// A Failover, without the source's help if need be.
pub const FAILOVER: &[MoveAction] = &[MoveAction::Failover];
/// A move that loses nothing.
pub const SWITCHOVER: &[MoveAction] = &[MoveAction::Switchover];
/// The site that stands by at first.
pub const STANDBY: &[usize] = &[1];

/// Nothing breaks, and nobody orders anything.
pub const NOTHING: Left = Scenario::new("").left;

fn large() -> bool {
    std::env::var("BANYAN_MODEL_LARGE").is_ok_and(|large| large == "1")
}

/// One of both bounds.
fn within(small: Scenario, wide: Scenario) -> Scenario {
    if large() { wide } else { small }
}

#[test]
fn two_orders_meet() {
    let left = Left { orders: 2, aborts: 1, ..NOTHING };
    let small = Scenario { left, progress: true, ..Scenario::new("two orders") };
    holds(within(small, Scenario { left: Left { aborts: 2, forces: 1, removals: 1, ..left }, ..small }));
}

#[test]
fn two_orders_meet_while_a_leader_is_paused() {
    let left = Left { orders: 2, pauses: 1, ..NOTHING };
    let small = Scenario { left, kinds: FAILOVER, ..Scenario::new("two orders, a paused leader") };
    holds(within(small, Scenario { kinds: BOTH, left: Left { aborts: 1, ..left }, ..small }));
}

#[test]
fn two_orders_meet_while_an_operator_crashes() {
    let left = Left { orders: 2, crashes: 1, ..NOTHING };
    let small = Scenario { left, ..Scenario::new("two orders, a crash") };
    holds(within(small, Scenario { left: Left { aborts: 1, ..left }, progress: true, ..small }));
}

#[test]
fn two_orders_meet_in_a_partition() {
    let left = Left { cuts: 1, orders: 2, aborts: 1, removals: 1, ..NOTHING };
    let small = Scenario { left, progress: true, ..Scenario::new("two orders, a partition") };
    holds(within(small, Scenario { left: Left { cuts: 2, forces: 1, ..left }, ..small }));
}

#[test]
fn a_site_dies() {
    let left = Left { deaths: 1, cuts: 1, orders: 1, forces: 1, writes: 1, assertions: 1, ..NOTHING };
    let small = Scenario { left, progress: true, ..Scenario::new("a death") };
    holds(within(small, Scenario { left: Left { orders: 2, ..left }, ..small }));
}

#[test]
fn a_site_dies_between_two_orders() {
    let left = Left { deaths: 1, orders: 2, assertions: 1, ..NOTHING };
    let small = Scenario { left, kinds: FAILOVER, ..Scenario::new("a death, two orders") };
    holds(within(small, Scenario { left: Left { writes: 1, ..left }, progress: true, ..small }));
}

#[test]
fn the_witness_decides_between_two_orders() {
    let left = Left { cuts: 1, orders: 2, ..NOTHING };
    let small = Scenario { left, witness: true, ..Scenario::new("two orders, a witness") };
    let wide = Left { witness_cuts: 1, aborts: 1, ..left };
    holds(within(small, Scenario { left: wide, progress: true, ..small }));
}

#[test]
fn a_site_dies_while_the_witness_is_away() {
    let left = Left { witness_cuts: 1, deaths: 1, orders: 1, assertions: 1, ..NOTHING };
    let small = Scenario { left, witness: true, progress: true, ..Scenario::new("a death, a witness") };
    holds(within(small, Scenario { left: Left { cuts: 1, orders: 2, ..left }, ..small }));
}

#[test]
fn a_claimant_dies_and_the_witness_gives_authority_back() {
    let left = Left { witness_cuts: 1, deaths: 1, cuts: 1, orders: 1, assertions: 1, ..NOTHING };
    let scenario = Scenario { left, witness: true, kinds: FAILOVER, ..Scenario::new("taken back") };
    let small = Scenario { at: STANDBY, ..scenario };
    holds(within(
        small,
        Scenario { kinds: BOTH, progress: true, left: Left { writes: 1, ..left }, ..scenario },
    ));
}

#[test]
fn authority_is_taken_back_while_a_leader_is_paused() {
    let left = Left { cuts: 1, orders: 1, pauses: 1, ..NOTHING };
    let small = Scenario {
        left,
        witness: true,
        kinds: FAILOVER,
        at: STANDBY,
        ..Scenario::new("taken back, a paused leader")
    };
    holds(within(small, Scenario { left: Left { cuts: 2, ..left }, kinds: BOTH, ..small }));
}

#[test]
fn authority_is_taken_back_where_a_person_keeps_a_site_still() {
    let left = Left { cuts: 2, orders: 1, kept: 1, witness_cuts: 1, ..NOTHING };
    let small = Scenario {
        left,
        witness: true,
        kinds: FAILOVER,
        at: STANDBY,
        ..Scenario::new("taken back, kept still")
    };
    holds(within(small, Scenario { left: Left { writes: 1, pauses: 1, ..left }, ..small }));
}

#[test]
fn a_site_that_is_cut_off_goes_on_by_the_witness() {
    let left = Left { cuts: 1, orders: 1, aborts: 1, forces: 1, ..NOTHING };
    let small = Scenario {
        left,
        witness: true,
        at: STANDBY,
        progress: true,
        ..Scenario::new("taken back, a partition")
    };
    holds(within(small, Scenario { left: Left { orders: 2, cuts: 2, ..left }, ..small }));
}

#[test]
fn an_old_backup_is_restored() {
    let left = Left { restores: 1, cuts: 1, orders: 1, writes: 1, ..NOTHING };
    let small = Scenario { left, progress: true, ..Scenario::new("an old backup") };
    holds(within(small, Scenario { left: Left { cuts: 2, orders: 2, aborts: 1, ..left }, ..small }));
}

#[test]
fn an_old_backup_is_restored_between_two_orders() {
    let left = Left { restores: 1, orders: 2, ..NOTHING };
    let small = Scenario { left, kinds: FAILOVER, ..Scenario::new("an old backup, two orders") };
    holds(within(small, Scenario { kinds: BOTH, left: Left { writes: 1, ..left }, progress: true, ..small }));
}

#[test]
fn each_commit_waits_for_the_other_site() {
    let left = Left { cuts: 1, orders: 3, writes: 1, ..NOTHING };
    let small =
        Scenario { left, synchronous: true, kinds: FAILOVER, ..Scenario::new("synchronous, a partition") };
    let wide = Left { deaths: 1, assertions: 1, ..left };
    holds(within(small, Scenario { left: wide, kinds: BOTH, progress: true, ..small }));
}

#[test]
fn each_commit_waits_for_the_other_site_which_dies() {
    let left = Left { deaths: 1, orders: 1, writes: 2, ..NOTHING };
    let small = Scenario {
        left,
        synchronous: true,
        kinds: FAILOVER,
        progress: true,
        ..Scenario::new("synchronous, a death")
    };
    holds(within(small, Scenario { left: Left { orders: 2, assertions: 1, ..left }, ..small }));
}

#[test]
fn nobody_orders_anything() {
    let left = Left { cuts: 2, pauses: 1, crashes: 2, restores: 1, deaths: 1, writes: 1, ..NOTHING };
    holds(Scenario { left, ..Scenario::new("no order") });
}

#[test]
fn nobody_orders_anything_before_the_first_claim() {
    let left = Left { cuts: 2, pauses: 1, crashes: 2, deletions: 1, ..NOTHING };
    holds(Scenario { left, unclaimed: true, ..Scenario::new("no order, no authority") });
}

#[test]
fn the_first_claim_is_followed_by_an_order() {
    let left = Left { deletions: 1, cuts: 2, orders: 1, ..NOTHING };
    let small = Scenario { left, unclaimed: true, progress: true, ..Scenario::new("the first claim") };
    holds(within(small, Scenario { left: Left { orders: 2, ..left }, ..small }));
}
