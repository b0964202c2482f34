//! The node side of Orlop.

pub mod backup;
pub mod scan;
