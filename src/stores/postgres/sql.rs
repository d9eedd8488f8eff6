//! Text of SQL. Pure.

/// The error code with which our own statements say that a greater ballot is known; the detail is that ballot.
pub(super) const GREATER: &str = "BN001";
/// … that the store was opened for a later epoch; the detail is that epoch.
pub(super) const OPENED: &str = "BN002";
/// … that it is a standby.
pub(super) const STANDBY: &str = "BN003";
/// … that the claim was withdrawn, and the store was told so; the detail is its ballot.
pub(super) const WITHDRAWN: &str = "BN004";
/// … that the row is another one than was expected; the detail is its ballot, or nothing.
pub(super) const OTHER_ROW: &str = "BN006";

/// A name, quoted so that nothing in it is read as SQL.
pub(super) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A text, quoted so that nothing in it is read as SQL, however `standard_conforming_strings` is set.
pub(super) fn text(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A list of texts.
pub(super) fn texts<'a>(all: impl IntoIterator<Item = &'a String>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| text(one)).collect();
    format!("array[{}]::text[]", all.join(", "))
}

/// What the operator keeps in the database. Made once, inside of the transaction of whoever comes first: nothing is
/// locked where it is there already.
pub(super) const TABLES: &str = "
  if to_regclass('banyan.authority') is null or to_regclass('banyan.heartbeat') is null then
    create schema if not exists banyan;
    create table if not exists banyan.authority (
      id boolean primary key default true check (id),
      ballot bigint not null,
      opened_at bigint not null default 0,
      open boolean not null default true,
      lifted bigint not null default 0,
      sealed pg_lsn,
      closed text[] not null default '{}',
      changed timestamptz not null default clock_timestamp());
    create table if not exists banyan.heartbeat (
      id boolean primary key default true check (id),
      site text not null,
      at timestamptz not null);
    create table if not exists banyan.verified (
      id boolean primary key default true check (id),
      ballot bigint not null,
      token text not null);
  end if;";

/// The beginning of every transaction that writes. With a synchronous standby away, a commit would wait for it and keep
/// its locks even after we are gone: ours is local. What it locks it gets soon, or not at all.
pub(super) const BEGIN: &str = "begin; set local synchronous_commit = local; set local lock_timeout = '1s';";

/// One transaction that carries out a block of PL/pgSQL: sent at once, so that whether we live on makes no difference.
pub(super) fn transaction(declared: &str, block: &str) -> String {
    format!("{BEGIN} do $banyan$ declare {declared} begin {block} end $banyan$; commit;")
}

/// A statement of PL/pgSQL that ends the transaction with that code.
pub(super) fn raise(code: &str, detail: &str) -> String {
    format!(
        "raise exception using errcode = '{code}', message = 'refused by banyan', detail = coalesce(({detail})::text, '');"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_is_read_as_sql() {
        assert_eq!(name(r#"a"; drop role b"#), r#""a""; drop role b""#);
        assert_eq!(text(r"a\'; drop"), r"E'a\\''; drop'");
        assert_eq!(texts(&["a".to_owned(), "b'".to_owned()]), "array[E'a', E'b''']::text[]");
        assert_eq!(texts(&[]), "array[]::text[]");
    }
}
