//! Tasks: taken from the coordinator, run on threads of their own, remembered until their end is
//! acknowledged.

mod order;
mod restore;
mod shares;
mod table;
mod work;

pub(crate) use order::Place;
pub(crate) use table::TaskTable;
