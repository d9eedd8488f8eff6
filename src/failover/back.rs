//! Whether the way back leads to this site: whether it had authority before the site that has it now. Pure.

use crate::api::FailoverGroupSpec;
use crate::api::authority::{AuthoritySpec, AuthorityState};
use crate::authority::decide::place_of;

/// Whether a Switchover to this site gives it back what it had before; else why not, and what to type.
///
/// # Errors
/// One sentence, with the remedy.
pub fn leads_here(
    group: &str,
    site: &str,
    spec: &FailoverGroupSpec,
    own: Option<&AuthoritySpec>,
    state: Option<AuthorityState>,
) -> Result<(), String> {
    let unknown = AuthoritySpec::default();
    let own = own.unwrap_or(&unknown);
    if own.epoch == 0 {
        return Err(format!(
            "nobody ever had authority over {group}: there is no way back. Set spec.initialSite of the FailoverGroup to \
             the site that serves now"
        ));
    }
    if own.is_held_by(site) {
        return Err(format!(
            "{site} has authority over {group} already, in epoch {}: there is nothing to give back",
            own.epoch
        ));
    }
    if state == Some(AuthorityState::Lost) {
        return Err(format!(
            "{site} does not know who has authority over {group}: see `kubectl banyan failover explain {group}`"
        ));
    }
    let holders = own.holders.join(", ");
    // The number of an epoch tells which site has made it.
    match place_of(spec, own.follows).filter(|_| own.follows > 0) {
        Some(before) if before == site => Ok(()),
        Some(before) => Err(format!(
            "before {holders} it was {before} that had authority over {group}, not {site}: type it in the cluster of {before}, \
             or, if {site} is meant all the same, `kubectl banyan failover start {group}`"
        )),
        None => Err(format!(
            "{holders} is the first site that has authority over {group}: there is no way back. If it is to move to {site}, \
             `kubectl banyan failover start {group}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(site: &str, epoch: i64, follows: i64, holder: &str) -> Result<(), String> {
        let spec = FailoverGroupSpec {
            sites: ["a", "b", "c"].map(str::to_owned).to_vec(),
            ..FailoverGroupSpec::default()
        };
        let own =
            AuthoritySpec { epoch, follows, holders: vec![holder.to_owned()], ..AuthoritySpec::default() };
        leads_here("payments", site, &spec, Some(&own), Some(AuthorityState::Standby))
    }

    #[test]
    fn only_the_site_that_had_it_before_takes_it_back() {
        assert_eq!(asked("a", 17, 16, "b"), Ok(()));
        assert!(asked("c", 17, 16, "b").unwrap_err().contains("type it in the cluster of a"));
        assert!(asked("b", 17, 16, "b").unwrap_err().contains("nothing to give back"));
        assert!(asked("b", 16, 0, "a").unwrap_err().contains("is the first site"));
        assert!(asked("a", 0, 0, "").unwrap_err().contains("initialSite"));
        let spec = FailoverGroupSpec::default();
        let own = AuthoritySpec { epoch: 17, follows: 16, ..AuthoritySpec::default() };
        let lost = leads_here("payments", "a", &spec, Some(&own), Some(AuthorityState::Lost));
        assert!(lost.unwrap_err().contains("explain payments"));
        assert!(leads_here("payments", "a", &spec, None, None).is_err());
    }
}
