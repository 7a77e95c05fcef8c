//! Rules for the source that neither the compiler nor Cargo checks: dependencies of the crates,
//! callers that expose secret values, the places of `unsafe` code and of reads of the environment,
//! and that every guest has a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::{files_below, project};

/// Returns source text without comments and without inline test modules.
fn code(text: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod tests {") {
        Some(at) => &text[..at],
        None => text,
    };
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_test_file(file: &Path) -> bool {
    let name = file.file_stem().unwrap().to_string_lossy();
    file.components().any(|part| part.as_os_str() == "tests")
        || name == "tests"
        || name == "cases"
        || name.ends_with("_tests")
}

/// A source file of the host: the folder of its crate below `host/`, its path, and its code.
struct Source {
    krate: String,
    path: PathBuf,
    code: String,
}

fn sources() -> Vec<Source> {
    let host = project().join("host");
    let is_source = |file: &Path| {
        let below = file.strip_prefix(&host).unwrap();
        file.extension().is_some_and(|end| end == "rs") && below.iter().nth(1).is_some_and(|folder| folder == "src")
    };
    let files = files_below(&host).into_iter().filter(|file| is_source(file) && !is_test_file(file));
    let sources: Vec<Source> = files
        .map(|path| {
            let krate = path.strip_prefix(&host).unwrap().iter().next().unwrap().to_string_lossy().into_owned();
            let code = code(&std::fs::read_to_string(&path).unwrap());
            Source { krate, path, code }
        })
        .collect();
    assert!(sources.len() > 100, "only {} files found", sources.len());
    sources
}

/// Returns the packages that a workspace crate depends on, directly and indirectly, in a normal
/// build.
fn dependencies(package: &str) -> BTreeSet<String> {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{lib}",
            "--package",
            package,
        ])
        .current_dir(project())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn crates_depend_only_on_what_their_layer_allows() {
    let engine = ["wasmtime", "wasmtime_wasi", "wasmparser"];
    let azure = ["azure_core", "azure_identity", "reqwest"];
    let heavy = ["rusqlite", "tokio", "clap", "rustix"];
    for (package, absent) in [
        ("strongroom-core", [&engine[..], &azure, &heavy].concat()),
        ("strongroom-redact", [&engine[..], &azure, &heavy].concat()),
        ("strongroom-policy", [&engine[..], &azure, &heavy].concat()),
        ("strongroom-audit", [&engine[..], &azure, &["rusqlite", "clap"]].concat()),
        ("strongroom-python", [&engine[..], &azure, &["rusqlite", "clap"]].concat()),
        ("strongroom-vault", [&engine[..], &azure, &["rusqlite", "clap"]].concat()),
        ("strongroom-vault-azure", [&engine[..], &["rusqlite", "clap"]].concat()),
        ("strongroom-broker", [&engine[..], &azure, &["rusqlite", "clap"]].concat()),
        ("strongroom-runtime", [&azure[..], &["rusqlite", "clap"]].concat()),
        ("strongroom", [&azure[..], &["rusqlite", "clap"]].concat()),
    ] {
        let actual = dependencies(package);
        assert!(actual.contains(&package.replace('-', "_")), "{actual:?}");
        for name in absent {
            assert!(!actual.contains(name), "`{package}` depends on `{name}`");
        }
    }
}

#[test]
fn only_the_runtime_names_wasmtime() {
    for Source { krate, path, code } in sources() {
        assert!(krate == "runtime" || !code.contains("wasmtime"), "{} names wasmtime", path.display());
    }
}

#[test]
fn only_the_azure_crate_names_the_sdk() {
    for Source { krate, path, code } in sources() {
        for name in ["azure_core", "azure_identity", "azure_security", "reqwest"] {
            assert!(krate == "vault-azure" || !code.contains(name), "{} names `{name}`", path.display());
        }
    }
}

