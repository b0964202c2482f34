//! The storage engine of Orlop.
