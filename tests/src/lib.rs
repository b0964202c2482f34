//! What the tests over all crates have in common: trees of files and a recorder of them, an engine in
//! this process, the `orlop` program in others, servers of S3 and of Kubernetes, and guards for what a
//! machine may lack.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod between;
mod engine;
mod gate;
pub mod kube_api;
mod node;
mod place;
mod program;
mod random;
mod record;
mod require;
pub mod s3;
mod service;
mod tree;
mod wait;
mod watched;

pub use between::{Before, Between, StopAfter};
pub use engine::{Engine, KEY, copy_store, key_file};
pub use gate::Gate;
pub use node::{Node, Pod};
pub use place::quick_dir;
pub use program::{Daemon, Orlop, Output, free_port, program, repository_root};
pub use random::Random;
pub use record::{Record, assert_identical};
pub use require::{is_root, postgres_bin, python, require};
pub use service::Machine;
pub use tree::{Content, Meta, Step, Tree, What, any_step, any_tree, any_tree_as_root, sample};
pub use wait::{eventually, eventually_within};
pub use watched::{Read, WatchedStore};
