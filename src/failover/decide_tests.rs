use super::super::view::Held;
use super::*;
use crate::api::authority::Claim;
use crate::api::failover::MoveAction;
use crate::api::failovergroup::Approval;
use crate::api::hook::{Hook, HookServer};
use crate::authority::claims;

#[path = "decide_world.rs"]
pub(super) mod world;
use world::{World, held};

pub(super) const COMMITTED: &str = "promote Promote\nopen Open\nopen Serve\nDone\n";

#[test]
fn a_switchover_closes_nothing_before_all_stands_and_opens_nothing_before_it_is_committed() {
    let mut world = World::new(MoveAction::Switchover);
    let expected = "claim Claim\nclaim Tell\nfence Press\nclaim Tell\nfence Fence\ncatch-up CatchUp\ntry Try\ncommit Commit\n";
    assert_eq!(world.goes(), format!("{expected}{COMMITTED}"));
    assert_eq!(world.own().holders, ["b"]);
    assert_eq!(world.own().promoted, Some(17));
}

#[test]
fn what_is_not_ready_holds_a_switchover_before_anything_is_closed() {
    let held = || vec![Held { message: "no".to_owned(), remedy: "do".to_owned() }];
    let mut world = World { preflight: held(), ..World::new(MoveAction::Switchover) };
    let skip = "kubectl banyan failover skip --step preflight move";
    assert_eq!(world.goes(), format!("preflight waits: NotReady -> {skip}\n"));
    world.journal.skipped.insert(Step::Preflight);
    world.capacity = held();
    let skip = "kubectl banyan failover skip --step capacity move";
    assert_eq!(world.goes(), format!("claim Claim\nclaim Tell\ncapacity waits: NoCapacity -> {skip}\n"));
    world.changed = true;
    assert!(world.goes().starts_with("capacity waits: GroupChanged"));
    world.changed = false;
    world.journal.paused = true;
    assert!(world.goes().starts_with("capacity waits: Paused"));
    world.journal.paused = false;
    world.journal.abort = true;
    assert_eq!(world.goes(), "undo Withdraw\nAborted\n");
}

#[test]
fn a_switchover_waits_for_a_source_that_is_silent_and_goes_on_without_it_by_force() {
    let mut world = World { silent: vec!["a".to_owned()], ..World::new(MoveAction::Switchover) };
    let force = "kubectl banyan failover force move";
    assert_eq!(world.goes(), format!("preflight waits: SourceSilent -> {force}\n"));
    world.silent.clear();
    world.capacity = vec![Held { message: "no".to_owned(), remedy: "do".to_owned() }];
    world.goes();
    world.silent = vec!["a".to_owned()];
    world.there().claims.clear();
    assert_eq!(world.goes(), format!("claim waits: SourceSilent -> {force}\n"));
    world.journal.action = MoveAction::Failover;
    world.fences = false;
    assert_eq!(world.goes(), "claim Press\nfence Fence: not done\n");
}

#[test]
fn a_switchover_is_approved_before_anything_is_closed_whatever_the_group_says() {
    for before in [None, Some(ApprovedStep::Fence), Some(ApprovedStep::Commit)] {
        let mut world = World::new(MoveAction::Switchover);
        world.approval = Some(Approval { before, people: Some(2) });
        let approve = "kubectl banyan failover approve move";
        assert_eq!(
            world.goes(),
            format!("claim Claim\nclaim Tell\napproval waits: NotApproved -> {approve}\n")
        );
        world.journal.approvals = 1;
        assert!(world.goes().starts_with("approval waits: NotApproved"));
        world.journal.approvals = 2;
        let text = world.goes();
        assert!(text.starts_with("fence Press\n") && text.ends_with(COMMITTED), "{text}");
    }
}

fn hook(name: &str, at: HookPoint) -> Hook {
    let webhook = HookServer { url: "http://ops/hook".to_owned(), auth: None };
    Hook { name: name.to_owned(), at, webhook, deadline: None, on_failure: None }
}

