//! The tarball of a backup's objects.
//!
//! It is a gzip of a tar with `metadata/version` and each object as a file of its own below `resources/`: once
//! by its resource alone, which is what a restore reads, and once by resource and version.

mod path;
mod reader;
mod writer;

pub use path::{ItemPath, Layout};
pub use reader::{Tarball, TarballItem, TarballLimits};
pub use writer::TarballWriter;

#[cfg(test)]
mod tests;
