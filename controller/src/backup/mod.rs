//! `Backup`: a run over many pods.

mod admit;
mod mirror;
pub(crate) mod volumes;
