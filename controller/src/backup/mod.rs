//! `Backup`: a run over many pods.

mod admit;
mod mirror;
mod volumes;
