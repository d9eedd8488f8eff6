//! What comes of an act on stores: what of it is remembered, and what is said. Pure.

use jiff::SignedDuration;

use super::source::{commits_wait_for, is_primary_here};
use super::status;
use super::view::{ASSERT, Wait, command};
use crate::api::FailoverStatus;
use crate::api::conditions::short;
use crate::api::failover::{FenceLevel, StoreRecord};
use crate::authority::known::Knowledge;
use crate::stores::reading::Row;
use crate::stores::{Fenced, Position, StoreError};

/// What came of an act.
pub enum Done {
    /// It is done, or one part of it: what to say.
    Yes(String),
    /// It changed nothing, since something changed meanwhile: decide anew.
    Again,
    /// It is not done, and is tried again after a while.
    NotYet(Wait),
}

impl Done {
    /// One that waits.
    pub fn not_yet(reason: &'static str, message: impl Into<String>, next: Option<String>) -> Self {
        Self::NotYet(Wait { reason, message: message.into(), next })
    }
}

/// What was found of each store that was asked.
pub type Found<'a, T> = Vec<(&'a str, Result<T, StoreError>)>;

/// Which move it is about.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// This site.
    pub site: &'a str,
    /// The site from which it moves.
    pub source: &'a str,
    /// The name of the order.
    pub name: &'a str,
    /// Whether both sites are to answer.
    pub planned: bool,
    /// The ballot of its claim.
    pub ballot: i64,
    /// What everybody showed when the act was decided on.
    pub known: &'a Knowledge,
    /// Stores of which no commit may be acknowledged that is not at both sites.
    pub required: &'a [&'a str],
    /// Stores that a move may go on without, once it is committed.
    pub optional: &'a [&'a str],
}

impl Of<'_> {
    fn command(&self, verb: &str) -> Option<String> {
        Some(command(verb, self.name))
    }
}

/// What those that failed say.
fn errors(failed: &[(&str, StoreError)], at: &str) -> String {
    let words = failed.iter().map(|(name, error)| format!("{name} at {at}: {error}; {}", error.remedy()));
    words.collect::<Vec<_>>().join(". ")
}

fn remember(status: &mut FailoverStatus, name: &str, error: Option<&StoreError>) {
    status::store(status, name).error = error.map(|error| short(error.to_string()));
}

fn names<T>(found: &Found<'_, T>) -> String {
    found.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// What came of closing stores at the source.
pub struct Fencing {
    /// What came of it; `None` where a store knows of a later order, so that this one is over.
    pub done: Option<Done>,
    /// Whether the source did not answer.
    pub silent: bool,
}

/// A store that was closed at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// How that is known.
    pub level: FenceLevel,
    /// What was found there.
    pub fenced: Fenced,
    /// The row of the server here, where that is a primary.
    pub here: Option<Row>,
}

impl Closed {
    /// Whether all that was ever acknowledged there is here, though both are primaries: what a move closed here was promoted
    /// there, and stands there as it was closed. Nobody could write to it, nor to this one, since.
    fn is_of_here(&self) -> bool {
        self.fenced.found.is_some() && self.fenced.found == self.here && self.fenced.open_to.is_empty()
    }
}

/// Stores were to be closed at the source.
pub fn fenced(of: &Of<'_>, found: Found<'_, Closed>, status: &mut FailoverStatus) -> Fencing {
    let (mut closed_there, mut wait_for_us) = (Vec::new(), Vec::new());
    let (mut failed, mut superseded, mut silent) = (Vec::new(), false, false);
    for (name, closed) in found {
        remember(status, name, closed.as_ref().err());
        let record = status::store(status, name);
        match closed {
            Ok(closed) => {
                let fenced = &closed.fenced;
                record.level = Some(closed.level);
                record.sealed = fenced.position.map(|position| position.to_string());
                record.token.clone_from(&fenced.token);
                // The other one is a standby still: nothing was ever written there that is not here.
                let follows = fenced.position.is_none() && is_primary_here(of.known, name);
                if follows || closed.is_of_here() {
                    record.complete = Some(true);
                }
                record.evidence = Some(evidence(fenced));
                closed_there.push(name);
            }
            Err(error) => {
                superseded |= error.is_superseded();
                let waits = of.required.contains(&name) && commits_wait_for(of.known, of.site, name);
                if !of.planned && waits && !error.is_superseded() {
                    // No commit is acknowledged there that is not here.
                    record.level = Some(FenceLevel::Synchronous);
                    record.evidence = Some("every commit waits for this site".to_owned());
                    wait_for_us.push(name);
                    continue;
                }
                silent |= error.is_silence();
                failed.push((name, error));
            }
        }
    }
    if superseded {
        return Fencing { done: None, silent };
    }
    let words = errors(&failed, of.source);
    let done = match (failed.is_empty(), of.planned) {
        (true, _) => Done::Yes(closed_words(of.source, &closed_there, &wait_for_us)),
        (false, true) => Done::not_yet("NotFenced", words, of.command("abort")),
        (false, false) => Done::not_yet(
            "NotFenced",
            format!("{words}. Make sure that nobody writes there, and say so"),
            of.command(ASSERT),
        ),
    };
    Fencing { done: Some(done), silent }
}