#[test]
fn hooks_are_called_before_anything_is_closed_before_stores_are_opened_and_once_it_serves() {
    let points = [HookPoint::BeforeFence, HookPoint::BeforeOpen, HookPoint::AfterTraffic];
    let hooks = || points.map(|at| hook(at.step().as_str(), at)).to_vec();
    let mut world = World { hooks: hooks(), ..World::new(MoveAction::Switchover) };
    let ends = "promote Promote\nbefore-open Call\nopen Open\nopen Serve\nafter-traffic Call\nDone\n";
    let text = world.goes();
    assert!(text.starts_with("claim Claim\nclaim Tell\nbefore-fence Call\nfence Press\n"), "{text}");
    assert!(text.ends_with(ends), "{text}");
    // The claim of a Failover closes the source at once.
    let mut world = World { hooks: hooks(), ..World::new(MoveAction::Failover) };
    let text = world.goes();
    assert!(text.starts_with("before-fence Call\nclaim Claim\n") && text.ends_with(ends), "{text}");
}

#[test]
fn nothing_is_closed_or_opened_while_a_hook_fails_and_a_person_may_skip_it() {
    for action in [MoveAction::Switchover, MoveAction::Failover] {
        let hooks = vec![hook("fails", HookPoint::BeforeFence), hook("fails", HookPoint::BeforeOpen)];
        let mut world = World { hooks, ..World::new(action) };
        let text = world.goes();
        assert!(text.ends_with("before-fence Call: not done\n") && !text.contains("Press"), "{text}");
        assert!(slot(&world.own(), "b").is_none_or(|claim| claim.fence != Some(true)));
        world.journal.skipped.insert(Step::BeforeFence);
        let text = world.goes();
        assert!(text.ends_with("promote Promote\nbefore-open Call: not done\n"), "{text}");
        assert!(world.own().promoted.is_none());
        world.journal.skipped.insert(Step::BeforeOpen);
        assert_eq!(world.goes(), "open Open\nopen Serve\nDone\n");
    }
}

#[test]
fn a_switchover_that_is_forced_while_a_hook_fails_closes_nothing_either() {
    let mut world =
        World { hooks: vec![hook("fails", HookPoint::BeforeFence)], ..World::new(MoveAction::Switchover) };
    world.goes();
    world.journal.action = MoveAction::Failover;
    assert_eq!(world.goes(), "before-fence Call: not done\n");
    world.journal.abort = true;
    assert_eq!(world.goes(), "undo Withdraw\nAborted\n");
}

#[test]
fn an_operator_that_ends_before_it_has_noted_that_this_site_serves_notes_it_then() {
    let mut world = World::new(MoveAction::Switchover);
    assert!(world.goes().ends_with(COMMITTED));
    world.journal.served = false;
    assert_eq!(world.goes(), "open Serve\nDone\n");
}

#[test]
fn a_failover_is_approved_before_its_claim_or_before_its_commit() {
    let mut world = World::new(MoveAction::Failover);
    world.approval = Some(Approval::default());
    assert!(world.goes().starts_with("approval waits: NotApproved"), "its claim closes the source at once");
    world.journal.approvals = 1;
    assert!(world.goes().ends_with(COMMITTED));
    let mut world = World::new(MoveAction::Failover);
    world.approval = Some(Approval { before: Some(ApprovedStep::Commit), people: None });
    let text = world.goes();
    assert!(text.contains("fence Fence\n") && text.contains("approval waits: NotApproved"), "{text}");
    world.journal.approvals = 1;
    assert!(world.goes().ends_with(COMMITTED));
}

#[test]
fn a_switchover_that_is_forced_before_it_was_approved_closes_nothing_all_the_same() {
    let mut world = World::new(MoveAction::Switchover);
    world.approval = Some(Approval::default());
    world.goes();
    world.journal.action = MoveAction::Failover;
    assert!(world.goes().starts_with("approval waits: NotApproved"));
    world.journal.approvals = 1;
    assert!(world.goes().starts_with("claim Press\n"));
}

