//! The node side of Orlop.
