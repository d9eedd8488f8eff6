//! What the operator's role must be allowed, and the SQL to type where it is not.

use super::link::Link;
use super::{row, sql};
use crate::api::Problem;
use crate::stores::StoreError;

/// The oldest version whose standbys can be told, without a restart, to stop receiving.
const OLDEST: u32 = 130_000;

/// Refuses where sessions of others cannot be seen: an empty list would be taken for a closed store.
pub(super) async fn sees_sessions(link: &Link) -> Result<(), StoreError> {
    let found = link
        .one("select pg_has_role('pg_read_all_stats', 'USAGE') as sees, current_user as me, current_database() as db")
        .await?;
    if found.is("sees") {
        return Ok(());
    }
    let me = sql::name(&found.text("me")?);
    Err(StoreError::Problem(Box::new(Problem::error(
        "",
        format!(
            "the operator's role {me} cannot see the sessions of others, so that it could not prove a fence"
        ),
        format!("type at the primary: grant pg_monitor to {me};"),
    ))))
}

/// What is missing, each with what to type. `source` is the path of the store's field.
pub(super) async fn problems(
    link: &Link,
    roles: &[String],
    source: &str,
) -> Result<Vec<Problem>, StoreError> {
    let version: u32 =
        link.one("select current_setting('server_version_num') as version").await?.value("version")?;
    if version < OLDEST {
        return Ok(vec![Problem::error(
            source,
            format!(
                "the server is of version {}, and 13 is the oldest that can be failed over",
                version / 10_000
            ),
            "upgrade it",
        )]);
    }
    // Before 15 only a superuser may alter the system.
    let parameter = |name: &str| match version {
        150_000.. => format!("has_parameter_privilege('{name}', 'ALTER SYSTEM')"),
        _ => "false".to_owned(),
    };
    let query = format!(
        "select current_user as me, current_database() as db, r.rolsuper as super, r.rolcreaterole as creates,
         pg_has_role('pg_monitor', 'USAGE') as monitors, pg_has_role('pg_signal_backend', 'USAGE') as signals,
         {made} or has_database_privilege(current_database(), 'CREATE') as makes,
         has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE') as promotes,
         has_function_privilege('pg_reload_conf()', 'EXECUTE') as reloads,
         {names} as names, {conninfo} as conninfo
         from pg_roles r where r.rolname = current_user",
        made = row::MADE,
        names = parameter("synchronous_standby_names"),
        conninfo = parameter("primary_conninfo"),
    );
    let found = link.one(&query).await?;
    let (me, is_super) = (found.text("me")?, found.is("super"));
    let (quoted, database) = (sql::name(&me), sql::name(&found.text("db")?));
    let mut problems = Vec::new();
    let mut missing = |what: &str, remedy: String| {
        problems.push(Problem::error(
            source,
            format!("the operator's role {me} {what}"),
            format!("type at the primary, as a superuser: {remedy}"),
        ));
    };
    if !is_super {
        if !found.is("creates") {
            missing("may not close roles", format!("alter role {quoted} createrole;"));
        }
        if !found.is("monitors") {
            missing("may not see sessions and replication", format!("grant pg_monitor to {quoted};"));
        }
        if !found.is("signals") {
            missing("may not end sessions", format!("grant pg_signal_backend to {quoted};"));
        }
        if !found.is("makes") {
            missing(
                "may not make the schema banyan",
                format!("grant create on database {database} to {quoted};"),
            );
        }
        if !found.is("promotes") {
            missing(
                "may not promote",
                format!("grant execute on function pg_promote(boolean, integer) to {quoted};"),
            );
        }
        if !found.is("reloads") {
            missing(
                "may not have the configuration read again",
                format!("grant execute on function pg_reload_conf() to {quoted};"),
            );
        }
        for name in ["synchronous_standby_names", "primary_conninfo"] {
            let column = if name == "primary_conninfo" { "conninfo" } else { "names" };
            if found.is(column) {
                continue;
            }
            let remedy = match version {
                150_000.. => format!("grant alter system on parameter {name} to {quoted};"),
                _ => format!("alter role {quoted} superuser; (before version 15 nobody else may)"),
            };
            missing(&format!("may not set {name}"), remedy);
        }
    }
    problems.extend(of_roles(link, roles, source, &me, is_super, version).await?);
    Ok(problems)
}

/// What is wrong with the roles that applications log in with.
async fn of_roles(
    link: &Link,
    roles: &[String],
    source: &str,
    me: &str,
    is_super: bool,
    version: u32,
) -> Result<Vec<Problem>, StoreError> {
    let field = format!("{source}.roles");
    let query = format!(
        "select n.name, r.rolsuper as super, r.oid is not null as there,
         coalesce(pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION'), false) as admin
         from unnest({}) as n(name) left join pg_roles r on r.rolname = n.name order by 1",
        sql::texts(roles)
    );
    let mut problems = Vec::new();
    for found in link.ask(&query).await? {
        let role = found.text("name")?;
        let (quoted, mine) = (sql::name(&role), sql::name(me));
        let problem = |message: String, remedy: String| Problem::error(field.clone(), message, remedy);
        problems.extend(if role == me {
            Some(problem(
                format!("roles names {role}, the operator's own role: a fence would lock the operator out"),
                "give the operator a role of its own, and take this one from roles or from the Secret".to_owned(),
            ))
        } else if !found.is("there") {
            Some(problem(
                format!("there is no role {role}"),
                format!("take it from roles, or type at the primary: create role {quoted} login;"),
            ))
        } else if found.is("super") && !is_super {
            Some(problem(
                format!("the role {role} is a superuser, which {me} can neither close nor end"),
                format!("type at the primary, as a superuser: alter role {quoted} nosuperuser;"),
            ))
        } else if version >= 160_000 && !is_super && !found.is("admin") {
            Some(problem(
                format!("the operator's role {me} may not close the role {role}"),
                format!(
                    "type at the primary, as a superuser: grant {quoted} to {mine} with admin true, inherit false, set false;"
                ),
            ))
        } else {
            None
        });
    }
    Ok(problems)
}

/// What could write without a session, or undo what was written.
pub(super) async fn others(link: &Link, source: &str) -> Result<Vec<Problem>, StoreError> {
    let subscriptions = link
        .ask("select distinct s.subname as name from pg_subscription s where s.subenabled order by 1 limit 8")
        .await?;
    let names: Result<Vec<String>, StoreError> =
        subscriptions.iter().map(|found| found.text("name")).collect();
    let names = names?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Problem::warning(
        source,
        format!(
            "the server writes by itself what it subscribes to ({}): no fence stops that",
            names.join(", ")
        ),
        format!("type at the primary: alter subscription {} disable;", sql::name(&names[0])),
    )])
}
