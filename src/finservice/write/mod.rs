//! Carries a plan out, and writes what came of it. All that writes for FinServices is here.
//!
//! | file | what it writes |
//! |---|---|
//! | [`act`] | children, as the plan has them |
//! | [`effects`] | all of it, as one reconcile does it |
//! | [`adopt`] | what is taken over: fields that the owner before would still hold |
//! | [`feature_flag`] | the percentage of a feature flag |
//! | [`rollout_status`] | statuses of CanaryRollouts and of Actions |

pub mod act;
pub(crate) mod adopt;
pub(crate) mod effects;
pub(crate) mod feature_flag;
pub(crate) mod rollout_status;
