//! Tests on real API servers. All modules share one pair of clouds; each test has namespaces of its own.

mod cloud;
mod crd;
mod finservice;
mod world;