fn closed_words(source: &str, closed: &[&str], wait: &[&str]) -> String {
    let closed = (!closed.is_empty()).then(|| format!("{} closed at {source}", closed.join(", ")));
    let wait = (!wait.is_empty()).then(|| {
        format!(
            "{source} does not close {}, where every commit waits for this site all the same",
            wait.join(", ")
        )
    });
    closed.into_iter().chain(wait).collect::<Vec<_>>().join("; ")
}

fn evidence(fenced: &Fenced) -> String {
    let mut words = match fenced.position {
        Some(position) if fenced.token.is_some() => {
            format!("shut down at {position}, kept so, and its demotion token is here")
        }
        Some(position) => format!("closed at {position}, {} sessions ended", fenced.ended),
        None => "a standby there, whose older orders were ended".to_owned(),
    };
    for (what, who) in [("may still write", &fenced.open_to), ("superusers are logged in", &fenced.left)] {
        if !who.is_empty() {
            words.push_str(&format!("; {what}: {}", who.join(", ")));
        }
    }
    short(words)
}

/// The stores that were closed over the wire, and must be closed still.
pub fn closed(status: &FailoverStatus) -> impl Iterator<Item = &str> {
    let closed = status.stores.iter().filter(|store| {
        store.level.is_some_and(FenceLevel::is_closed)
            // A standby at the source has no row of its own to be closed.
            && store.sealed.is_some()
    });
    closed.map(|store| store.name.as_str())
}

/// Whether what was closed over the wire is closed still, by its rows. `None` if it is.
pub fn still_closed(of: &Of<'_>, found: Found<'_, Option<Row>>, status: &FailoverStatus) -> Option<Done> {
    let Of { source, ballot, .. } = *of;
    for (name, read) in found {
        let why = match read {
            Ok(Some(row)) if row.ballot == ballot && !row.open => continue,
            Ok(Some(row)) if row.ballot > ballot => {
                format!("{name} at {source} was ordered by ballot {} since", row.ballot)
            }
            Ok(_) => format!("{name} at {source} is not closed any more"),
            Err(_) if status.assertion.is_some() => continue,
            Err(error) => format!("{name} at {source} cannot be read just before the commit: {error}"),
        };
        let verb = if of.planned { "abort" } else { "assert-fenced --evidence DatabaseStopped" };
        return Some(Done::not_yet("NotFenced", why, of.command(verb)));
    }
    None
}

/// A peer did not answer, of a move that needs it, when all was read once more before the commit.
pub fn silent_at_commit(of: &Of<'_>, why: &str) -> Done {
    let words = format!("{} does not answer, just before the commit: {why}", of.source);
    Done::not_yet("SourceSilent", words, of.command("abort"))
}

/// The witness was asked to decide, and did not answer.
pub fn undecided(why: &str) -> Done {
    let words = format!("the witness does not decide: {why}. The claim cannot be given up meanwhile");
    Done::not_yet("WitnessSilent", words, None)
}

/// A request through this site's own gateway was not answered well.
pub fn fails(of: &Of<'_>, url: &str, why: &str) -> Done {
    let words =
        format!("the application does not answer well through the gateway of this site: {url}: {why}");
    Done::not_yet("ApplicationFails", words, of.command("skip --step try"))
}

/// It was waited until all is here that was acknowledged at the source; `Some` of a store that is behind is how far it is.
///
/// # Errors
/// The stores that are to take in no more, of a move that goes on with what is here.
pub fn caught_up<'a>(
    of: &Of<'_>,
    found: Found<'a, Option<Option<Position>>>,
    status: &mut FailoverStatus,
) -> Result<Done, Vec<&'a str>> {
    let (mut here, mut by_token) = (Vec::new(), Vec::new());
    let (mut failed, mut behind, mut words) = (Vec::new(), Vec::new(), Vec::new());
    for (name, done) in found {
        remember(status, name, done.as_ref().err());
        match done {
            Ok(None) => {
                let record = status::store(status, name);
                record.complete = Some(true);
                if record.token.is_some() { &mut by_token } else { &mut here }.push(name);
            }
            Ok(Some(replayed)) => {
                let at = replayed.map_or_else(|| "an unknown position".to_owned(), |at| at.to_string());
                let sealed = status::store(status, name).sealed.clone().unwrap_or_default();
                behind.push(name);
                words.push(format!("{name} is at {at} here, and was closed at {sealed}"));
            }
            Err(error) => failed.push((name, error)),
        }
    }
    if !failed.is_empty() {
        return Ok(Done::not_yet("NotCaughtUp", errors(&failed, of.site), of.command("abort")));
    }
    match (behind.is_empty(), of.planned) {
        (true, _) => {
            let here =
                (!here.is_empty()).then(|| format!("all that was acknowledged is here: {}", here.join(", ")));
            let waits =
                format!("{} is promoted only once all that was acknowledged is here", by_token.join(", "));
            let waits = (!by_token.is_empty()).then_some(waits);
            Ok(Done::Yes(here.into_iter().chain(waits).collect::<Vec<_>>().join("; ")))
        }
        (false, true) => Ok(Done::not_yet("NotCaughtUp", words.join(". "), of.command("abort"))),
        // What has not come by now may never come: what is missing is named, and a person decides.
        (false, false) => Err(behind),
    }
}

