//! All that one look finds.

use jiff::Timestamp;

use super::link::{Found, Link};
use super::{rights, row, sql, standby, writers};
use crate::api::Problem;
use crate::stores::reading::{Archive, Downstream, Reading, Role, Upstream};
use crate::stores::{Position, StoreError};

/// What is asked of every server.
const SERVER: &str = "select current_setting('server_version') as version,
  to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as now,
  pg_is_in_recovery() as standby,
  (select system_identifier from pg_control_system()) as system,
  case when pg_is_in_recovery() then null else pg_current_wal_insert_lsn() end as written,
  case when pg_is_in_recovery() then pg_last_wal_receive_lsn() end as received,
  case when pg_is_in_recovery() then pg_last_wal_replay_lsn() end as replayed,
  case when pg_is_in_recovery() then null else pg_walfile_name(pg_current_wal_insert_lsn()) end as file,
  greatest((select timeline_id from pg_control_checkpoint()),
    (select min_recovery_end_timeline from pg_control_recovery()),
    (select received_tli from pg_stat_wal_receiver)) as timeline,
  current_setting('synchronous_standby_names') as waits_for,
  current_setting('data_checksums') = 'on' or current_setting('wal_log_hints') = 'on' as hints,
  current_setting('full_page_writes') = 'on' as pages,
  current_setting('archive_mode') <> 'off' as archives";

/// What only those may read who may read all settings.
const SETTINGS: &str = "select pg_has_role('pg_read_all_settings', 'USAGE') as reads";
const HIDDEN: &str = "select nullif(current_setting('archive_command'), '') as command,
  nullif(current_setting('archive_library', true), '') as library,
  nullif(current_setting('restore_command'), '') as restore, current_setting('primary_conninfo') as conninfo";

const DOWNSTREAM: &str = "select coalesce(application_name, '') as name, coalesce(state, '') as state,
  sync_state in ('sync', 'quorum') as synchronous, replay_lsn as replayed
  from pg_stat_replication order by 1 limit 16";

const UPSTREAM: &str = "select sender_host as host, sender_port as port, status = 'streaming' as streaming,
  (extract(epoch from clock_timestamp() - last_msg_receipt_time) * 1000)::bigint as heard,
  latest_end_lsn as sender_end from pg_stat_wal_receiver";

/// Reads all. `source` is the path of the store's field, for problems.
pub(super) async fn read(link: &Link, roles: &[String], source: &str) -> Result<Reading, StoreError> {
    let measured_at = Timestamp::now();
    let server = link.one(SERVER).await?;
    let role = if server.is("standby") { Role::Standby } else { Role::Primary };
    let hidden = match link.one(SETTINGS).await?.is("reads") {
        true => Some(link.one(HIDDEN).await?),
        false => None,
    };
    let (upstream, downstream) = match role {
        Role::Standby => (upstream(link).await?, Vec::new()),
        Role::Primary => (None, downstream(link).await?),
    };
    let made = link.one(&format!("select {} as made", row::MADE)).await?.is("made");
    let (row, heartbeat) = match made {
        true => (row::read_made(link).await?, row::heartbeat(link).await?),
        false => (None, None),
    };
    let mut problems = rights::problems(link, roles, source).await?;
    problems.extend(rights::others(link, source).await?);
    let unlisted_writers = writers::unlisted(link, roles).await?;
    problems.extend(unlisted_writers.iter().map(|role| unlisted(role, source)));
    let can_rewind = server.is("hints") && server.is("pages");
    if !can_rewind {
        problems.push(no_rewind(source));
    }
    let replayed: Option<Position> = server.maybe("replayed")?;
    let position = match role {
        Role::Primary => server.maybe("written")?,
        // Nothing is received where it was only copied, or restored from an archive.
        Role::Standby => server.maybe::<Position>("received")?.max(replayed),
    };
    Ok(Reading {
        measured_at,
        server_time: server.value("now")?,
        version: server.text("version")?,
        role,
        system: server.value("system")?,
        timeline: timeline(&server)?,
        position,
        replayed,
        upstream,
        downstream,
        waits_for: server.text("waits_for")?,
        can_rewind,
        archive: Archive {
            archives: server.is("archives"),
            archive: hidden.as_ref().and_then(archive),
            restore: hidden.as_ref().and_then(|hidden| hidden.get("restore").map(str::to_owned)),
        },
        row,
        heartbeat,
        open_roles: writers::open_roles(link, roles).await?,
        unlisted_writers,
        superusers: writers::superusers(link).await?,
        frozen: role == Role::Standby
            && hidden.and_then(|hidden| hidden.get("conninfo").map(standby::is_frozen)).unwrap_or(false),
        problems,
    })
}

/// A primary's timeline is that of the file it writes: the control file learns of a promotion only at the next checkpoint.
fn timeline(server: &Found) -> Result<u32, StoreError> {
    let of_file = server.get("file").and_then(|file| u32::from_str_radix(file.get(..8)?, 16).ok());
    of_file.map_or_else(|| server.value("timeline"), Ok)
}

fn archive(hidden: &Found) -> Option<String> {
    let command = hidden.get("command").filter(|command| *command != "(disabled)");
    command.or_else(|| hidden.get("library")).map(str::to_owned)
}

async fn downstream(link: &Link) -> Result<Vec<Downstream>, StoreError> {
    let one = |found: &Found| {
        Ok(Downstream {
            name: found.text("name")?,
            state: found.text("state")?,
            synchronous: found.is("synchronous"),
            replayed: found.maybe("replayed")?,
        })
    };
    link.ask(DOWNSTREAM).await?.iter().map(one).collect()
}

async fn upstream(link: &Link) -> Result<Option<Upstream>, StoreError> {
    let Some(found) = link.ask(UPSTREAM).await?.pop() else { return Ok(None) };
    let heard: Option<i64> = found.maybe("heard")?;
    let heard = heard.map(|millis| std::time::Duration::from_millis(millis.max(0).unsigned_abs()));
    Ok(Some(Upstream {
        host: found.get("host").map(str::to_owned),
        port: found.maybe("port")?,
        streaming: found.is("streaming"),
        heard,
        sender_end: found.maybe("sender_end")?,
    }))
}

fn unlisted(role: &str, source: &str) -> Problem {
    Problem::warning(
        format!("{source}.roles"),
        format!("the role {role} may log in and write, and is not in roles: a fence leaves it open"),
        format!("add {role} to roles; or type at the primary: alter role {} nologin;", sql::name(role)),
    )
}

fn no_rewind(source: &str) -> Problem {
    Problem::warning(
        source,
        "after a failover this server cannot be rewound: it has neither data checksums nor wal_log_hints, or \
         full_page_writes is off",
        "type: alter system set wal_log_hints = on; alter system set full_page_writes = on; and restart the server",
    )
}
