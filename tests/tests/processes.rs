//! The program as a person or a script runs it: exit codes, shapes of the results, error lines, and
//! what a kill at any moment leaves behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "processes/collecting.rs"]
mod collecting;
#[path = "processes/commands.rs"]
mod commands;
#[path = "processes/damage.rs"]
mod damage;
#[path = "processes/demo.rs"]
mod demo;
#[path = "processes/forget.rs"]
mod forget;
#[path = "processes/keys.rs"]
mod keys;
#[path = "processes/kill.rs"]
mod kill;
#[path = "processes/resume.rs"]
mod resume;
#[path = "processes/schedules.rs"]
mod schedules;
#[path = "processes/shapes.rs"]
mod shapes;
#[path = "processes/volumes.rs"]
mod volumes;
