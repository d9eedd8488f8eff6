//! Who may write: what a fence by roles does not close.

use super::link::Link;
use super::sql;
use crate::stores::StoreError;

/// Whether role `m` may change something in this database: a table, or what it makes itself.
const MAY_WRITE: &str = "(m.rolcreaterole or has_database_privilege(m.oid, current_database(), 'CREATE')
  or exists (select from pg_namespace n where n.nspname not like 'pg\\_%' and n.nspname not in ('information_schema', 'banyan')
    and has_schema_privilege(m.oid, n.oid, 'CREATE'))
  or exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'f') and n.nspname not like 'pg\\_%'
    and n.nspname not in ('information_schema', 'banyan')
    and has_table_privilege(m.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')))";

/// Roles that may log in and write, by themselves or by a role that they may take on, and are neither listed nor ours nor
/// superusers.
pub(super) async fn unlisted(link: &Link, roles: &[String]) -> Result<Vec<String>, StoreError> {
    let query = format!(
        "select r.rolname as role from pg_roles r where r.rolcanlogin and not r.rolsuper
         and r.rolname <> current_user and not r.rolname = any({})
         and exists (select from pg_roles m where pg_has_role(r.oid, m.oid, 'MEMBER') and {MAY_WRITE})
         order by 1 limit 20",
        sql::texts(roles)
    );
    named(link, &query).await
}

/// Superusers that may log in, other than our own role.
pub(super) async fn superusers(link: &Link) -> Result<Vec<String>, StoreError> {
    let query =
        "select rolname as role from pg_roles where rolcanlogin and rolsuper and rolname <> current_user
                 order by 1 limit 20";
    named(link, query).await
}

/// Of the listed ones, those that may log in.
pub(super) async fn open_roles(link: &Link, roles: &[String]) -> Result<Vec<String>, StoreError> {
    let listed = sql::texts(roles);
    named(
        link,
        &format!(
            "select rolname as role from pg_roles where rolcanlogin and rolname = any({listed}) order by 1"
        ),
    )
    .await
}

async fn named(link: &Link, query: &str) -> Result<Vec<String>, StoreError> {
    link.ask(query).await?.iter().map(|found| found.text("role")).collect()
}
