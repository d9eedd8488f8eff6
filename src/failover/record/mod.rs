//! The record: what each move of a FailoverGroup to this site did, who ordered it and who spoke, for an auditor.
//!
//! There is one for each group and site. It only grows, and each entry bears the hash of the one before, so that nobody can
//! change, remove or move one without its being found.
//!
//! | file | what it is for |
//! |---|---|
//! | [`entry`] | which entries follow from a change of a Failover's status; pure |
//! | [`size`] | how large node groups and node pools were, as an entry tells it; pure |
//! | [`outbox`] | entries that are not in the record yet: they stand in the status that they tell of; pure |
//! | [`line`] | an entry as the bytes that are hashed; pure |
//! | [`document`] | the record as it is exported and read back; pure |
//! | [`verify`] | whether a record is whole; pure |
//! | [`parts`] | the ConfigMaps that it lies in |
//! | [`write`] | adds entries to it |
//!
//! What it proves and what not: [docs/audit.md](../../../docs/audit.md).

pub mod document;
pub mod entry;
pub mod line;
pub mod outbox;
pub mod parts;
mod size;
pub mod verify;
pub(crate) mod write;
