//! What `/authority/GROUP` says: line 15 of the protocol. Pure.

use serde::{Deserialize, Serialize};

use crate::api::authority::{AuthoritySpec, AuthorityState, AuthorityStatus};

/// What a site says of one group. Other sites read it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The group.
    pub group: String,
    /// The site that answers.
    pub site: String,
    /// Whether traffic is to come here.
    pub active: bool,
    /// The epoch that this site knows; 0 while nobody ever had authority.
    pub epoch: i64,
    /// Who has authority in it.
    pub holders: Vec<String>,
    /// Why it is so, in one sentence.
    pub why: String,
}

/// What is known when somebody asks.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The site that answers.
    pub site: &'a str,
    /// The group.
    pub group: &'a str,
    /// Its Authority here.
    pub spec: &'a AuthoritySpec,
    /// What the operator said of it last.
    pub status: Option<&'a AuthorityStatus>,
    /// What other sites answered last.
    pub peers: &'a [Answer],
    /// What the application answered through the gateway: `None` if it is not to be asked.
    pub application: Option<&'a Result<(), String>>,
}

/// Decides what is answered.
pub fn answer(asked: &Asked<'_>) -> Answer {
    let Asked { site, group, spec, .. } = *asked;
    let (active, why) = decide(asked);
    let (epoch, holders) = (spec.epoch, spec.holders.clone());
    Answer { group: group.to_owned(), site: site.to_owned(), active, epoch, holders, why }
}

fn decide(asked: &Asked<'_>) -> (bool, String) {
    let Asked { site, spec, status, peers, application, .. } = *asked;
    let greater = peers.iter().filter(|peer| peer.epoch > spec.epoch).max_by_key(|peer| peer.epoch);
    // A greater epoch that keeps this site among its holders takes nothing from it.
    if let Some(peer) = greater.filter(|peer| !peer.holders.iter().any(|holder| holder == site)) {
        let holders = peer.holders.join(", ");
        return (false, format!("{} says that {holders} has authority in epoch {}", peer.site, peer.epoch));
    }
    if status.and_then(|status| status.state) == Some(AuthorityState::Lost) {
        let why = status.and_then(|status| status.message.clone());
        return (false, why.unwrap_or_else(|| "somebody knows of a greater epoch".to_owned()));
    }
    if spec.epoch == 0 {
        return match status.and_then(|status| status.stores_open) {
            Some(true) => {
                with(application, "nobody ever had authority, and this site serves as before".to_owned())
            }
            Some(false) => (
                false,
                "nobody ever had authority, and a store of the group is no open primary here".to_owned(),
            ),
            None => (
                false,
                "nobody ever had authority, and the stores of the group have not been read yet".to_owned(),
            ),
        };
    }
    if !spec.is_held_by(site) {
        return (false, format!("{} has authority in epoch {}", spec.holders.join(", "), spec.epoch));
    }
    if spec.promoted != Some(spec.epoch) {
        return (
            false,
            format!("this site has authority in epoch {}, and its stores are not open yet", spec.epoch),
        );
    }
    with(application, format!("this site has authority in epoch {}", spec.epoch))
}

/// Yes, unless the application says otherwise.
fn with(application: Option<&Result<(), String>>, why: String) -> (bool, String) {
    match application {
        Some(Err(error)) => {
            (false, format!("{why}, but the application does not answer through the gateway: {error}"))
        }
        _ => (true, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(epoch: i64, holders: &[&str]) -> AuthoritySpec {
        let holders = holders.iter().map(|holder| (*holder).to_owned()).collect();
        AuthoritySpec { epoch, holders, promoted: (epoch > 0).then_some(epoch), ..AuthoritySpec::default() }
    }

    fn status(state: AuthorityState, stores_open: Option<bool>) -> AuthorityStatus {
        AuthorityStatus { state: Some(state), stores_open, ..AuthorityStatus::default() }
    }

    fn ask(
        spec: &AuthoritySpec,
        status: Option<&AuthorityStatus>,
        peers: &[Answer],
        app: Option<Result<(), String>>,
    ) -> (bool, String) {
        let asked = Asked { site: "a", group: "pay", spec, status, peers, application: app.as_ref() };
        let said = answer(&asked);
        (said.active, said.why)
    }

    #[test]
    fn exactly_the_holder_whose_stores_are_open_is_active() {
        assert!(ask(&spec(16, &["a"]), None, &[], None).0);
        assert_eq!(
            ask(&spec(17, &["b"]), None, &[], None),
            (false, "b has authority in epoch 17".to_owned())
        );
        let closed = AuthoritySpec { promoted: Some(0), ..spec(32, &["a"]) };
        assert!(ask(&closed, None, &[], None).1.contains("not open yet"));
    }

    #[test]
    fn while_nobody_ever_had_authority_all_serve_as_before() {
        let unclaimed =
            |open| ask(&spec(0, &[]), Some(&status(AuthorityState::Unclaimed, open)), &[], None).0;
        assert!(unclaimed(Some(true)));
        assert!(!unclaimed(Some(false)), "a standby never was active");
        assert!(!unclaimed(None));
    }

    #[test]
    fn a_greater_epoch_elsewhere_ends_it_without_the_api_server() {
        let there = answer(&Asked {
            site: "b",
            group: "pay",
            spec: &spec(33, &["b"]),
            status: None,
            peers: &[],
            application: None,
        });
        assert!(there.active);
        let (active, why) = ask(&spec(16, &["a"]), None, std::slice::from_ref(&there), None);
        assert_eq!((active, why.as_str()), (false, "b says that b has authority in epoch 33"));
        let older = Answer { epoch: 16, ..there.clone() };
        assert!(ask(&spec(32, &["a"]), None, &[older], None).0);
        let both = Answer { holders: vec!["a".to_owned(), "b".to_owned()], ..there };
        assert!(ask(&spec(16, &["a", "b"]), None, &[both], None).0);
    }

    #[test]
    fn who_has_lost_track_is_not_active() {
        assert!(!ask(&spec(16, &["a"]), Some(&status(AuthorityState::Lost, Some(true))), &[], None).0);
    }

    #[test]
    fn the_application_can_only_say_no() {
        assert!(ask(&spec(16, &["a"]), None, &[], Some(Ok(()))).0);
        assert!(ask(&spec(16, &["a"]), None, &[], Some(Err("503".to_owned()))).1.contains("does not answer"));
        assert!(!ask(&spec(17, &["b"]), None, &[], Some(Ok(()))).0);
    }
}
