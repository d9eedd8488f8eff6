//! An explanation as people read it. Pure.

use std::fmt::Write;

use super::{AuthorityLine, Explained, StoreLine};
use crate::failover::table::page;
use crate::terminal::table::columns;

/// Shown where nothing is known.
const NOTHING: &str = "-";

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| NOTHING.to_owned(), |number| number.to_string())
}

/// All of it.
pub fn text(explained: &Explained) -> String {
    let Explained { group, site, state, why, next, .. } = explained;
    let mut text = format!("FailoverGroup {group}, as {site} sees it\n");
    let mut rows = vec![vec!["here".to_owned(), format!("{state}: {why}")]];
    rows.extend(next.iter().map(|next| vec!["next".to_owned(), next.clone()]));
    rows.extend(explained.witness.iter().map(|words| vec!["witness".to_owned(), words.clone()]));
    text.push_str(&columns(&rows, "  ", 2));
    text.push_str("\nAuthorities\n");
    let heads = ["SITE", "EPOCH", "AFTER", "HOLDERS", "OPEN FOR", "CLAIMS"].map(str::to_owned).to_vec();
    let rows = explained.authorities.iter().map(|line| authority(line, site));
    text.push_str(&columns(&std::iter::once(heads).chain(rows).collect::<Vec<_>>(), "  ", 2));
    if !explained.stores.is_empty() {
        text.push_str("\nStores\n");
        let heads = ["STORE", "SITE", "STANDS", "OPENED FOR", "ORDERED BY"].map(str::to_owned).to_vec();
        let rows = explained.stores.iter().map(store);
        text.push_str(&columns(&std::iter::once(heads).chain(rows).collect::<Vec<_>>(), "  ", 2));
    }
    for line in &explained.stores {
        let Some(why) = &line.why else { continue };
        let _ = writeln!(text, "\n{} here: {why}", line.store);
        for opens in &line.opens {
            let next = opens.next.as_ref().map_or_else(String::new, |next| format!("\n    → {next}"));
            let _ = writeln!(text, "  it opens once {}{next}", opens.when);
        }
    }
    if let Some(nodes) = &explained.nodes {
        let _ = writeln!(text, "\n{}", nodes.why);
        for command in &nodes.back {
            let _ = writeln!(text, "  it brings them back: {command}");
        }
    }
    text.push_str("\nAn order here now would\n");
    let rows = explained.orders.iter().map(|order| {
        let page = order.reason.as_ref().map_or_else(String::new, |reason| format!(" ({})", page(reason)));
        vec![order.action.to_owned(), format!("{}{page}", order.would)]
    });
    text.push_str(&columns(&rows.collect::<Vec<_>>(), "  ", 2));
    text
}

fn authority(line: &AuthorityLine, own: &str) -> Vec<String> {
    let here = if line.site == own { " (here)" } else { "" };
    let holders = match &line.error {
        Some(error) => format!("not read: {error}"),
        None if line.holders.is_empty() => NOTHING.to_owned(),
        None => line.holders.join(","),
    };
    let claims = if line.claims.is_empty() { NOTHING.to_owned() } else { line.claims.join("; ") };
    let (epoch, follows, promoted) = (number(line.epoch), number(line.follows), number(line.promoted));
    vec![format!("{}{here}", line.site), epoch, follows, holders, promoted, claims]
}

fn store(line: &StoreLine) -> Vec<String> {
    let StoreLine { store, site, stands, opened_at, ballot, .. } = line;
    vec![store.clone(), site.clone(), stands.clone(), number(*opened_at), number(*ballot)]
}
