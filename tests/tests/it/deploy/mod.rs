//! What lies in `deploy/` is read by the tools that will read it, and its settings by the service itself.

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
