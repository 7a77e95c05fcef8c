//! `strongroom new`: creates a training project.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::failure::{Exit, Failure};
use super::out;
use strongroom::escape::escape_controls;

/// Create a training project
///
/// The project has a training program that reads one secret and reports metrics, and a policy that
/// allows it. Nothing is overwritten.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Programming language
    #[arg(long, value_name = "LANGUAGE", default_value = "python")]
    lang: Language,
    /// Folder to create; its name is the name of the project
    #[arg(value_name = "NAME")]
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Language {
    Python,
    Rust,
}

/// The files of a project, with their paths in it.
type Files = &'static [(&'static str, &'static str)];

const POLICY: &str = include_str!("../../templates/policy.toml");

const PYTHON: Files = &[("train.py", include_str!("../../templates/python/train.py")), ("policy.toml", POLICY)];

/// The Rust project contains the guest library, which no package registry has.
const RUST: Files = &[
    ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml")),
    ("src/main.rs", include_str!("../../templates/rust/src/main.rs")),
    (".gitignore", "/target\n"),
    ("policy.toml", POLICY),
    ("strongroom-guest/Cargo.toml", include_str!("../../../../sdk/rust/Cargo.toml")),
    ("strongroom-guest/src/error.rs", include_str!("../../../../sdk/rust/src/error.rs")),
    ("strongroom-guest/src/lib.rs", include_str!("../../../../sdk/rust/src/lib.rs")),
    ("strongroom-guest/src/secret_string.rs", include_str!("../../../../sdk/rust/src/secret_string.rs")),
    ("strongroom-guest/wit/training.wit", include_str!("../../../../wit/training.wit")),
];

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let name = args.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let files = match args.lang {
        Language::Python => PYTHON,
        Language::Rust if is_package_name(name) => RUST,
        Language::Rust => {
            return Err(Failure::invalid(format!("`{name}` cannot be the name of a Rust package"))
                .help("start with a letter, and use letters, digits, `-` and `_`"));
        }
    };
    create(&args.path, name, files)?;
    let path = escape_controls(&args.path.to_string_lossy());
    for (file, _) in files.iter().filter(|(file, _)| !file.starts_with("strongroom-guest/")) {
        out::line(format!("created {path}/{file}"))?;
    }
    out::line("\nnext:")?;
    out::line(format!("  cd {path}"))?;
    for line in next_steps(args.lang, name) {
        out::line(format!("  {line}"))?;
    }
    Ok(Exit::Done)
}

fn create(project: &Path, name: &str, files: Files) -> Result<(), Failure> {
    let failed = |path: &Path, cause: io::Error| {
        let failure = Failure::invalid(format!("could not create `{}`: {cause}", path.display()));
        match cause.kind() {
            io::ErrorKind::AlreadyExists => failure.help("choose a new folder; nothing is overwritten"),
            io::ErrorKind::NotFound => failure.help("create the parent directory first"),
            _ => failure,
        }
    };
    fs::create_dir(project).map_err(|cause| failed(project, cause))?;
    for (file, text) in files {
        let path = project.join(file);
        let parent = path.parent().unwrap_or(project);
        fs::create_dir_all(parent).map_err(|cause| failed(parent, cause))?;
        fs::write(&path, text.replace("{{ name }}", name)).map_err(|cause| failed(&path, cause))?;
    }
    Ok(())
}

fn next_steps(language: Language, name: &str) -> Vec<String> {
    let (build, program) = match language {
        Language::Python => (Vec::new(), "train.py".to_owned()),
        Language::Rust => (
            vec![
                "rustup target add wasm32-wasip2".to_owned(),
                "cargo build --release --target wasm32-wasip2".to_owned(),
            ],
            format!("target/wasm32-wasip2/release/{name}.wasm"),
        ),
    };
    let run =
        ["strongroom secret set db-password".to_owned(), format!("strongroom run {program} --policy policy.toml")];
    build.into_iter().chain(run).collect()
}

fn is_package_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_project_contains_the_whole_guest_library() {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/rust");
        for dir in ["src", "wit"] {
            for entry in fs::read_dir(library.join(dir)).unwrap() {
                let file = format!("strongroom-guest/{dir}/{}", entry.unwrap().file_name().to_str().unwrap());
                assert!(RUST.iter().any(|(name, _)| *name == file), "{file}");
            }
        }
    }

    #[test]
    fn policy_of_a_project_is_valid() {
        strongroom::policy::Policy::parse(POLICY, "policy.toml").unwrap();
    }

    #[test]
    fn existing_folder_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(create(dir.path(), "x", PYTHON).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        create(&dir.path().join("new"), "new", RUST).unwrap();
        let manifest = fs::read_to_string(dir.path().join("new/Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"new\"\n"));
    }

    #[test]
    fn package_names_are_those_of_cargo() {
        assert!(is_package_name("my-job_2"));
        for name in ["", "2x", "-x", "my job", "größe", "a/b"] {
            assert!(!is_package_name(name), "{name}");
        }
    }
}
