//! Whether a move to this site could call the hooks of its group.

use serde_json::json;

use super::tests::{authority, change_spec, decided, well};
use super::*;
use crate::api::Problem;
use crate::api::conditions::State;
use crate::failovergroup::checks::found::Step;

/// A group with a hook that is waited for, and one that is not, of which that is known.
fn asks(known: Option<Result<(), Problem>>) -> Observed {
    let mut seen = well();
    change_spec(&mut seen, |spec| {
        let server = json!({"url": "https://ops.example/drain"});
        spec["hooks"] = json!([
            {"name": "drain", "at": "BeforeFence", "webhook": server},
            {"name": "tell", "at": "AfterTraffic", "webhook": server, "onFailure": "Continue"},
        ]);
    });
    for name in ["drain", "tell"] {
        seen.asked.hooks.extend(known.clone().map(|known| (name.to_owned(), known)));
    }
    seen
}

#[test]
fn a_hook_that_could_not_be_called_is_found_before_the_move() {
    let away = Problem::error("hooks[drain].webhook.url", "nobody listens there", "start it");
    let (unknown, warning, failed) = (CheckState::Unknown, CheckState::Warning, CheckState::Failed);
    let cases = [
        (None, [unknown; 2], State::Unknown),
        (Some(Err(away)), [failed, warning], State::False),
        (Some(Ok(())), [CheckState::Passed; 2], State::True),
    ];
    for (known, states, ready) in cases {
        let seen = asks(known);
        let decided = decided(&seen);
        let of = |name: &str| {
            decided.checks.iter().find(|found| found.name == name).expect("it is checked").clone()
        };
        assert_eq!([of("hook drain").state, of("hook tell").state], states);
        assert_eq!(decided.standing.ready.state, ready, "{:?}", decided.standing);
        if ready == State::False {
            assert_eq!(of("hook drain").message, "hooks[drain].webhook.url: nobody listens there");
            assert_eq!((of("hook drain").remedy.as_str(), of("hook drain").step), ("start it", Step::Claim));
        }
    }
}

#[test]
fn who_has_authority_calls_none() {
    let mut seen = asks(None);
    seen.knowledge.own = Some(authority("gcp"));
    assert!(decided(&seen).checks.iter().all(|check| !check.name.starts_with("hook ")));
}
