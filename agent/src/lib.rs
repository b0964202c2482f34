//! The node side of Orlop.

pub mod backup;
pub mod scan;
pub mod marks;
pub mod restore;
pub mod volumes;
pub mod app;
mod session;
mod task;
