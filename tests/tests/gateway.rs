//! The gateway: agents back up into a store that only the coordinator has, and may do nothing else there.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "gateway/apart.rs"]
mod apart;
#[path = "gateway/contract.rs"]
mod contract;
#[path = "coordination/cut.rs"]
mod cut;
#[path = "gateway/double.rs"]
mod double;
#[path = "gateway/puppet.rs"]
mod puppet;
#[path = "gateway/rules.rs"]
mod rules;
#[path = "gateway/runs.rs"]
mod runs;
#[path = "gateway/world.rs"]
mod world;
