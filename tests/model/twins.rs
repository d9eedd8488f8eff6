//! The same with one rule left out: what goes wrong then must be found.

use super::breaks;
use super::checker::Scenario;
use super::operator::Rules;
use super::scenarios::{FAILOVER, NOTHING, STANDBY, SWITCHOVER};
use super::world::Left;

#[test]
fn an_order_over_a_session_that_a_fence_does_not_end() {
    let left = Left { orders: 2, ..NOTHING };
    let rules = Rules { sessions: false, ..Rules::ALL };
    breaks(Scenario { left, rules, kinds: FAILOVER, ..Scenario::new("without ended sessions") }, "S1");
}

#[test]
fn a_claim_that_is_not_told() {
    let left = Left { orders: 2, ..NOTHING };
    let rules = Rules { told: false, ..Rules::ALL };
    breaks(Scenario { left, rules, kinds: FAILOVER, ..Scenario::new("claims not told") }, "S1");
}

#[test]
fn claims_that_nobody_gives_up() {
    let left = Left { orders: 1, removals: 1, ..NOTHING };
    let rules = Rules { orphans: false, ..Rules::ALL };
    let scenario = Scenario {
        left,
        rules,
        kinds: SWITCHOVER,
        at: STANDBY,
        progress: true,
        ..Scenario::new("orphans stay")
    };
    breaks(scenario, "P2");
}

#[test]
fn an_assertion_from_before_the_claim() {
    let left = Left { orders: 1, deaths: 1, assertions: 1, forces: 1, cuts: 1, ..NOTHING };
    let rules = Rules { after_claim: false, ..Rules::ALL };
    breaks(Scenario { left, rules, at: STANDBY, ..Scenario::new("an early assertion") }, "S1");
}

#[test]
fn a_store_that_opens_because_nothing_is_shown() {
    let left = Left { orders: 2, restores: 2, cuts: 1, ..NOTHING };
    let rules = Rules { positive: false, ..Rules::ALL };
    breaks(Scenario { left, rules, at: STANDBY, ..Scenario::new("absence is enough") }, "S1");
}

#[test]
fn an_authority_that_is_written_over_any_version() {
    let left = Left { orders: 1, aborts: 1, pauses: 1, ..NOTHING };
    let rules = Rules { versions: false, api_rules: false, ..Rules::ALL };
    breaks(
        Scenario { left, rules, kinds: SWITCHOVER, at: STANDBY, ..Scenario::new("without versions") },
        "S",
    );
}

#[test]
fn a_promotion_before_the_other_site_is_read() {
    let left = Left { orders: 2, deaths: 1, cuts: 1, assertions: 1, ..NOTHING };
    let rules = Rules { reads_peer: false, ..Rules::ALL };
    breaks(Scenario { left, rules, kinds: FAILOVER, ..Scenario::new("promotes unread") }, "S1");
}

#[test]
fn a_promoted_store_that_waits_for_the_dead() {
    let left = Left { orders: 1, deaths: 1, ..NOTHING };
    let rules = Rules { drops_sync: false, ..Rules::ALL };
    let scenario = Scenario {
        left,
        rules,
        kinds: FAILOVER,
        at: STANDBY,
        synchronous: true,
        progress: true,
        ..Scenario::new("waits for the dead")
    };
    breaks(scenario, "P1");
}

#[test]
fn a_holder_that_does_not_close_for_a_claim() {
    let left = Left { orders: 1, deaths: 1, cuts: 1, assertions: 1, ..NOTHING };
    let rules = Rules { closes_self: false, ..Rules::ALL };
    breaks(
        Scenario { left, rules, kinds: FAILOVER, at: STANDBY, ..Scenario::new("the holder stays open") },
        "S1",
    );
}

#[test]
fn an_assertion_that_is_not_true() {
    let left = Left { orders: 1, cuts: 1, false_assertions: 1, ..NOTHING };
    breaks(Scenario { left, kinds: FAILOVER, at: STANDBY, ..Scenario::new("a false assertion") }, "S1");
}

#[test]
fn an_old_order_that_a_store_obeys() {
    let left = Left { orders: 2, pauses: 1, aborts: 1, ..NOTHING };
    let rules = Rules { rows: false, ..Rules::ALL };
    breaks(Scenario { left, rules, at: STANDBY, ..Scenario::new("without rows") }, "S1");
}

#[test]
fn a_standby_for_which_nobody_waits_any_more() {
    let left = Left { cuts: 1, orders: 2, writes: 1, ..NOTHING };
    let rules = Rules { looks_at_sync: false, ..Rules::ALL };
    let scenario =
        Scenario { left, rules, synchronous: true, kinds: FAILOVER, ..Scenario::new("synchronous by name") };
    breaks(scenario, "S");
}

#[test]
fn a_promoted_primary_that_was_opened_since() {
    let left = Left { orders: 2, writes: 1, ..NOTHING };
    let rules = Rules { same_row: false, ..Rules::ALL };
    breaks(Scenario { left, rules, kinds: FAILOVER, ..Scenario::new("two primaries") }, "S2");
}

#[test]
fn a_claim_that_was_committed_before_the_backup() {
    let left = Left { orders: 1, restores: 1, ..NOTHING };
    let rules = Rules { doubts: false, ..Rules::ALL };
    breaks(Scenario { left, rules, kinds: FAILOVER, at: STANDBY, ..Scenario::new("no doubts") }, "S1");
}

#[test]
fn a_claim_that_others_than_the_witness_decide() {
    let left = Left { orders: 1, cuts: 1, deaths: 1, assertions: 1, witness_cuts: 1, ..NOTHING };
    let rules = Rules { witness_alone: false, ..Rules::ALL };
    let scenario = Scenario {
        left,
        rules,
        witness: true,
        kinds: FAILOVER,
        at: STANDBY,
        ..Scenario::new("two deciders")
    };
    breaks(scenario, "S1");
}

#[test]
fn an_opening_before_the_other_site_is_read() {
    let left = Left { orders: 1, cuts: 1, deaths: 1, assertions: 1, witness_cuts: 1, ..NOTHING };
    let rules = Rules { opens_read: false, ..Rules::ALL };
    let scenario = Scenario {
        left,
        rules,
        witness: true,
        kinds: FAILOVER,
        at: STANDBY,
        ..Scenario::new("opens unread")
    };
    breaks(scenario, "S1");
}
