//! The program under test: built with failpoints, beside the product and never in its place.

use std::path::{Path, PathBuf};

use crate::Held;
use crate::broken::{During, holds};
use crate::system;

/// Where the two binaries are.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) chitin: PathBuf,
}

impl Program {
    /// Builds `chitin` and `chitin-shim` with failpoints, in the profile of this very program.
    ///
    /// What is compiled for the product is shared (the build directory), the binaries are put elsewhere: the product's
    /// stay what they are.
    ///
    /// # Errors
    /// The build fails.
    pub fn build() -> Held<Self> {
        let (root, target) = (root(), target());
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let mut command = system::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What cargo itself is told by its user, and nothing of what it tells its tests.
        let passed = ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "TMPDIR"];
        let passed = passed.into_iter().chain(["CARGO_INCREMENTAL", "CARGO_BUILD_JOBS", "CARGO_NET_OFFLINE"]);
        command.envs(passed.filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.current_dir(root);
        command.args(["build", "--quiet", "--locked", "--profile", profile, "--package", "chitin"]);
        command.args(["--package", "chitin-shim", "--features", "chitin/failpoints,chitin-shim/failpoints"]);
        command.env("CARGO_BUILD_BUILD_DIR", &target).env("CARGO_TARGET_DIR", target.join("chaos"));
        let output = command.output().during("run cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        holds!(output.status.success(), "the program with failpoints cannot be built: {said}");
        let folder = if profile == "dev" { "debug" } else { profile };
        let chitin = target.join("chaos").join(folder).join("chitin");
        holds!(chitin.is_file(), "cargo put no program at {}", chitin.display());
        Ok(Self { chitin })
    }
}

/// The workspace: this crate's folder is two below it.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."))
}

/// Where cargo builds, and what is not the sources' own is kept.
pub(crate) fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
