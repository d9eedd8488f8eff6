//! Closing a primary, and opening it again where the claim was withdrawn.
//!
//! The row and the roles change in one transaction, which is sent at once: whether we live to hear of it makes no
//! difference. After that nobody of `roles` can log in; then all sessions of clients are ended, until none is left.
//! Then the place of the log is written into the row: whoever has replayed that has replayed all that was acknowledged.

use std::time::Duration;

use super::link::{Found, Link, NAMED};
use super::row::{self, DECLARED, LOCKED, only_primary, refuse_greater};
use super::{failure, rights, sql, writers};
use crate::stores::reading::Row;
use crate::stores::{Ballot, Fence, Fenced, Position, StoreError};

/// How often sessions are ended and looked for before those that are left are named.
const ROUNDS: u32 = 20;
/// How long lies between two of these looks. A session that passed its login just before the roles were closed is seen
/// within that time.
const BETWEEN: Duration = Duration::from_millis(50);
/// How many looks in a row must find nobody.
const QUIET: u32 = 2;

/// Sessions of operators other than this one.
fn own_others() -> String {
    format!(
        "backend_type = 'client backend' and pid <> pg_backend_pid()
         and (usename = current_user or application_name like '{NAMED}%')"
    )
}

/// Which sessions we may end: those of superusers only a superuser.
const MAY_END: &str = "((select rolsuper from pg_roles where rolname = current_user)
  or not coalesce((select rolsuper from pg_roles where oid = usesysid), true))";

