//! What a tour explains. Pure: every number in it is of the policy, none is of what is seen.

use super::script::{BAD, RATE, Script};

/// The acts' titles and what is said before each.
pub fn acts(script: &Script) -> [(String, String); 4] {
    let [first, good, bad] = script.images.each_ref().map(|image| Script::short(image));
    let steps: Vec<String> = script.weights.iter().map(|weight| format!("{weight} %")).collect();
    let steps = steps.join(", then ");
    let least = script.weights.first().copied().unwrap_or_default();
    [
        (
            format!("{first} serves"),
            format!(
                "A FinService and a CanaryRollout are applied. The first release has nothing to be compared with, so it \
                 serves as soon as it is Ready. Users send {RATE} requests a second through the gateway from now on."
            ),
        ),
        (
            format!("{good} takes over"),
            format!(
                "Another image is all it takes. Pods come first, then {steps} of the requests. At each step both releases \
                 serve at the same time, and the new one may go on once the evidence says that it is not worse."
            ),
        ),
        (
            format!("{bad} goes back"),
            format!(
                "The pods of this release fail {BAD} % of their requests. It gets {least} % of the traffic, and loses all of it \
                 in the look in which the evidence says that it is worse."
            ),
        ),
        (
            "what a person may say".to_owned(),
            format!(
                "{bad} is not tried again until the FinService changes, or somebody says so. It makes an Action, which \
                 stays on record. The tour does not run it:"
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::script::tests::script;
    use super::*;

    #[test]
    fn the_policys_own_numbers_are_told() {
        let acts = acts(&script());
        assert!(acts[1].1.contains("10 %, then 50 %, then 100 % of the requests"), "{}", acts[1].1);
        assert!(acts[2].1.contains("fail 20 %") && acts[2].1.contains("gets 10 %"), "{}", acts[2].1);
    }
}
