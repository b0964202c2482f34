//! The one binary of Orlop.

fn main() {}