#[test]
fn a_group_waits_for_its_turn_before_it_claims_anything() {
    for action in [MoveAction::Switchover, MoveAction::Failover] {
        let mut world = World::new(action);
        world.turn = Some(Held { message: "edge moves first".to_owned(), remedy: "wait".to_owned() });
        let skip = "kubectl banyan failover skip --step turn move";
        assert_eq!(world.goes(), format!("turn waits: NotItsTurn -> {skip}\n"));
        world.journal.skipped.insert(Step::Turn);
        assert!(world.goes().ends_with(COMMITTED));
    }
}

#[test]
fn a_site_that_may_not_keep_the_data_takes_nothing_over() {
    for action in [MoveAction::Switchover, MoveAction::Failover] {
        let mut world = World::new(action);
        world.forbidden = Some(Held { message: "not here".to_owned(), remedy: "elsewhere".to_owned() });
        assert_eq!(world.goes(), "Refused\n");
        assert_eq!(world.own().claims, []);
    }
    // Where it is already, an order may open what a claimant that is gone has closed.
    let mut world = former();
    world.known.own = Some(held("b", 17));
    world.forbidden = Some(Held { message: "not here".to_owned(), remedy: "elsewhere".to_owned() });
    assert!(world.goes().starts_with("claim Claim\n"));
}

#[test]
fn a_failover_needs_a_fence_and_to_know_what_is_lost() {
    let mut world = World { silent: vec!["a".to_owned()], ..World::new(MoveAction::Failover) };
    world.fences = false;
    assert_eq!(world.goes(), "claim Claim\nfence Fence: not done\n");
    world.journal.asserted = true;
    let accept = "kubectl banyan failover accept-data-loss move";
    assert_eq!(world.goes(), format!("catch-up Freeze\ncatch-up waits: DataLoss -> {accept}\n"));
    world.journal.accepts_loss = true;
    assert_eq!(world.goes(), format!("try Try\ncommit Commit\n{COMMITTED}"));
}

#[test]
fn a_lag_that_the_group_allows_and_a_synchronous_standby_need_nobody_to_accept_a_loss() {
    let mut world = World { silent: vec!["a".to_owned()], ..World::new(MoveAction::Failover) };
    world.journal.asserted = true;
    world.store().lag_allowed = true;
    assert!(world.goes().ends_with(COMMITTED));
    let mut world = World { silent: vec!["a".to_owned()], ..World::new(MoveAction::Failover) };
    world.store().level = Some(FenceLevel::Synchronous);
    assert!(world.goes().ends_with(COMMITTED));
}

#[test]
fn what_is_closed_over_the_wire_counts_once_the_source_has_taken_the_claim() {
    let mut world = World { silent: vec!["a".to_owned()], ..World::new(MoveAction::Failover) };
    let assert = "kubectl banyan failover assert-fenced --evidence NodesStopped move";
    assert_eq!(world.goes(), format!("claim Claim\nfence Fence\nfence waits: ClaimNotTold -> {assert}\n"));
    world.silent.clear();
    assert_eq!(world.goes(), format!("claim Tell\ncatch-up CatchUp\ntry Try\ncommit Commit\n{COMMITTED}"));
}

#[test]
fn the_witness_decides_and_one_that_is_away_needs_an_assertion() {
    let mut world = World::new(MoveAction::Switchover);
    world.known.witness = Some(Known::Read(Vec::new()));
    assert!(world.goes().contains("commit Mark\ncommit Decide\npromote Promote"));
    let mut world = World::new(MoveAction::Failover);
    world.known.witness = Some(Known::NotYet("silence".to_owned()));
    let assert = "kubectl banyan failover assert-fenced --evidence NodesStopped move";
    assert!(world.goes().ends_with(&format!("commit waits: WitnessSilent -> {assert}\n")));
    world.journal.asserted = true;
    assert!(world.goes().starts_with("commit Commit\n"), "an assertion is heard after the claim alone");
    let mut world = World::new(MoveAction::Switchover);
    world.known.witness = Some(Known::NotYet("silence".to_owned()));
    assert_eq!(world.goes(), "preflight waits: WitnessSilent\n");
}