/// Ends our own older sessions: what they still have in hand never arrives, and their locks are gone.
pub(super) async fn end_own(link: &Link) -> Result<(), StoreError> {
    let end = format!(
        "select count(pg_terminate_backend(pid)) as ended from pg_stat_activity where {} and {MAY_END}",
        own_others()
    );
    let left = format!("select count(*) as left from pg_stat_activity where {} and {MAY_END}", own_others());
    for _ in 0..ROUNDS {
        link.one(&end).await?;
        if link.one(&left).await?.value::<u32>("left")? == 0 {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Err(StoreError::Leaks(vec!["an older session of an operator".to_owned()]))
}

/// Refuses at once what the row would refuse, before anything is ended.
async fn look(link: &Link, fence: Fence) -> Result<(), StoreError> {
    let Some(row) = row::read(link).await? else { return Ok(()) };
    if row.ballot > fence.ballot {
        return Err(StoreError::Refused { asked: fence.ballot, known: row.ballot });
    }
    if row.opened_at > fence.follows {
        let Fence { ballot, follows } = fence;
        return Err(StoreError::OpenedSince { asked: ballot, follows, opened: row.opened_at });
    }
    Ok(())
}

/// Closes a primary.
pub(super) async fn fence(link: &Link, fence: Fence, roles: &[String]) -> Result<Fenced, StoreError> {
    look(link, fence).await?;
    rights::sees_sessions(link).await?;
    end_own(link).await?;
    let Fence { ballot, follows } = fence;
    let since = link.one("select clock_timestamp() as since").await?.text("since")?;
    let closing = close(fence, roles);
    let mut ended = 0;
    if let Err(error) = link.ask(&closing).await {
        let error = failure::asked(error, ballot, follows);
        if error != StoreError::Locked {
            return Err(error);
        }
        // Somebody has the roles or the row in hand. All sessions are to be ended anyway; theirs are ended now.
        link.ask("rollback").await?;
        ended += end_clients(link).await?;
        tokio::time::sleep(BETWEEN).await;
        link.ask(&closing).await.map_err(|error| failure::asked(error, ballot, follows))?;
    }
    let found = found(link).await?;
    let open_to = writers::unlisted(link, roles).await?;
    let (last, left) = end_all(link, &since).await?;
    ended += last;
    let position = seal(link, ballot).await?;
    confirm(link, ballot, roles).await?;
    Ok(Fenced { ballot, position: Some(position), ended, open_to, left, found, token: None })
}

/// Where the transaction that closes leaves what it found, for this session alone.
const FOUND: &str = "banyan.found";

/// The row that was written over, if it was closed.
async fn found(link: &Link) -> Result<Option<Row>, StoreError> {
    let read = format!(
        "select split_part(said, ' ', 1) as ballot, split_part(said, ' ', 2) as opened_at, split_part(said, ' ', 3) as sealed
         from current_setting('{FOUND}', true) as said where said <> ''"
    );
    let Some(found) = link.ask(&read).await?.pop() else { return Ok(None) };
    let (ballot, opened_at) = (found.value("ballot")?, found.value("opened_at")?);
    Ok(Some(Row { ballot, opened_at, open: false, closing: false, sealed: Some(found.value("sealed")?) }))
}

/// The transaction that closes: the row and the roles.
fn close(Fence { ballot, follows }: Fence, roles: &[String]) -> String {
    let opened = sql::raise(sql::OPENED, "opened");
    let withdrawn = sql::raise(sql::WITHDRAWN, "undone");
    let block = format!(
        "{primary} {tables} {LOCKED} {greater}
  if opened > {follows} then {opened} end if;
  if undone >= {ballot} then {withdrawn} end if;
  perform set_config('{FOUND}', case when was_open or seal_at is null then '' else known || ' ' || opened || ' ' || seal_at end, false);
  if was_open then shut := '{{}}'; end if;
  for one in select rolname from pg_roles where rolname = any({listed}) and rolcanlogin loop
    execute format('alter role %I nologin', one);
    shut := array_append(array_remove(shut, one), one);
  end loop;
  update banyan.authority set ballot = {ballot}, open = false, sealed = null, closed = shut, changed = clock_timestamp();",
        primary = only_primary(),
        tables = sql::TABLES,
        greater = refuse_greater(ballot),
        listed = sql::texts(roles),
    );
    sql::transaction(DECLARED, &block)
}

/// Ends all sessions of clients that we may end.
async fn end_clients(link: &Link) -> Result<u32, StoreError> {
    let end = format!(
        "select count(*) filter (where pg_terminate_backend(pid)) as ended from pg_stat_activity
         where backend_type = 'client backend' and pid <> pg_backend_pid() and {MAY_END}"
    );
    link.one(&end).await?.value("ended")
}

/// Ends all sessions of clients until none is left that was there before, or that nobody could open anew; and names those
/// of superusers, which only a superuser may end, and which may come again.
async fn end_all(link: &Link, since: &str) -> Result<(u32, Vec<String>), StoreError> {
    let others = "backend_type = 'client backend' and pid <> pg_backend_pid()";
    let who = "coalesce(usename::text, '') || ' (process ' || pid || ')' as who";
    let may_log_in = "coalesce((select rolcanlogin from pg_roles where oid = usesysid), false)";
    let left = format!(
        "select {who} from pg_stat_activity where {others}
         and (not {may_log_in} or (backend_start < {}::timestamptz and {MAY_END}))",
        sql::text(since)
    );
    let (mut ended, mut quiet) = (0, 0);
    let mut still = Vec::new();
    for _ in 0..ROUNDS {
        ended += end_clients(link).await?;
        still = link.ask(&left).await?;
        quiet = if still.is_empty() { quiet + 1 } else { 0 };
        if quiet == QUIET {
            let superusers = format!(
                "select {who} from pg_stat_activity where {others}
                 and coalesce((select rolsuper from pg_roles where oid = usesysid), true)"
            );
            return Ok((ended, names(&link.ask(&superusers).await?)?));
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Err(StoreError::Leaks(names(&still)?))
}

fn names(found: &[Found]) -> Result<Vec<String>, StoreError> {
    found.iter().map(|found| found.text("who")).collect()
}

/// Writes into the row where the log stands, now that nobody writes.
async fn seal(link: &Link, ballot: Ballot) -> Result<Position, StoreError> {
    let seal = format!(
        "{} update banyan.authority set sealed = pg_current_wal_insert_lsn() where ballot = {ballot} and not open
         returning sealed; commit",
        sql::BEGIN
    );
    match link.ask(&seal).await?.pop() {
        Some(found) => found.value("sealed"),
        None => Err(superseded(link, ballot).await),
    }
}

/// Reads back that it is closed.
async fn confirm(link: &Link, ballot: Ballot, roles: &[String]) -> Result<(), StoreError> {
    let read = format!(
        "select (select count(*) from pg_roles where rolname = any({}) and rolcanlogin) as may,
         (select ballot = {ballot} and not open and sealed is not null from banyan.authority) as closed,
         pg_is_in_recovery() as standby",
        sql::texts(roles)
    );
    let found = link.one(&read).await?;
    if found.is("standby") {
        return Err(StoreError::IsStandby);
    }
    if found.is("closed") && found.value::<u32>("may")? == 0 {
        return Ok(());
    }
    Err(superseded(link, ballot).await)
}

/// What stands there instead of our ballot.
async fn superseded(link: &Link, ballot: Ballot) -> StoreError {
    match row::read(link).await {
        Ok(Some(row)) if row.ballot > ballot => StoreError::Refused { asked: ballot, known: row.ballot },
        Ok(row) => StoreError::OtherRow { expected: Some(ballot), found: row.map(|row| row.ballot) },
        Err(error) => error,
    }
}

/// Ends older sessions of operators at a standby.
pub(super) async fn fence_standby(link: &Link, fence: Fence) -> Result<(), StoreError> {
    look(link, fence).await?;
    end_own(link).await
}

/// Opens again what that ballot closed, and has a fence of that ballot that is still on its way refused.
pub(super) async fn lift(link: &Link, ballot: Ballot) -> Result<(), StoreError> {
    if row::read(link).await?.is_none()
        && link.one("select pg_is_in_recovery() as standby").await?.is("standby")
    {
        return Err(StoreError::IsStandby);
    }
    end_own(link).await?;
    let block = format!(
        "{primary} {tables} {LOCKED} {greater}
  update banyan.authority set lifted = greatest(lifted, {ballot});
  if known = {ballot} and not was_open then
    for one in select rolname from pg_roles where rolname = any(shut) and not rolcanlogin loop
      execute format('alter role %I login', one);
    end loop;
    update banyan.authority set open = true, sealed = null, closed = '{{}}', changed = clock_timestamp();
  end if;",
        primary = only_primary(),
        tables = sql::TABLES,
        greater = refuse_greater(ballot),
    );
    link.ask(&sql::transaction(DECLARED, &block))
        .await
        .map(drop)
        .map_err(|error| failure::asked(error, ballot, 0))
}
