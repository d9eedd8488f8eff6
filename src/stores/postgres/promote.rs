//! Promotion, a write to verify it, and opening.

use std::time::{Duration, Instant};

use super::link::Link;
use super::row::{self, DECLARED, LOCKED, only_primary, refuse_greater};
use super::{failure, fence, sql};
use crate::stores::{Ballot, Position, Promotion, Session, StoreError, Verified};

/// How long a standby may take to become a primary: it replays first what it received.
const PROMOTES: Duration = Duration::from_secs(30);
/// How long it is waited for that a setting is in force.
const SETTLES: Duration = Duration::from_secs(5);
/// How long lies between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A session that was opened before it was read who may promote. A fence ends it.
pub struct PostgresSession {
    link: Link,
}

impl PostgresSession {
    pub(super) fn new(link: Link) -> Self {
        Self { link }
    }
}

/// Promotes if the row says what is expected: one statement, so that nothing comes between. Where it is a primary
/// already, the row must not know a greater ballot. It may become one by an order that came before, between two words of this.
fn order(Promotion { ballot, row }: Promotion) -> String {
    let expected = row.map_or_else(|| "null".to_owned(), |row| row.to_string());
    let block = format!(
        "if to_regclass('banyan.authority') is not null then
    execute 'select ballot from banyan.authority' into known;
  end if;
  if known > {ballot} then {greater} end if;
  if pg_is_in_recovery() then
    if known is distinct from {expected}::bigint then {other} end if;
    begin
      perform pg_promote(false);
    exception when object_not_in_prerequisite_state then
      null;
    end;
  end if;",
        greater = sql::raise(sql::GREATER, "known"),
        other = sql::raise(sql::OTHER_ROW, "known"),
    );
    format!("do $banyan$ declare known bigint; begin {block} end $banyan$")
}

impl Session for PostgresSession {
    async fn promote(&mut self, promotion: Promotion) -> Result<Option<Position>, StoreError> {
        self.link.ask(&order(promotion)).await.map_err(|error| match error {
            StoreError::OtherRow { found, .. } => StoreError::OtherRow { expected: promotion.row, found },
            other => failure::asked(other, promotion.ballot, 0),
        })?;
        let begin = Instant::now();
        while begin.elapsed() < PROMOTES {
            let found = self
                .link
                .one("select case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() end as at")
                .await?;
            if let Some(position) = found.maybe("at")? {
                return Ok(Some(position));
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(StoreError::NotYet { what: "the standby is not promoted", after: PROMOTES })
    }
}

/// Writes.
pub(super) async fn write(link: &Link, ballot: Ballot, token: &str) -> Result<(), StoreError> {
    let token = sql::text(token);
    let block = format!(
        "{primary} {tables} {LOCKED} {greater}
  insert into banyan.verified (ballot, token) values ({ballot}, {token})
    on conflict (id) do update set ballot = excluded.ballot, token = excluded.token;",
        primary = only_primary(),
        tables = sql::TABLES,
        greater = refuse_greater(ballot),
    );
    let written = link.ask(&sql::transaction(DECLARED, &block)).await;
    written.map(drop).map_err(|error| failure::asked(error, ballot, 0))
}

/// Reads back what was written, over another session.
pub(super) async fn read_back(link: &Link, ballot: Ballot, token: &str) -> Result<Verified, StoreError> {
    let query = format!(
        "select pg_current_wal_insert_lsn() as at from banyan.verified where ballot = {ballot} and token = {}",
        sql::text(token)
    );
    match link.ask(&query).await?.pop() {
        Some(found) => Ok(Verified { position: found.maybe("at")? }),
        None => Err(StoreError::NotYet { what: "what was written is not read back", after: Duration::ZERO }),
    }
}

/// Sets for whom commits wait, and waits until it is in force.
async fn wait_for(link: &Link, names: &str) -> Result<(), StoreError> {
    let setting = "select current_setting('synchronous_standby_names') as names";
    if link.one(setting).await?.text("names")? == names {
        return Ok(());
    }
    link.ask(&format!("alter system set synchronous_standby_names = {}", sql::text(names))).await?;
    link.ask("select pg_reload_conf()").await?;
    let begin = Instant::now();
    while begin.elapsed() < SETTLES {
        if link.one(setting).await?.text("names")? == names {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(StoreError::NotYet { what: "synchronous_standby_names is not in force", after: SETTLES })
}

/// Opens a primary for applications.
pub(super) async fn open(link: &Link, epoch: Ballot, roles: &[String]) -> Result<(), StoreError> {
    if let Some(row) = row::read(link).await?.filter(|row| row.ballot > epoch) {
        return Err(StoreError::Refused { asked: epoch, known: row.ballot });
    }
    if link.one("select pg_is_in_recovery() as standby").await?.is("standby") {
        return Err(StoreError::IsStandby);
    }
    // Before anybody can log in: the standby that commits would wait for is the old primary.
    wait_for(link, "").await?;
    fence::end_own(link).await?;
    let block = format!(
        "{primary} {tables} {LOCKED} {greater}
  for one in select rolname from pg_roles where rolname = any(shut || {listed}) and not rolcanlogin loop
    execute format('alter role %I login', one);
  end loop;
  if opened < {epoch} or not was_open then
    update banyan.authority set ballot = {epoch}, opened_at = {epoch}, open = true, sealed = null, closed = '{{}}',
      changed = clock_timestamp();
  end if;",
        primary = only_primary(),
        tables = sql::TABLES,
        greater = refuse_greater(epoch),
        listed = sql::texts(roles),
    );
    link.ask(&sql::transaction(DECLARED, &block)).await.map_err(|error| failure::asked(error, epoch, 0))?;
    match row::read(link).await? {
        Some(row) if row.open && row.opened_at == epoch => Ok(()),
        Some(row) if row.ballot > epoch => Err(StoreError::Refused { asked: epoch, known: row.ballot }),
        _ => Err(StoreError::NotYet { what: "the store is not open", after: Duration::ZERO }),
    }
}

/// Has commits wait for a standby of that name, which streams; or for nobody.
pub(super) async fn protect(link: &Link, epoch: Ballot, name: Option<&str>) -> Result<(), StoreError> {
    match row::read(link).await? {
        Some(row) if row.ballot > epoch => {
            return Err(StoreError::Refused { asked: epoch, known: row.ballot });
        }
        _ => {}
    }
    let Some(name) = name else { return wait_for(link, "").await };
    let streams = format!(
        "select exists (select from pg_stat_replication where application_name = {} and state = 'streaming') as streams",
        sql::text(name)
    );
    if !link.one(&streams).await?.is("streams") {
        let what = "the other site does not stream, and every commit would wait for it";
        return Err(StoreError::NotYet { what, after: Duration::ZERO });
    }
    wait_for(link, &format!("FIRST 1 ({})", sql::name(name))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_names_what_it_expects() {
        let sql = order(Promotion { ballot: 33, row: Some(33) });
        assert!(sql.contains("known > 33") && sql.contains("distinct from 33::bigint"), "{sql}");
        assert!(order(Promotion { ballot: 33, row: None }).contains("distinct from null::bigint"));
    }
}
