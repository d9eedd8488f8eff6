//! From all decisions to the epoch that counts. Pure.
//!
//! Read one after the other, decisions are a chain: 0 → 16 → 33. Where they are not, somebody has to know.

use std::collections::BTreeMap;

use super::decision::Decision;

/// What all decisions say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The decision with the greatest epoch, and the epoch that it follows. `None` if there is no decision.
    pub latest: Option<(i64, Decision)>,
    /// Where the decisions are no chain, in the order of their epochs.
    pub faults: Vec<ChainFault>,
}

/// A place where decisions are no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A decision that goes back. It is not followed.
    #[error(
        "after/{follows} names epoch {epoch}, which is not greater: compare it with the Authority of both sites"
    )]
    NotGreater {
        /// The epoch that it says it follows.
        follows: i64,
        /// The epoch that it names.
        epoch: i64,
    },
    /// Nothing says how an epoch came about that was followed by another: a commit was made while the witness was away,
    /// or an object was deleted.
    #[error(
        "after/{follows} stands, but nothing says what made epoch {follows} after epoch {from}: it was committed while the witness was away, or an object was deleted there"
    )]
    Hole {
        /// The epoch that came from nowhere.
        follows: i64,
        /// The last epoch before it that is accounted for.
        from: i64,
    },
    /// Two lines: an epoch that another decision has passed over was followed as well.
    #[error(
        "after/{follows} stands, while after/{over} leads past it to epoch {epoch}: two sites held authority. Compare the stores of both before anything is moved"
    )]
    Fork {
        /// The epoch that was passed over.
        follows: i64,
        /// The decision that passes over it follows this epoch.
        over: i64,
        /// And leads to this one.
        epoch: i64,
    },
    /// Two epochs were followed by the same one.
    #[error(
        "after/{first} and after/{second} both lead to epoch {epoch}: one of them was copied or made by hand"
    )]
    Merge {
        /// One of both.
        first: i64,
        /// The other.
        second: i64,
        /// Where they lead.
        epoch: i64,
    },
}

impl Chain {
    /// Reads decisions, each under the epoch that it follows.
    pub fn of(decisions: &BTreeMap<i64, Decision>) -> Self {
        let mut chain = Self::default();
        // By the epoch that it leads to: what it follows.
        let mut led: BTreeMap<i64, i64> = BTreeMap::new();
        for (follows, decision) in decisions {
            let (follows, epoch) = (*follows, decision.epoch);
            if epoch <= follows {
                chain.faults.push(ChainFault::NotGreater { follows, epoch });
                continue;
            }
            if !led.is_empty() && !led.contains_key(&follows) {
                // The decision that leads past this epoch, if there is one.
                let past = led.iter().find(|(to, from)| **from < follows && follows < **to);
                chain.faults.push(match past {
                    Some((to, over)) => ChainFault::Fork { follows, over: *over, epoch: *to },
                    None => {
                        ChainFault::Hole { follows, from: led.last_key_value().map_or(0, |(last, _)| *last) }
                    }
                });
            }
            if let Some(first) = led.insert(epoch, follows) {
                chain.faults.push(ChainFault::Merge { first, second: follows, epoch });
            }
            if chain.latest.as_ref().is_none_or(|(_, latest)| latest.epoch < epoch) {
                chain.latest = Some((follows, decision.clone()));
            }
        }
        chain
    }

    /// The greatest epoch that is known here; 0 if there is none.
    pub fn epoch(&self) -> i64 {
        self.latest.as_ref().map_or(0, |(_, decision)| decision.epoch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(of: &[(i64, i64)]) -> Chain {
        let decision = |epoch| Decision { epoch, holders: vec!["a".to_owned()], failover: String::new() };
        Chain::of(&of.iter().map(|(follows, epoch)| (*follows, decision(*epoch))).collect())
    }

    #[test]
    fn a_chain_has_no_faults_wherever_it_begins() {
        assert_eq!(chain(&[]), Chain::default());
        for of in [&[(0, 16), (16, 33), (33, 48)][..], &[(33, 48)], &[(16, 33), (33, 48)]] {
            let chain = chain(of);
            assert_eq!((chain.epoch(), chain.faults.clone()), (48, Vec::new()), "{of:?}");
            assert_eq!(chain.latest.map(|(follows, _)| follows), Some(33));
        }
    }

    #[test]
    fn holes_forks_and_steps_back_are_named() {
        let hole = chain(&[(0, 16), (33, 48)]);
        assert_eq!((hole.epoch(), &hole.faults[..]), (48, &[ChainFault::Hole { follows: 33, from: 16 }][..]));
        let fork = chain(&[(0, 16), (16, 48), (33, 65), (48, 64)]);
        let expected = [ChainFault::Fork { follows: 33, over: 16, epoch: 48 }];
        assert_eq!((fork.epoch(), &fork.faults[..]), (65, &expected[..]));
        let back = chain(&[(0, 16), (16, 16), (33, 17)]);
        let expected = [
            ChainFault::NotGreater { follows: 16, epoch: 16 },
            ChainFault::NotGreater { follows: 33, epoch: 17 },
        ];
        assert_eq!((back.epoch(), &back.faults[..]), (16, &expected[..]));
        let merge = chain(&[(0, 48), (16, 48)]);
        let expected = [
            ChainFault::Fork { follows: 16, over: 0, epoch: 48 },
            ChainFault::Merge { first: 0, second: 16, epoch: 48 },
        ];
        assert_eq!(merge.faults, expected);
        for fault in hole.faults.iter().chain(&fork.faults).chain(&back.faults).chain(&merge.faults) {
            assert!(fault.to_string().starts_with("after/"), "{fault}");
        }
    }

    proptest! {
        /// Without faults every decision but the first follows one that stands, and the last one counts.
        #[test]
        fn no_faults_means_a_chain(of in proptest::collection::btree_map(0_i64..40, 0_i64..40, 0..8)) {
            let pairs: Vec<(i64, i64)> = of.clone().into_iter().collect();
            let chain = chain(&pairs);
            let is_chain = pairs.iter().all(|(follows, epoch)| follows < epoch)
                && pairs.windows(2).all(|two| two[0].1 == two[1].0);
            prop_assert_eq!(chain.faults.is_empty(), is_chain);
            let greatest = pairs.iter().filter(|(follows, epoch)| follows < epoch).map(|(_, epoch)| *epoch).max();
            prop_assert_eq!(chain.epoch(), greatest.unwrap_or(0));
        }
    }
}
