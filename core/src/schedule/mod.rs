//! When a schedule makes its backups: the times that it names, and what to do about them now.
//!
//! Times are milliseconds since 1970 and always parameters: nothing here reads a clock.

mod spec;
mod timetable;
mod turn;

pub use spec::ScheduleSpec;
pub use timetable::{ParseTimetableError, Timetable};
pub use turn::{Due, Look, SkipReason, Step};

#[cfg(test)]
mod tests;