#[test]
fn only_the_configuration_reads_the_environment() {
    let config = project().join("host/cli/src/config");
    for Source { path, code, .. } in sources() {
        let reads = ["env::var", "env::vars", "env::home_dir"].iter().any(|call| code.contains(call));
        assert!(path.starts_with(&config) || !reads, "{} reads the environment", path.display());
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    let with: BTreeSet<_> =
        sources().into_iter().filter(|source| source.code.contains("unsafe ")).map(|source| source.path).collect();
    assert_eq!(with.len(), 1, "{with:?}");
    assert!(with.first().unwrap().starts_with(project().join("host/runtime/src/store")), "{with:?}");
}

// promise: Every place in the source that exposes a secret value is listed with a reason.
#[test]
fn callers_of_expose_are_listed() {
    let host = project().join("host");
    let callers: BTreeSet<_> = sources()
        .into_iter()
        .filter(|source| source.code.contains(".expose()") || source.code.contains(".expose_shared()"))
        .map(|source| source.path.strip_prefix(&host).unwrap().to_string_lossy().into_owned())
        .collect();
    let listed: BTreeSet<_> = EXPOSE_CALLERS.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(callers, listed, "the callers of `expose` have changed: update EXPOSE_CALLERS with the reasons");
}

/// Files that expose a secret value, with the reason.
const EXPOSE_CALLERS: &[(&str, &str)] = &[
    ("cli/src/commands/value.rs", "the operator asked to see it"),
    ("redact/src/lib.rs", "its encodings are searched for"),
    ("runtime/src/training.rs", "it is handed to the component that the policy grants it to"),
    ("vault-azure/src/wire.rs", "it is sent to the vault"),
    ("vault/src/local/seal.rs", "it is encrypted"),
];

#[test]
fn only_the_policy_constructs_grants() {
    for Source { krate, path, code } in sources() {
        let constructs = code.contains("Grant::new(") || code.contains("Grant {") && code.contains("impl Grant {");
        assert!(krate == "policy" || !constructs, "{} constructs a grant", path.display());
    }
}

#[test]
fn every_guest_has_a_test() {
    let guests = project().join("tests/guests/src/bin");
    let tests: String = files_below(&project().join("tests"))
        .into_iter()
        .filter(|file| {
            file.extension().is_some_and(|end| end == "rs") && !file.starts_with(project().join("tests/guests"))
        })
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let mut count = 0;
    for guest in files_below(&guests).into_iter().chain(files_below(&project().join("tests/guests/wat"))) {
        let name = guest.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(tests.contains(&format!("\"{name}\"")), "the guest `{name}` has no test");
        count += 1;
    }
    assert!(count > 10, "only {count} guests found");
}

#[test]
fn redaction_cases_name_existing_tests() {
    let sources: String = files_below(&project().join("host"))
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "rs"))
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let text = std::fs::read_to_string(project().join("docs/redaction.md")).unwrap();
    let (_, cases) = text.split_once("\n## Cases").unwrap();
    let (cases, _) = cases.split_once("\n## ").unwrap();
    let mut count = 0;
    for row in cases.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        let names: Vec<_> = tests.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 1).collect();
        assert!(!names.is_empty(), "no test is named: {row}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}(")), "docs/redaction.md names `{name}`, which does not exist");
        }
        count += 1;
    }
    assert!(count > 20, "only {count} cases found");
}

#[test]
fn dependencies_have_allowed_licences() {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(project())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        // At least one alternative must consist of allowed licences only.
        let plain = licence.replace(['(', ')'], " ").replace('/', " OR ");
        let allowed = plain
            .split(" OR ")
            .any(|alternative| alternative.split(" AND ").all(|licence| LICENCES.contains(&licence.trim())));
        assert!(
            allowed,
            "{} has the licence `{licence}`: decide whether the project may depend on it",
            package["name"]
        );
    }
}

/// Licences that dependencies may have.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "0BSD",
];
