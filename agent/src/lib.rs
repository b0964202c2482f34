//! The node side of Orlop.

pub mod app;
pub mod backup;
pub mod marks;
pub mod restore;
pub mod scan;
mod session;
pub mod store;
mod task;
pub mod volumes;
