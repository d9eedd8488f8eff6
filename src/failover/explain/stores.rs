//! The stores of a site: why each stands as it does, and what would open it. Pure.

use jiff::Timestamp;
use kube::ResourceExt;

use super::looked::{Looked, shows};
use super::{Opens, StoreLine};
use crate::api::Failover;
use crate::api::authority::{AuthoritySpec, AuthorityState, ClaimState};
use crate::api::shown::StoreShown;
use crate::authority::claims::{is_withdrawn, slot, takes_back};
use crate::authority::decide::{decide, place_of};
use crate::authority::duty::{Duty, duties};
use crate::authority::known::{Knowledge, Known, StoreShows};

impl Looked<'_> {
    /// What the operator of this site would do to a store, were its Authority like that and were it to stand so.
    fn duty(
        &self,
        store: &str,
        own: &AuthoritySpec,
        state: AuthorityState,
        known: &Knowledge,
    ) -> Option<Duty> {
        let there = |store: &str, site: &str| {
            let found = self.shown.stores.iter().find(|one| one.name == store && one.site == site)?;
            shows(found)
        };
        let all = duties(self.site(), self.place(), own, state, known, there);
        all.into_iter().find(|duty| match duty {
            Duty::Close { store: of, .. }
            | Duty::Lift { store: of, .. }
            | Duty::Open { store: of, .. }
            | Duty::Thaw { store: of }
            | Duty::Follow { store: of, .. } => of == store,
        })
    }

    pub(super) fn store(&self, store: &StoreShown) -> StoreLine {
        let stands = match (&store.error, store.primary, store.open) {
            (Some(error), ..) => format!("cannot be read: {error}"),
            (_, Some(true), Some(true)) => "primary, open".to_owned(),
            (_, Some(true), _) => "primary, closed".to_owned(),
            (_, Some(false), _) if store.frozen == Some(true) => "standby, takes in nothing".to_owned(),
            (_, Some(false), _) => "standby".to_owned(),
            _ => "has not been read yet".to_owned(),
        };
        let own = shows(store).filter(|_| store.site == self.site());
        let (why, opens) = own.map(|shows| self.of_own(&store.name, &shows)).unwrap_or_default();
        StoreLine {
            store: store.name.clone(),
            site: store.site.clone(),
            stands,
            opened_at: store.opened_at,
            ballot: store.ballot,
            why,
            opens,
        }
    }

    /// Who has made a ballot, in words.
    fn of(&self, ballot: i64) -> String {
        match place_of(self.spec, ballot) {
            Some(site) => format!("{ballot} of {site}"),
            None => ballot.to_string(),
        }
    }

    /// Why one of this site's own stores stands as it does, and what would open it.
    fn of_own(&self, name: &str, shows: &StoreShows) -> (Option<String>, Vec<Opens>) {
        let by_itself =
            |words: String| (Some(format!("{words}; this site's operator does that by itself")), Vec::new());
        let held = self.own.is_held_by(self.site());
        match self.duty(name, self.own, self.state, self.known) {
            Some(Duty::Close { ballot, .. }) if held => {
                return by_itself(format!("it is to be closed for the claim {}", self.of(ballot)));
            }
            Some(Duty::Close { ballot, .. }) => {
                let holders = self.own.holders.join(", ");
                return by_itself(format!("it is to be closed: {holders} has authority in epoch {ballot}"));
            }
            Some(Duty::Lift { ballot, .. }) => {
                return by_itself(format!(
                    "the claim {} closed it, and was given up: it is to be opened again",
                    self.of(ballot)
                ));
            }
            Some(Duty::Open { epoch, .. }) => {
                return by_itself(format!("this site has authority in epoch {epoch}: it is to be opened"));
            }
            Some(Duty::Thaw { .. }) => {
                return by_itself("no claim of this site is alive: it is to take in again".to_owned());
            }
            Some(Duty::Follow { site, .. }) => {
                return by_itself(format!("{site} has authority: it is to follow the store there"));
            }
            None => {}
        }
        let order = self.at_work().map(|one| format!("Failover {} has it in hand", one.name_any()));
        match (shows.primary, shows.open) {
            (true, true) if held => (Some("this site has authority: applications write here".to_owned()), Vec::new()),
            (true, true) if self.own.epoch == 0 => {
                (Some("nobody ever had authority: all is as it was before the group".to_owned()), Vec::new())
            }
            (true, true) => (
                Some("nobody has ever ordered it, so that nobody closes it: it was a primary before the group began".to_owned()),
                Vec::new(),
            ),
            (true, false) => {
                let by = self.of(shows.ballot.unwrap_or(0));
                let shown = self.known.peers.iter().filter_map(|(_, known)| known.read()?.as_ref()).chain([self.own]);
                let alive = !is_withdrawn(shown, shows.ballot.unwrap_or(0));
                let why = match (order, held) {
                    (Some(order), _) => format!("closed by {by}: {order}"),
                    (None, true) if alive => format!("the claim {by} closed it, and nobody shows that it was given up"),
                    (None, true) => format!("the claim {by} closed it"),
                    (None, false) => {
                        let holders = self.own.holders.join(", ");
                        format!("closed by {by}: {holders} has authority, and it is to follow the store there")
                    }
                };
                // What is at work here opens it; nothing else is to be ordered meanwhile.
                let opens = match self.at_work() {
                    Some(order) => vec![self.goes_on(order)],
                    None => self.opens(name, shows),
                };
                (Some(why), opens)
            }
            (false, _) if shows.frozen => (
                Some(order.unwrap_or_else(|| "a claim of this site has it take in nothing".to_owned())),
                Vec::new(),
            ),
            (false, _) => (Some("it follows what the primary writes".to_owned()), Vec::new()),
        }
    }

    /// An order that is at work here, and what it waits for.
    fn goes_on(&self, order: &Failover) -> Opens {
        let status = order.status.as_ref();
        let said = status.and_then(|status| status.message.as_deref()).filter(|said| !said.is_empty());
        let said = said.map(|said| format!(": {said}")).unwrap_or_default();
        let next = status.and_then(|status| status.next.clone()).or_else(|| self.next());
        Opens { when: format!("Failover {} has gone on{said}", order.name_any()), next }
    }

    /// What would open a closed primary of this site, found by asking what its operator would do then.
    fn opens(&self, name: &str, shows: &StoreShows) -> Vec<Opens> {
        let mut all = Vec::new();
        let opened = |duty: Option<Duty>| matches!(duty, Some(Duty::Lift { .. } | Duty::Open { .. }));
        // What would open it once the others were read is asked as if they were.
        let mut read = self.known.clone();
        let unread = read.peers.iter_mut().filter(|(_, shown)| shown.read().is_none());
        let sites: Vec<String> = unread
            .map(|(site, shown)| {
                *shown = Known::Read(None);
                site.clone()
            })
            .collect();
        if let Some(site) = sites.first()
            && opened(self.duty(name, self.own, self.state, &read))
        {
            all.push(Opens {
                when: format!("{} can be read: others may have gone on without this site", sites.join(", ")),
                next: Some(self.describes(site)),
            });
        }
        if self.state == AuthorityState::Lost
            && opened(self.duty(name, self.own, AuthorityState::Held, &read))
        {
            all.push(Opens {
                when: "this site has read who has authority, and it is this one".to_owned(),
                next: self.next(),
            });
        }
        let ballot = shows.ballot.unwrap_or(0);
        let mut given_up = self.own.clone();
        for claim in given_up.claims.iter_mut().filter(|claim| claim.ballot == ballot) {
            claim.state = ClaimState::Withdrawn;
        }
        given_up.withdrawn.push(ballot);
        // A committed one is given up by nobody.
        if ballot > self.own.epoch && opened(self.duty(name, &given_up, self.state, &read)) {
            let site = place_of(self.spec, ballot);
            all.push(Opens {
                when: format!("the claim {} is given up", self.of(ballot)),
                next: site.map(|site| format!("kubectl banyan failover abort, in the cluster of {site}")),
            });
        }
        let gone = Knowledge { abandoned: Some(ballot), ..self.known.clone() };
        let decided = decide(self.site(), self.spec, &gone, Timestamp::UNIX_EPOCH);
        let asks = decided.write.as_ref().and_then(|own| slot(own, self.site())).is_some_and(takes_back);
        if asks || decided.ask_witness.is_some() {
            all.push(Opens {
                when: format!(
                    "the site of claim {} has not answered for a minute, and the witness decides for this one; this site's \
                     operator asks it by itself",
                    self.of(ballot)
                ),
                next: None,
            });
        }
        if opened(self.duty(name, &self.taken(), AuthorityState::Held, &read)) {
            all.push(Opens {
                when: format!("this site takes the group over, with a claim above {ballot}"),
                next: Some(self.start(true)),
            });
        }
        all
    }
}
