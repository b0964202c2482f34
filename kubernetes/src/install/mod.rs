//! Installs Orlop into a cluster: the objects of `deploy/base` with what an installation may choose, the way to put them
//! there, and what follows if there are backups already.

mod apply;
mod choices;
mod pods;
mod ready;
mod recover;
mod render;

pub use apply::{InstallError, Installed, install};
pub use choices::{InstallChoices, S3Choices, StoreChoice};
pub use recover::{
    RecoverError, ask_restore, keep_password, last_listed, stored_backups, wait_restore,
};
pub use render::{LOCATION, RenderError, render};

/// The Secret with what opens the repositories: Velero's.
pub const PASSWORD_SECRET: &str = "velero-repo-credentials";
/// The key in it.
pub const PASSWORD_KEY: &str = "repository-password";
