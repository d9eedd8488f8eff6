//! A standby: it is told to receive nothing more, or to receive again; and how far it is.
//!
//! What a standby connects to lies in `primary_conninfo`, with a password perhaps. To stop it, something is added at the
//! end that leads nowhere; to let it go on, that is taken away again. So nothing has to be kept elsewhere.

use std::time::{Duration, Instant};

use super::link::Link;
use super::{row, sql};
use crate::stores::{Ballot, CaughtUp, Frozen, Position, StoreError};

/// How long it is waited for that the server did what its configuration says.
const SETTLES: Duration = Duration::from_secs(10);
/// How long lies between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What is added to a list of keywords: no server listens there.
const NOWHERE: &str = " hostaddr=127.0.0.1 port=1 application_name=banyan-frozen";
/// The same for a URL.
const NOWHERE_IN_URL: &str = "hostaddr=127.0.0.1&port=1&application_name=banyan-frozen";

/// Whether a `primary_conninfo` was frozen by us.
pub(super) fn is_frozen(conninfo: &str) -> bool {
    conninfo.ends_with(NOWHERE) || conninfo.ends_with(NOWHERE_IN_URL)
}

/// The same, leading nowhere.
fn frozen(conninfo: &str) -> String {
    if !["postgres://", "postgresql://"].iter().any(|scheme| conninfo.starts_with(scheme)) {
        return format!("{conninfo}{NOWHERE}");
    }
    let mark = if conninfo.contains('?') { '&' } else { '?' };
    format!("{conninfo}{mark}{NOWHERE_IN_URL}")
}

/// As it was before.
fn thawed(conninfo: &str) -> &str {
    match conninfo.strip_suffix(NOWHERE_IN_URL) {
        Some(before) => before.strip_suffix(['?', '&']).unwrap_or(before),
        None => conninfo.strip_suffix(NOWHERE).unwrap_or(conninfo),
    }
}

async fn only_standby(link: &Link) -> Result<(), StoreError> {
    let standby = link.one("select pg_is_in_recovery() as standby").await?.is("standby");
    if standby { Ok(()) } else { Err(StoreError::IsPrimary) }
}

async fn conninfo(link: &Link) -> Result<String, StoreError> {
    link.one("select current_setting('primary_conninfo') as conninfo").await?.text("conninfo")
}

async fn set_conninfo(link: &Link, conninfo: &str) -> Result<(), StoreError> {
    link.ask(&format!("alter system set primary_conninfo = {}", sql::text(conninfo))).await?;
    link.ask("select pg_reload_conf()").await.map(drop)
}

/// Receives nothing more, and has replayed all that it has.
pub(super) async fn freeze(link: &Link, ballot: Ballot) -> Result<Frozen, StoreError> {
    only_standby(link).await?;
    if let Some(row) = row::read(link).await?.filter(|row| row.ballot > ballot) {
        return Err(StoreError::Refused { asked: ballot, known: row.ballot });
    }
    let now = conninfo(link).await?;
    if !is_frozen(&now) {
        set_conninfo(link, &frozen(&now)).await?;
    }
    let begin = Instant::now();
    while begin.elapsed() < SETTLES {
        let found = link
            .one(
                "select current_setting('primary_conninfo') as conninfo,
                 (select count(*) from pg_stat_wal_receiver where status = 'streaming') as receivers,
                 pg_last_wal_receive_lsn() as received, pg_last_wal_replay_lsn() as replayed",
            )
            .await?;
        let stopped = is_frozen(&found.text("conninfo")?) && found.value::<u32>("receivers")? == 0;
        let (received, replayed): (Option<Position>, Position) =
            (found.maybe("received")?, found.value("replayed")?);
        // A record that was received in part is never replayed: that no more is replayed is the end. So it is where nothing was
        // received since it started: what its own log has is replayed first.
        if stopped && (received.is_some_and(|received| replayed >= received) || rests(link, replayed).await?)
        {
            return Ok(Frozen { position: Some(replayed) });
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(StoreError::NotYet { what: "the standby still receives or replays", after: SETTLES })
}

/// Whether nothing more is replayed for a while.
async fn rests(link: &Link, replayed: Position) -> Result<bool, StoreError> {
    for _ in 0..5 {
        tokio::time::sleep(LOOK * 2).await;
        let now: Position = link.one("select pg_last_wal_replay_lsn() as at").await?.value("at")?;
        if now != replayed {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Receives again.
pub(super) async fn thaw(link: &Link) -> Result<(), StoreError> {
    only_standby(link).await?;
    let now = conninfo(link).await?;
    if is_frozen(&now) { set_conninfo(link, thawed(&now)).await } else { Ok(()) }
}

/// Whether the fence of that ballot, and all before it, is replayed here.
pub(super) async fn caught_up(
    link: &Link,
    ballot: Ballot,
    position: Option<Position>,
) -> Result<CaughtUp, StoreError> {
    only_standby(link).await?;
    let replayed: Option<Position> = link.one("select pg_last_wal_replay_lsn() as at").await?.maybe("at")?;
    let row = row::read(link).await?;
    if let Some(row) = row.filter(|row| row.ballot > ballot) {
        return Err(StoreError::Refused { asked: ballot, known: row.ballot });
    }
    let sealed = row.filter(|row| row.ballot == ballot && !row.open).and_then(|row| row.sealed);
    let reached = position.is_none_or(|position| replayed.is_some_and(|replayed| replayed >= position));
    Ok(if sealed.is_some() && reached { CaughtUp::Yes } else { CaughtUp::No { replayed } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_frozen_thaws_to_what_it_was() {
        for text in [
            "",
            "user=r password='a b' host=db port=5432",
            "postgres://r:p@db/",
            "postgresql://r@db:5432/?sslmode=require",
        ] {
            assert!(!is_frozen(text), "{text}");
            let frozen = frozen(text);
            assert!(is_frozen(&frozen) && frozen.starts_with(text), "{frozen}");
            assert_eq!(thawed(&frozen), text);
        }
        assert_eq!(
            frozen("postgres://r@db/?a=b"),
            "postgres://r@db/?a=b&hostaddr=127.0.0.1&port=1&application_name=banyan-frozen"
        );
    }
}
