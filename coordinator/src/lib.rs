//! The gRPC services, scheduler and state of Orlop.
//!
//! ```text
//! clients ──► service ──► runs (decides by core's state machine) ──► agents
//!                          │        │
//!                          │        └─► records, artifacts: what is finished, in the object store
//!                          └─► state: what is in flight, in SQLite
//! ```

mod artifacts;
mod clock;
mod cluster;
mod config;
mod downloads;
mod error;
mod locations;
mod maintenance;
mod metrics;
mod records;
mod runs;
mod schedules;
mod server;
mod service;
mod state;
mod tasks;
#[cfg(feature = "testing")]
pub mod testing;

pub use clock::{Clock, Reading, SystemClock};
pub use config::{
    ClusterAccess, CoordinatorConfig, DownloadEndpoint, GatewayLimits, Limits, StoreAccess,
};
pub use error::{Error, Result};
pub use locations::{Home, PLACES_FILE};
pub use server::Coordinator;
pub use service::{check_message, collect_message};