/// It was waited until what stood in the source's log is here, which took so many milliseconds.
pub fn replayed(of: &Of<'_>, found: Found<'_, i64>, status: &mut FailoverStatus) -> Done {
    let all = names(&found);
    let failed = each(found, status, |record, took| record.replayed_millis = Some(took));
    match failed.is_empty() {
        true => Done::Yes(format!("what was written at {} is here: {all}", of.source)),
        false => Done::not_yet("NotCaughtUp", errors(&failed, of.site), of.command("abort")),
    }
}

/// Stores were to take in no more: how far each is, and how old the newest in it; `None` where a store does not tell.
pub fn frozen(
    of: &Of<'_>,
    found: Found<'_, (Option<Position>, Option<SignedDuration>)>,
    status: &mut FailoverStatus,
) -> Done {
    let all = names(&found);
    let mut failed = each(found, status, |record, (position, age)| {
        record.frozen = Some(position.map_or_else(|| "unknown".to_owned(), |position| position.to_string()));
        // When this site heard last: what was acknowledged since then may be missing.
        record.lag_millis = age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX).max(0));
    });
    failed.retain(|(name, error)| {
        // It was promoted in an earlier try.
        let promoted = *error == StoreError::IsPrimary;
        if promoted {
            status::store(status, name).complete = Some(true);
        }
        !promoted
    });
    match failed.is_empty() {
        true => Done::Yes(format!("no more is taken in here: {all}; see status.stores")),
        false => Done::not_yet("NotFrozen", errors(&failed, of.site), of.command("abort")),
    }
}

/// Stores were to be promoted here.
pub fn promoted(of: &Of<'_>, found: Found<'_, ()>, status: &mut FailoverStatus) -> Done {
    taken(of, found, status, "NotPromoted", "promoted", |record, ()| record.promoted = Some(true))
}

/// Stores were to be verified by a write, and opened here; `false` of one to which nothing can be written from here.
pub fn opened(of: &Of<'_>, found: Found<'_, bool>, status: &mut FailoverStatus) -> Done {
    let written = found.iter().all(|(_, done)| !matches!(done, Ok(false)));
    let what = if written { "written to, read back and opened" } else { "opened" };
    taken(of, found, status, "NotOpened", what, |record, written| {
        record.verified = written.then_some(true);
        record.opened = Some(true);
    })
}

fn taken<T>(
    of: &Of<'_>,
    found: Found<'_, T>,
    status: &mut FailoverStatus,
    reason: &'static str,
    what: &str,
    done: impl Fn(&mut StoreRecord, T),
) -> Done {
    let all = names(&found);
    let failed = each(found, status, done);
    match failed.is_empty() {
        true => Done::Yes(format!("{all} {what} here")),
        // It goes on by itself; nothing is open before all are. One that is not required may be left out.
        false => {
            let required = failed.iter().any(|(name, _)| !of.optional.contains(name));
            let next = failed.first().filter(|_| !required);
            let next = next.and_then(|(name, _)| of.command(&format!("skip --store {name}")));
            Done::not_yet(reason, errors(&failed, of.site), next)
        }
    }
}

/// Stores were to be opened at the source again. Whoever ordered them since, or is no primary, has nothing of this claim to
/// be opened; and whoever is gone is waited for by nobody: a site that returns reads that the claim was given up.
pub fn lifted(of: &Of<'_>, found: Found<'_, ()>, status: &mut FailoverStatus) -> Done {
    let all = names(&found);
    let over =
        |error: &StoreError| error.is_superseded() || *error == StoreError::IsStandby || error.is_silence();
    let found = found.into_iter().map(|(name, done)| match done {
        Err(error) if over(&error) => (name, Ok(())),
        done => (name, done),
    });
    let failed = each(found.collect(), status, |record, ()| {
        (record.level, record.token) = (None, None);
        (record.frozen, record.complete) = (None, None);
    });
    match failed.is_empty() {
        true => Done::Yes(format!("{all} open again at {}", of.source)),
        // The operator there reads that the claim was given up, and opens them too.
        false => Done::not_yet("NotLifted", errors(&failed, of.source), None),
    }
}

/// Takes in what came of something that was done to each store; those that failed.
fn each<'a, T>(
    found: Found<'a, T>,
    status: &mut FailoverStatus,
    done: impl Fn(&mut StoreRecord, T),
) -> Vec<(&'a str, StoreError)> {
    let mut failed = Vec::new();
    for (name, result) in found {
        remember(status, name, result.as_ref().err());
        match result {
            Ok(value) => done(status::store(status, name), value),
            Err(error) => failed.push((name, error)),
        }
    }
    failed
}
