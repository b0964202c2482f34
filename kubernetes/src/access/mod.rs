//! Who somebody is, and whether they may do something: the API server decides both.

mod cache;
mod identity;
mod reviewer;

pub use identity::{Identity, Right};
pub use reviewer::Reviewer;
