use super::*;
use crate::api::authority::AuthoritySpec;
use crate::api::failover::MoveAction;
use crate::authority::known::{Knowledge, Known, StoreShows};

/// A standby `b` of the site `a`, on which a rehearsal is carried out at once.
struct World {
    known: Knowledge,
    silent: Vec<String>,
    preflight: Vec<Held>,
    capacity: Vec<Held>,
    room: Option<Held>,
    surplus: Option<Held>,
    gives_way: Option<String>,
    journal: Journal,
}

fn held(message: &str) -> Held {
    Held { message: message.to_owned(), remedy: "see why".to_owned() }
}

impl World {
    fn new() -> Self {
        let own = AuthoritySpec { epoch: 16, holders: vec!["a".to_owned()], ..AuthoritySpec::default() };
        let row = Some(16);
        let standby = StoreShows { open: true, opened_at: row, ballot: row, ..StoreShows::default() };
        Self {
            known: Knowledge {
                own: Some(own.clone()),
                peers: vec![("a".to_owned(), Known::Read(Some(own)))],
                witness: None,
                stores: vec![("db".to_owned(), Known::Read(standby))],
                ..Knowledge::default()
            },
            silent: Vec::new(),
            preflight: Vec::new(),
            capacity: Vec::new(),
            room: None,
            surplus: None,
            gives_way: None,
            journal: Journal { action: MoveAction::Rehearsal, ..Journal::default() },
        }
    }

    fn next(&self) -> Next {
        let view = View {
            silent: &self.silent,
            preflight: &self.preflight,
            capacity: &self.capacity,
            ..View::clear("b", 1, "try-out", &self.known)
        };
        let more = Rehearsed {
            room: self.room.as_ref(),
            surplus: self.surplus.as_ref(),
            gives_way: self.gives_way.as_deref(),
        };
        decide(&view, more, &self.journal)
    }

    /// Carries acts out until it waits, or is over; answers what was done.
    fn runs(&mut self) -> (Vec<Act>, Next) {
        let mut done = Vec::new();
        for _ in 0..20 {
            match self.next() {
                Next::Do(_, act) => {
                    match &act {
                        Act::Grow => self.journal.grown = Some(true),
                        Act::Replay(_) => {
                            self.journal.stores.entry("db".to_owned()).or_default().replayed = true
                        }
                        Act::Try => self.journal.tried = true,
                        Act::Shrink => self.journal.grown = Some(false),
                        other => panic!("{other:?} is no part of a rehearsal"),
                    }
                    done.push(act);
                }
                next => return (done, next),
            }
        }
        panic!("it goes round in circles: {done:?}")
    }
}

fn reason(next: &Next) -> &str {
    match next {
        Next::Wait(_, wait) => wait.reason,
        Next::End(phase, _) => phase.as_str(),
        Next::Do(..) => "Do",
    }
}

#[test]
fn it_grows_follows_tries_and_gives_back_what_it_took() {
    let mut world = World::new();
    let (done, next) = world.runs();
    assert_eq!(done, [Act::Grow, Act::Replay(vec!["db".to_owned()]), Act::Try, Act::Shrink]);
    assert_eq!(reason(&next), "Done");
}

#[test]
fn nobody_is_put_out_for_it() {
    let mut world = World::new();
    world.room = Some(held("there is no room"));
    let (done, next) = world.runs();
    assert!(done.is_empty());
    assert_eq!(reason(&next), "NoRoom");
    // Other than what standing readiness finds, this cannot be left out.
    world.journal.skipped.extend([Step::Preflight, Step::Capacity]);
    assert_eq!(reason(&world.next()), "NoRoom");
}

#[test]
fn it_waits_for_pods_and_until_they_are_gone() {
    let mut world = World::new();
    world.capacity = vec![held("a pod is missing")];
    assert_eq!(reason(&world.runs().1), "NoCapacity");
    world.capacity.clear();
    world.surplus = Some(held("a pod is there still"));
    assert_eq!(reason(&world.runs().1), "TooLarge");
    world.surplus = None;
    assert_eq!(reason(&world.runs().1), "Done");
}

#[test]
fn whatever_ends_it_it_gives_back_what_it_took() {
    let grown = || {
        let mut world = World::new();
        world.capacity = vec![held("a pod is missing")];
        assert_eq!(world.runs().0, [Act::Grow]);
        world
    };
    let mut given_up = grown();
    given_up.journal.abort = true;
    let (done, next) = given_up.runs();
    assert_eq!((done, reason(&next)), (vec![Act::Shrink], "Aborted"));
    let mut moved = grown();
    moved.gives_way = Some("move".to_owned());
    let (done, next) = moved.runs();
    assert_eq!((done, reason(&next)), (vec![Act::Shrink], "Superseded"));
    let mut claimed = grown();
    claimed.known.own.as_mut().unwrap().holders = vec!["b".to_owned()];
    let (done, next) = claimed.runs();
    assert_eq!((done, reason(&next)), (vec![Act::Shrink], "Refused"));
}

#[test]
fn it_is_refused_where_authority_is_and_waits_where_a_failover_would_not_succeed() {
    let mut world = World::new();
    world.known.own.as_mut().unwrap().holders = vec!["b".to_owned()];
    assert_eq!(reason(&world.next()), "Refused");
    let mut world = World::new();
    world.preflight = vec![held("db lags")];
    assert_eq!(reason(&world.next()), "NotReady");
    world.silent = vec!["a".to_owned()];
    assert_eq!(reason(&world.next()), "SourceSilent");
}
