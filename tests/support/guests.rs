//! Builds the guests once per test process: Rust packages with cargo, and `.wat` files from their
//! text.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the component of a guest in `tests/guests` (such as `hello`), of `plugin`, or of the
/// example (`training-example`). An absolute path is returned as it is.
pub(crate) fn guest(name: &str) -> PathBuf {
    if Path::new(name).is_absolute() {
        return PathBuf::from(name);
    }
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(build);
    // Cargo names the file of a library with underscores.
    let candidates = [folder.join(format!("{name}.wasm")), folder.join(format!("{}.wasm", name.replace('-', "_")))];
    candidates.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("there is no guest `{name}`"))
}

/// Returns a folder next to the host's build, which tests and demos share for separate builds.
pub(super) fn build_folder(name: &str) -> PathBuf {
    // .../target/debug/deps/all-<hash>
    let test = std::env::current_exe().expect("a test knows its own file");
    let target = test.ancestors().nth(3).expect("a test is built in a target folder");
    target.join(name)
}

fn build() -> PathBuf {
    let target = build_folder("guests");
    for (folder, package) in [
        ("guest-example/rust", "training-example"),
        ("tests/guests", ""),
        ("tests/guests/plugin", ""),
        ("tests/guests/scorer", ""),
    ] {
        let folder = super::project().join(folder);
        if folder.join("Cargo.toml").exists() {
            build_guests(&folder, package, &target);
        }
    }
    let built = target.join("wasm32-wasip2/release");
    for text in super::files_below(&super::project().join("tests/guests/wat")) {
        assemble(&text, &built);
    }
    built
}

/// Assembles a component from text. Another test process may do the same at the same time, or be
/// running the existing file.
fn assemble(text: &Path, built: &Path) {
    let component = wat::parse_file(text).unwrap_or_else(|error| panic!("{error}"));
    let path = built.join(text.file_stem().expect("a guest has a name")).with_extension("wasm");
    if std::fs::read(&path).is_ok_and(|existing| existing == component) {
        return;
    }
    let new = tempfile::NamedTempFile::new_in(built).expect("a new file");
    std::fs::write(&new, component).expect("it can be written");
    new.persist(path).expect("it can be put in its place");
}

/// Returns a cargo command for a package outside the host's workspace.
pub(super) fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(folder);
    // The variables that cargo set for this test must not reach the build of another package.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
    {
        command.env_remove(name);
    }
    command
}

fn build_guests(folder: &Path, bin: &str, target: &Path) {
    let mut command = cargo(folder);
    command.args(["build", "--locked", "--release", "--quiet", "--target", "wasm32-wasip2"]);
    command.arg("--target-dir").arg(target);
    if !bin.is_empty() {
        command.args(["--bin", bin]);
    }
    // These flags would override those in the guest's own `.cargo/config.toml`.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = command.status().expect("cargo runs");
    assert!(
        status.success(),
        "the guests in {} do not build: is the wasm32-wasip2 target there? (scripts/wasm-target.sh)",
        folder.display()
    );
}
