//! The authority row and the heartbeat.

use super::link::Link;
use super::sql;
use crate::stores::reading::{Heartbeat, Row};
use crate::stores::{Ballot, StoreError};

/// Whether the operator's tables are there.
pub(super) const MADE: &str =
    "(to_regclass('banyan.authority') is not null and to_regclass('banyan.heartbeat') is not null)";

/// The row with the roles that a fence closed, where the tables are there.
const READ: &str = "select ballot, opened_at, open, sealed, lifted from banyan.authority";

/// What the row says; `None` if there is none, or no table.
pub(super) async fn read(link: &Link) -> Result<Option<Row>, StoreError> {
    if !link.one(&format!("select {MADE} as made")).await?.is("made") {
        return Ok(None);
    }
    read_made(link).await
}

/// The same where the tables are known to be there.
pub(super) async fn read_made(link: &Link) -> Result<Option<Row>, StoreError> {
    let Some(found) = link.ask(READ).await?.pop() else { return Ok(None) };
    Ok(Some(Row {
        ballot: found.value("ballot")?,
        opened_at: found.value("opened_at")?,
        open: found.is("open"),
        closing: false,
        sealed: found.maybe("sealed")?,
    }))
}

/// The last sign of life, where the tables are known to be there.
pub(super) async fn heartbeat(link: &Link) -> Result<Option<Heartbeat>, StoreError> {
    let iso = "select site, to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at from banyan.heartbeat";
    let Some(found) = link.ask(iso).await?.pop() else { return Ok(None) };
    Ok(Some(Heartbeat { site: found.text("site")?, at: found.value("at")? }))
}

/// Writes a sign of life, and makes the tables where they are not there yet.
pub(super) async fn beat(link: &Link, site: &str) -> Result<(), StoreError> {
    let write = format!(
        "insert into banyan.heartbeat (site, at) values ({}, clock_timestamp())
         on conflict (id) do update set site = excluded.site, at = excluded.at;",
        sql::text(site)
    );
    let block = format!("{} {} {write}", only_primary(), sql::TABLES);
    link.ask(&sql::transaction("", &block)).await.map(drop)
}

/// Refuses what needs a primary.
pub(super) fn only_primary() -> String {
    format!("if pg_is_in_recovery() then {} end if;", sql::raise(sql::STANDBY, "null"))
}

/// Locks the row, which is made where there is none, and reads it into `known`, `opened`, `was_open`, `seal_at`, `undone`,
/// `shut`.
pub(super) const LOCKED: &str = "
  insert into banyan.authority (ballot) values (0) on conflict (id) do nothing;
  select ballot, opened_at, open, sealed, lifted, closed into known, opened, was_open, seal_at, undone, shut
    from banyan.authority for update;";

/// What [`LOCKED`] reads into.
pub(super) const DECLARED: &str =
    "known bigint; opened bigint; was_open boolean; seal_at pg_lsn; undone bigint; shut text[]; one text;";

/// Refuses where the row knows a greater ballot.
pub(super) fn refuse_greater(ballot: Ballot) -> String {
    format!("if known > {ballot} then {} end if;", sql::raise(sql::GREATER, "known"))
}
