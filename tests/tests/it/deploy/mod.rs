//! The files in `deploy/`, checked with the tools that use them, and their settings with the service.

mod compose;
mod dockerfile;
mod kubernetes;
mod service;
mod systemd;
mod tools;

use std::path::{Path, PathBuf};

/// The folder `deploy` of this workspace.
fn deploy() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is in a workspace");
    root.join("deploy")
}