#[test]
fn what_the_witness_alone_decides_is_claimed_anew_once_that_is_away() {
    let assert = "kubectl banyan failover assert-fenced --evidence NodesStopped move";
    // It was there when the claim was made, and told: the source may take authority back by it.
    let mut world = World::new(MoveAction::Failover);
    world.known.witness = Some(Known::Read(Vec::new()));
    world.catches_up = false;
    world.goes();
    assert_eq!(slot(&world.own(), "b").and_then(|claim| claim.by_witness), Some(true));
    world.catches_up = true;
    world.known.witness = Some(Known::NotYet("silence".to_owned()));
    world.journal.accepts_loss = true;
    let told = world.goes();
    assert!(told.contains("claim Claim\nclaim Tell\nfence Fence\n"), "{told}");
    assert!(told.ends_with(&format!("commit waits: WitnessSilent -> {assert}\n")), "{told}");
    assert_eq!(slot(&world.own(), "b").and_then(|claim| claim.by_witness), None);
    world.journal.asserted = true;
    let mut silent = world.clone();
    assert!(world.goes().starts_with("commit Commit\n"), "the operator there has heard of it");
    // That operator has asked for authority itself, before it heard of it.
    let asks = Claim {
        site: "a".to_owned(),
        ballot: 32,
        follows: 16,
        state: ClaimState::Committing,
        by_witness: Some(true),
        ..Claim::default()
    };
    silent.there().claims.insert(0, asks);
    let abort = "kubectl banyan failover abort move";
    assert_eq!(silent.goes(), format!("commit waits: WitnessSilent -> {abort}\n"));
}

#[test]
fn an_older_operator_that_keeps_nothing_of_the_witness_has_taken_the_claim_all_the_same() {
    let mut world = World::new(MoveAction::Switchover);
    world.known.witness = Some(Known::Read(Vec::new()));
    world.capacity = vec![Held { message: "no".to_owned(), remedy: "do".to_owned() }];
    world.goes();
    for claim in &mut world.there().claims {
        claim.by_witness = None;
    }
    world.capacity.clear();
    let went = world.goes();
    assert!(went.starts_with("fence Press\nclaim Tell\nfence Fence\n"), "{went}");
}

#[test]
fn an_operator_that_may_run_may_ask_the_witness() {
    let assert = "kubectl banyan failover assert-fenced --evidence NodesStopped move";
    let mut world = World::new(MoveAction::Failover);
    world.known.witness = Some(Known::NotYet("silence".to_owned()));
    world.silent = vec!["a".to_owned()];
    world.fences = false;
    world.goes();
    (world.journal.asserted, world.store().level) = (true, Some(FenceLevel::Asserted));
    world.journal.accepts_loss = true;
    assert!(world.goes().ends_with(&format!("commit waits: WitnessSilent -> {assert}\n")));
    world.journal.stopped = true;
    assert!(world.goes().starts_with("commit Commit\n"));
}

#[test]
fn who_is_slower_opens_again_what_it_has_closed() {
    let mut world = World::new(MoveAction::Switchover);
    world.capacity = vec![Held { message: "no".to_owned(), remedy: "do".to_owned() }];
    world.goes();
    world.capacity.clear();
    world.catches_up = false;
    assert!(
        world.goes().ends_with("catch-up waits: DataLoss -> kubectl banyan failover accept-data-loss move\n")
    );
    // The source claims against it.
    let opposing = Claim { site: "a".to_owned(), ballot: 32, follows: 16, ..Claim::default() };
    world.known.own = Some(claims::receive(&world.own(), &opposing).unwrap());
    assert_eq!(world.goes(), "undo Withdraw\nundo Lift\nSuperseded\n");
    assert_eq!(world.own().withdrawn, [17]);
}

#[test]
fn after_the_commit_a_greater_claim_or_an_unread_peer_stops_the_promotion() {
    let committed = || {
        let mut world = World::new(MoveAction::Switchover);
        world.journal.claim = Some((17, 16));
        let own = AuthoritySpec { promoted: Some(16), follows: 16, ..held("b", 17) };
        world.known.own = Some(own);
        world
    };
    let mut world = committed();
    assert_eq!(world.goes(), COMMITTED);
    let mut world = committed();
    let greater = Claim { site: "a".to_owned(), ballot: 32, follows: 17, ..Claim::default() };
    world.known.own = Some(AuthoritySpec { claims: vec![greater], ..world.own() });
    assert_eq!(world.goes(), "promote waits: GreaterClaim\n");
    let mut world = committed();
    world.known.peers[0].1 = Known::NotYet("silence".to_owned());
    let assert = "kubectl banyan failover assert-fenced --evidence NodesStopped move";
    assert_eq!(world.goes(), format!("promote waits: NotRead -> {assert}\n"));
    world.journal.asserted = true;
    assert_eq!(world.goes(), COMMITTED);
}

