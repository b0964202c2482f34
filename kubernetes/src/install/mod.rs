//! Installs Orlop into a cluster: the objects of `deploy/base` with what an installation may choose, and the way to
//! put them there.

mod apply;
mod choices;
mod render;

pub use apply::{InstallError, Installed, install};
pub use choices::{InstallChoices, S3Choices, StoreChoice};
pub use render::{RenderError, render};
