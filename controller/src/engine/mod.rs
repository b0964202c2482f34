//! Loops.

mod known;
mod queue;