#[test]
fn a_site_that_has_authority_has_nothing_to_move_unless_a_store_of_it_is_closed() {
    let mut world = World::new(MoveAction::Failover);
    world.known.own = Some(held("b", 17));
    let row = |open| StoreShows { open, opened_at: Some(17), ballot: Some(32), ..StoreShows::default() };
    let shows = |primary, open| Known::Read(StoreShows { primary, ..row(open) });
    world.known.stores[0].1 = shows(true, true);
    assert_eq!(world.goes(), "Refused\n");
    // A move went on without it.
    world.known.stores[0].1 = shows(false, true);
    assert!(matches!(world.next(), Next::Do(Step::Claim, _)));
    world.known.stores[0].1 = shows(true, false);
    *world.there() = AuthoritySpec { promoted: Some(0), ..held("b", 17) };
    world.leads_there = false;
    assert!(world.goes().ends_with(COMMITTED));
    assert_eq!(world.own().epoch, 33);
}

/// A primary that was closed is here, and the other site has authority.
fn former() -> World {
    let mut world = World { silent: vec!["a".to_owned()], ..World::new(MoveAction::Failover) };
    let closed = StoreShows { primary: true, open: false, ..StoreShows::default() };
    world.known.stores[0].1 = Known::Read(closed);
    world
}

#[test]
fn no_fence_of_a_standby_counts_that_was_made_before_the_claim_was_told() {
    let mut world = former();
    let assert = "kubectl banyan failover assert-fenced --evidence NodesStopped move";
    assert_eq!(world.goes(), format!("claim Claim\nfence waits: ClaimNotTold -> {assert}\n"));
    // Which of both is the standby must have been seen: an operator that has just started has not.
    world.known.stores[0].1 = Known::NotYet("not yet".to_owned());
    assert_eq!(world.goes(), format!("fence waits: ClaimNotTold -> {assert}\n"));
    world.silent.clear();
    assert!(world.goes().starts_with("claim Tell\nfence Fence\n"));
}

#[test]
fn an_old_primary_may_lack_what_was_written_since() {
    let accept = "kubectl banyan failover accept-data-loss move";
    let mut world = World { silent: Vec::new(), ..former() };
    let begins = "claim Claim\nclaim Tell\nfence Fence\n";
    assert_eq!(world.goes(), format!("{begins}catch-up waits: DataLoss -> {accept}\n"));
    // The other one is a standby still.
    let mut world = World { silent: Vec::new(), leads_there: false, ..former() };
    assert!(world.goes().ends_with(COMMITTED));
    // The holder was cut off, and knows nothing of what the other one was made to do.
    let mut world = World { silent: Vec::new(), ..former() };
    world.known.own = Some(AuthoritySpec { promoted: Some(16), ..held("b", 16) });
    world.known.peers[0].1 = Known::Read(Some(held("b", 16)));
    assert!(world.goes().ends_with(&format!("catch-up waits: DataLoss -> {accept}\n")));
}

