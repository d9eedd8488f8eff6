//! Whether the claim for which this site was closed is abandoned: line 17 of the protocol. Pure, and kept in memory alone.

use jiff::{SignedDuration, Timestamp};

use super::claims::pressing;
use crate::api::authority::AuthoritySpec;

/// How long the site of a claim gives no sign of life until its claim is abandoned. A leader that dies is followed within 15
/// seconds, and an API server that is upgraded is away for less than a minute as a rule. The witness decides all the same,
/// so that a time that is too short takes nothing from a claimant that goes on.
pub const ABANDONED_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// What a process has seen of the claims for which a holder closes its stores.
///
/// A claim that was there when the process began does not count: a person may have said since then that no operator runs
/// here, and others may have gone on by that word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    looked: bool,
    presses: Option<i64>,
    came: Option<(String, i64, Timestamp)>,
}

impl Watched {
    /// Takes in what the Authority of `site` says now.
    pub fn look(&mut self, site: &str, own: Option<&AuthoritySpec>, now: Timestamp) {
        let claim = own.and_then(|own| pressing(site, own));
        let presses = claim.map(|claim| claim.ballot);
        if self.looked && presses == self.presses {
            return;
        }
        let news = claim.filter(|_| self.looked);
        self.came = news.map(|claim| (claim.site.clone(), claim.ballot, now));
        (self.looked, self.presses) = (true, presses);
    }

    /// The ballot of the claim that is abandoned. `silent_since` tells since when a site gives no sign of life; `None` if it
    /// does, or that is not known.
    pub fn abandoned(
        &self,
        silent_since: impl FnOnce(&str) -> Option<Timestamp>,
        after: SignedDuration,
        now: Timestamp,
    ) -> Option<i64> {
        let (site, ballot, came) = self.came.as_ref()?;
        let since = silent_since(site)?.max(*came);
        (now.duration_since(since) >= after).then_some(*ballot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::authority::Claim;

    fn closed_for(ballot: i64) -> AuthoritySpec {
        let claim =
            Claim { site: "b".to_owned(), ballot, follows: 16, fence: Some(true), ..Claim::default() };
        AuthoritySpec { epoch: 16, holders: vec!["a".to_owned()], claims: vec![claim], ..Default::default() }
    }

    #[test]
    fn a_claim_is_abandoned_that_came_while_it_was_watched_and_whose_site_is_silent() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).expect("in range");
        let open = AuthoritySpec { epoch: 16, holders: vec!["a".to_owned()], ..Default::default() };
        let mut watched = Watched::default();
        watched.look("a", Some(&open), at(0));
        watched.look("a", Some(&closed_for(17)), at(10));
        let abandoned = |watched: &Watched, silent: Option<i64>, now: i64| {
            watched.abandoned(|_| silent.map(at), ABANDONED_AFTER, at(now))
        };
        assert_eq!(abandoned(&watched, None, 500), None, "it answers");
        assert_eq!(abandoned(&watched, Some(20), 79), None);
        assert_eq!(abandoned(&watched, Some(20), 80), Some(17));
        assert_eq!(abandoned(&watched, Some(0), 69), None, "it was silent before it claimed");
        assert_eq!(abandoned(&watched, Some(0), 70), Some(17));
        // A later claim has its own time.
        watched.look("a", Some(&closed_for(33)), at(75));
        assert_eq!(abandoned(&watched, Some(20), 100), None);
        watched.look("a", Some(&open), at(100));
        assert_eq!(abandoned(&watched, Some(20), 1000), None, "nothing closes it any more");
    }

    #[test]
    fn what_was_there_when_a_process_began_is_never_abandoned() {
        let mut watched = Watched::default();
        watched.look("a", Some(&closed_for(17)), Timestamp::UNIX_EPOCH);
        watched.look("a", Some(&closed_for(17)), Timestamp::UNIX_EPOCH);
        let late = Timestamp::from_second(1_000_000).expect("in range");
        assert_eq!(watched.abandoned(|_| Some(Timestamp::UNIX_EPOCH), ABANDONED_AFTER, late), None);
    }
}
