//! `Schedule`: when backups are made, and which are kept.

mod keep;
pub(crate) mod turn;
