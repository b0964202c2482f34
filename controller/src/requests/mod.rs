//! Questions that clients put as objects: where a file is, and who we are.

mod download;
mod status;
