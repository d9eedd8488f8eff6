//! The example platform's FailoverGroups on this machine: what they move between two clouds is real or played here.
//!
//! | file | what it holds |
//! |---|---|
//! | `overlay` | what of the groups is this machine's own; pure |
//! | `stage` | PostgreSQL that streams, a witness, Cloudflare's end, and who answers load balancers |
//! | `answers` | what each site says of each group |

pub(crate) mod answers;
pub(crate) mod overlay;
pub(crate) mod stage;
