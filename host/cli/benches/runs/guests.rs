//! Builds the components that the benchmarks run.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::Size;

/// A file that was changed more recently is read again for each run, because strongroom could not
/// distinguish a later change.
const SETTLED: Duration = Duration::from_secs(5);

/// Returns the project's root folder.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Returns the build folder.
pub(crate) fn target() -> PathBuf {
    // .../target/release/deps/runs-<hash>
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// Returns a guest of `benches/guests` as a component that has [settled](settle).
pub(crate) fn guest(name: &str, size: Size) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let target = target().join("guests");
        cargo(&project().join("host/cli/benches/guests"), &["--target", "wasm32-wasip2"], &target, "");
        target.join("wasm32-wasip2/release")
    });
    let component = built.join(name).with_extension("wasm");
    settle(&component, size);
    component
}

/// Waits until a component's file is old enough for strongroom to recognize it without reading.
/// Otherwise the first seconds of a benchmark would differ from the rest.
pub(crate) fn settle(component: &Path, size: Size) {
    if size == Size::Once {
        return;
    }
    let metadata = std::fs::metadata(component).unwrap();
    let changed = u64::try_from(metadata.mtime().max(metadata.ctime())).unwrap();
    let settled = SystemTime::UNIX_EPOCH + Duration::from_secs(changed) + SETTLED;
    if let Ok(left) = settled.duration_since(SystemTime::now()) {
        std::thread::sleep(left);
    }
}

/// Builds a package in release mode, with additional compiler flags if any.
pub(crate) fn cargo(folder: &Path, arguments: &[&str], target: &Path, flags: &str) {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(folder).args(["build", "--locked", "--release", "--quiet"]).args(arguments);
    command.arg("--target-dir").arg(target);
    // The variables that cargo set for this program must not reach the build of another package.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
    {
        command.env_remove(name);
    }
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
    if !flags.is_empty() {
        command.env("RUSTFLAGS", flags);
    }
    assert!(command.status().unwrap().success(), "the guests in {} do not build", folder.display());
}
