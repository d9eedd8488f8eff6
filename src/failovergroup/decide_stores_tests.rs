//! What readiness makes of stores in the middle of a move.

use super::tests::{change_store, decided, well};
use super::*;
use crate::stores::reading::{Role, Row};

#[test]
fn what_a_move_has_closed_is_no_second_primary_and_a_standby_is_measured_by_the_open_one() {
    let mut seen = well();
    let row = |open: bool| Row { ballot: 33, opened_at: 16, open, closing: false, sealed: None };
    change_store(&mut seen, "aws", |reading| reading.row = Some(row(false)));
    change_store(&mut seen, "gcp", |reading| (reading.role, reading.row) = (Role::Primary, Some(row(true))));
    let two = |seen: &Observed| decided(seen).checks.iter().any(|found| found.reason == "TwoPrimaries");
    assert!(!two(&seen), "the old one follows later");
    change_store(&mut seen, "aws", |reading| reading.row = Some(row(true)));
    assert!(two(&seen));
}