/// An order of the other site ends the session that reads the store here.
#[test]
fn a_standby_that_was_closed_before_it_was_known_who_leads_here_is_closed_once_more() {
    let mut world = World { silent: Vec::new(), leads_there: false, ..former() };
    let leads = std::mem::replace(&mut world.known.stores[0].1, Known::NotYet("session ended".to_owned()));
    world.journal.claim = Some((33, 16));
    let claim =
        Claim { site: "b".to_owned(), ballot: 33, follows: 16, fence: Some(true), ..Claim::default() };
    world.known.own = Some(claims::open(&world.own(), claim).unwrap());
    world.catches_up = false;
    for _ in 0..2 {
        let Next::Do(_, act) = world.next() else { panic!("it waits: {:?}", world.next()) };
        world.act(&act);
    }
    assert_eq!(world.store().level, Some(FenceLevel::StoreAcknowledged));
    world.known.stores[0].1 = leads;
    assert!(world.goes().starts_with("fence Fence\n"), "nobody is asked to accept a loss");
    assert!(world.own().is_held_by("b"));
    // Where the other one was a primary too, a person decides.
    let mut both = World { silent: Vec::new(), ..former() };
    assert!(both.goes().contains("catch-up waits: DataLoss"));
}

#[test]
fn who_has_authority_opens_nothing_elsewhere_that_it_closed() {
    let mut world = World::new(MoveAction::Failover);
    let over = Claim { site: "b".to_owned(), ballot: 33, state: ClaimState::Withdrawn, ..Claim::default() };
    let own = AuthoritySpec { promoted: Some(0), claims: vec![over], ..held("b", 17) };
    (world.known.own, world.journal.claim, world.journal.abort) = (Some(own), Some((33, 17)), true);
    world.store().level = Some(FenceLevel::StoreAcknowledged);
    assert_eq!(world.goes(), "Aborted\n", "it was closed for the epoch 17 already");
}

#[test]
fn where_authority_is_a_failover_opens_what_the_claim_of_another_site_closes() {
    let mut world = World { silent: Vec::new(), ..former() };
    // It has been closed since this was read.
    let open = StoreShows {
        primary: true,
        open: true,
        opened_at: Some(16),
        ballot: Some(16),
        frozen: false,
        closing: false,
    };
    (world.known.own, world.known.stores[0].1) = (Some(held("b", 16)), Known::Read(open));
    assert_eq!(world.goes(), "Refused\n", "there is nothing to move");
    let claim =
        Claim { site: "a".to_owned(), ballot: 32, follows: 16, fence: Some(true), ..Claim::default() };
    world.known.own = Some(AuthoritySpec { claims: vec![claim], ..held("b", 16) });
    assert!(world.goes().starts_with("claim Claim\n"));
    world.known.own = Some(held("b", 16));
    world.journal = Journal { action: MoveAction::Failover, ..Journal::default() };
    assert_eq!(world.goes(), "Refused\n");
}

#[test]
fn nothing_is_claimed_over_an_open_primary_that_nobody_can_explain() {
    let mut world = World::new(MoveAction::Failover);
    world.known.stores[0].1 = Known::Read(StoreShows { primary: true, open: true, ..StoreShows::default() });
    assert_eq!(world.goes(), "preflight waits: StoreOpen\n");
    world.known.stores[0].1 = Known::NotYet("not yet".to_owned());
    assert_eq!(world.goes(), "preflight waits: StoreOpen\n");
}

#[test]
fn who_was_overtaken_after_the_commit_says_that_it_was_committed() {
    for abort in [false, true] {
        let mut world = World::new(MoveAction::Switchover);
        (world.journal.claim, world.journal.committed, world.journal.abort) = (Some((17, 16)), true, abort);
        world.known.own = Some(AuthoritySpec { follows: 17, promoted: None, ..held("a", 32) });
        let words = "it was committed in epoch 17, and a took over in epoch 32 before all was open here";
        assert_eq!(world.next(), Next::End(Phase::Superseded, words.to_owned()));
    }
}

#[test]
fn who_committed_gives_way_to_a_greater_claim_of_a_site_that_is_gone() {
    let mut world = World { silent: vec!["a".to_owned()], ..World::new(MoveAction::Failover) };
    world.journal.claim = Some((17, 16));
    let greater = Claim { site: "a".to_owned(), ballot: 32, follows: 17, ..Claim::default() };
    let own = AuthoritySpec { promoted: Some(16), follows: 16, claims: vec![greater], ..held("b", 17) };
    world.known.own = Some(own);
    assert_eq!(world.goes(), "promote waits: GreaterClaim -> kubectl banyan failover abort move\n");
    world.journal.abort = true;
    assert_eq!(world.goes(), "Superseded\n");
}
