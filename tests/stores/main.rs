//! Stores on real PostgreSQL: two servers for each test, one of which follows the other.

mod agent;
mod faults;
mod fence;
mod looks;
mod moves;
mod tls;
mod world;
