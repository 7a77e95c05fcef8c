//! Generates `docs/assurance.md`, the list of promises and attacks with their tests, from
//! annotations above the tests.
//!
//! An annotation is a comment directly above the attributes of a test function:
//!
//! ```text
//! // promise: A batch is decided as a whole.
//! // attack: access: read more often than the budget -> uses are taken atomically
//! ```
//!
//! A text that is longer than a line continues in the next comment line. A test may have several
//! annotations, and tests with the same text are listed together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::project;

/// The generated document, relative to the project.
const DOCUMENT: &str = "docs/assurance.md";

const REGENERATE: &str = "REWRITE_ASSURANCE=1 cargo test --test all assurance";

/// The areas of attacks, in the order of the document, with their headings.
const AREAS: &[(&str, &str)] = &[
    ("access", "Access to secrets that were not granted"),
    ("escape", "Escape from the sandbox"),
    ("leak", "Leaks and deception of the reader"),
    ("vault", "Attacks by a vault or a server that impersonates it"),
    ("resources", "Resource exhaustion"),
];

/// The minimum number of annotations. A scan that collects fewer did not read the tests.
const CLAIMS_MIN: usize = 80;

const WIDTH: usize = 100;

/// The content of an annotation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Promise(String),
    Attack { area: &'static str, attempt: String, stopped_by: String },
}

/// A test function.
#[derive(Clone, Debug, PartialEq)]
struct Test {
    /// The path relative to the project, with `/` as the separator.
    file: String,
    /// The path, such as `broker::tests::batch_with_ungranted_name_reads_nothing`.
    path: String,
}

#[test]
fn assurance_document_is_up_to_date() {
    let claims = collect(&project()).unwrap();
    let generated = document(&claims);
    let path = project().join(DOCUMENT);
    if std::env::var_os("REWRITE_ASSURANCE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(current == generated, "{DOCUMENT} is out of date: regenerate it with `{REGENERATE}`");
}

/// Returns the annotations of all tests below `root`, in the order of files and lines.
fn collect(root: &Path) -> Result<Vec<(Claim, Test)>, String> {
    let mut claims = Vec::new();
    for file in rust_files(root) {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file.strip_prefix(root).expect("the file is below the root").to_string_lossy().into_owned();
        claims.extend(parse(&name, &text)?);
    }
    if claims.len() < CLAIMS_MIN {
        return Err(format!("only {} annotations found, at least {CLAIMS_MIN} expected", claims.len()));
    }
    Ok(claims)
}

/// Returns all Rust files below `root`, sorted, except those in build directories and hidden ones.
fn rust_files(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut pending) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            // A symbolic link is neither a directory nor a file here, so links are not followed.
            let Ok(kind) = entry.file_type() else { continue };
            let skipped = name == "target" || name.to_string_lossy().starts_with('.');
            if kind.is_dir() && !skipped {
                pending.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Returns the annotations of one source file, each with its test.
fn parse(file: &str, text: &str) -> Result<Vec<(Claim, Test)>, String> {
    let at = |index: usize, problem: &str| format!("{file}:{}: {problem}", index + 1);
    let (mut found, mut module) = (Vec::new(), None);
    let mut lines = text.lines().map(str::trim_end).enumerate().peekable();
    while let Some((first, line)) = lines.next() {
        // Only inline modules at the top level of a file are part of a path.
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            module = Some(name);
        } else if line == "}" {
            module = None;
        }
        let Some(annotation) = annotation(line).map_err(|problem| at(first, problem))? else { continue };

        let mut texts = vec![annotation.to_owned()];
        while let Some((index, line)) = lines.next_if(|(_, line)| line.trim_start().starts_with("//")) {
            match self::annotation(line).map_err(|problem| at(index, problem))? {
                Some(next) => texts.push(next.to_owned()),
                None => {
                    let more = line.trim_start().strip_prefix("// ").ok_or_else(|| at(first, NOT_ABOVE))?;
                    let last = texts.last_mut().expect("there is at least one");
                    *last = format!("{last} {more}");
                }
            }
        }

        let mut is_test = false;
        while let Some((_, line)) = lines.next_if(|(_, line)| line.trim_start().starts_with("#[")) {
            let attribute = line.trim_start();
            is_test |= ["#[test]", "#[tokio::test]", "#[tokio::test("].iter().any(|test| attribute.starts_with(test));
            if !attribute.ends_with(']') {
                while lines.next().is_some_and(|(_, line)| !line.ends_with(']')) {}
            }
        }
        let function = lines.peek().and_then(|(_, line)| function(line)).filter(|_| is_test);
        let function = function.ok_or_else(|| at(first, NOT_ABOVE))?;
        for text in texts {
            let path = test_path(file, module, function);
            let claim = claim(&text).map_err(|problem| at(first, problem))?;
            found.push((claim, Test { file: file.to_owned(), path }));
        }
    }
    Ok(found)
}

const NOT_ABOVE: &str = "an annotation has to stand directly above the attributes of a test function";
const FORM: &str =
    "an annotation has the form `// promise: <sentence>` or `// attack: <area>: <attempt> -> <what stops it>`";

/// Returns `line` without its slashes if it begins an annotation, and an error if it only resembles
/// one.
fn annotation(line: &str) -> Result<Option<&str>, &'static str> {
    let Some(comment) = line.trim_start().strip_prefix("//") else { return Ok(None) };
    let Some((word, _)) = comment.split_once(':') else { return Ok(None) };
    match word.trim_start_matches(['/', '!']).trim().to_ascii_lowercase().as_str() {
        "promise" | "attack" if word.starts_with(" p") || word.starts_with(" a") => Ok(Some(&comment[1..])),
        "promise" | "promises" | "attack" | "attacks" => Err(FORM),
        _ => Ok(None),
    }
}

/// Parses the text of an annotation, which begins with its keyword.
fn claim(text: &str) -> Result<Claim, &'static str> {
    let (keyword, rest) = text.split_once(": ").ok_or(FORM)?;
    let clean = |part: &str| match part.trim() {
        "" => Err(FORM),
        part => Ok(part.to_owned()),
    };
    if keyword == "promise" {
        return Ok(Claim::Promise(clean(rest)?));
    }
    let (area, rest) = rest.split_once(": ").ok_or(FORM)?;
    let (area, _) = AREAS.iter().find(|(known, _)| *known == area).ok_or("an attack names an unknown area")?;
    let (attempt, stopped_by) = rest.split_once(" -> ").ok_or(FORM)?;
    if stopped_by.contains("->") {
        return Err(FORM);
    }
    Ok(Claim::Attack { area, attempt: clean(attempt)?, stopped_by: clean(stopped_by)? })
}

/// Returns the name of the function that a line declares.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    line.split_once(['(', '<']).map(|(name, _)| name)
}

/// Returns the path of a test: its crate's folder, the modules of its file, an inline module, and
/// its name.
fn test_path(file: &str, module: Option<&str>, function: &str) -> String {
    let parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let position = |name: &str| parts.iter().position(|part| *part == name);
    // Unit tests are in `<crate>/src`, integration tests in `tests`.
    let first = position("src").map_or_else(|| position("tests").map_or(0, |at| at + 1), |at| at.saturating_sub(1));
    let modules = parts[first..].iter().copied().filter(|part| !["src", "mod", "lib", "main"].contains(part));
    modules.chain(module).chain([function]).collect::<Vec<_>>().join("::")
}

/// Returns the generated document.
fn document(claims: &[(Claim, Test)]) -> String {
    // Lists claims in the order of their first test.
    let mut order: Vec<&Claim> = Vec::new();
    let mut tests: BTreeMap<&Claim, Vec<&Test>> = BTreeMap::new();
    for (claim, test) in claims {
        let tests_of_claim = tests.entry(claim).or_default();
        if tests_of_claim.is_empty() {
            order.push(claim);
        }
        tests_of_claim.push(test);
    }

    let mut text = format!(
        "<!-- Generated from annotations in the tests. Do not edit: run `make assurance`. -->\n\n\
         # Assurance\n\n\
         What strongroom promises, which attacks it withstands, and the tests that check it. Each entry is an\n\
         annotation above its tests, which `tests/assurance.rs` collects. The threat model is in\n\
         [SECURITY.md](../SECURITY.md), the design in [ARCHITECTURE.md](../ARCHITECTURE.md).\n\n\
         To regenerate this page: `make assurance`, or `{REGENERATE}`.\n\n\
         ## Promises\n"
    );
    for claim in &order {
        if let Claim::Promise(promise) = claim {
            text += &format!("\n{}", item(promise, None, &tests[claim]));
        }
    }
    text += "\n## Attacks\n";
    for (wanted, heading) in AREAS {
        text += &format!("\n### {heading}\n");
        for claim in &order {
            if let Claim::Attack { area, attempt, stopped_by } = claim
                && area == wanted
            {
                text += &format!("\n{}", item(&capitalized(attempt), Some(stopped_by), &tests[claim]));
            }
        }
    }
    text
}

/// Returns a list item: a text, what stops an attack, and the tests with links to their files.
fn item(text: &str, stopped_by: Option<&str>, tests: &[&Test]) -> String {
    let mut item = wrapped(&format!("- **{text}**"), "  ");
    if let Some(stopped_by) = stopped_by {
        item += &wrapped(&format!("  Stopped by: {stopped_by}."), "  ");
    }
    for test in tests {
        item += &format!("  - [`{}`](../{})\n", test.path, test.file);
    }
    item
}

/// Breaks a text into lines of at most `WIDTH` characters, all but the first indented.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let start = text.len() - text.trim_start().len();
    let mut line = text[..start].to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{line}\n");
            line = indent.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    lines + &line + "\n"
}

fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}

#[test]
fn annotations_are_collected_with_their_tests() {
    // A list of strings, so that the scan of this file does not find annotations in it.
    let text = [
        "fn helper() {}",
        "// promise: One promise that is longer",
        "// than a line.",
        "// attack: leak: print a value -> the redactor",
        "#[tokio::test(start_paused = true)]",
        "#[expect(",
        "    clippy::panic,",
        "    reason = \"shown\"",
        ")]",
        "async fn outer() {}",
        "mod tests {",
        "    /// Documentation.",
        "    // promise: Another one.",
        "    #[cfg(unix)]",
        "    #[test]",
        "    fn inner() {}",
        "}",
        "// promise: Another one.",
        "#[test]",
        "fn last() {}",
    ];
    let text = text.join("\n");
    let promise = |text: &str| Claim::Promise(text.to_owned());
    let test = |path: &str| Test { file: "host/vault/src/cache/mod.rs".to_owned(), path: path.to_owned() };
    let attack =
        Claim::Attack { area: "leak", attempt: "print a value".to_owned(), stopped_by: "the redactor".to_owned() };
    let claims = parse("host/vault/src/cache/mod.rs", &text).unwrap();
    let expected = [
        (promise("One promise that is longer than a line."), test("vault::cache::outer")),
        (attack, test("vault::cache::outer")),
        (promise("Another one."), test("vault::cache::tests::inner")),
        (promise("Another one."), test("vault::cache::last")),
    ];
    assert_eq!(claims, expected);

    let document = document(&claims);
    let link = |path: &str| format!("  - [`{path}`](../host/vault/src/cache/mod.rs)\n");
    let grouped = format!("- **Another one.**\n{}{}", link("vault::cache::tests::inner"), link("vault::cache::last"));
    assert!(document.contains(&grouped), "{document}");
    let attack = format!("- **Print a value**\n  Stopped by: the redactor.\n{}", link("vault::cache::outer"));
    assert!(document.contains(&attack), "{document}");
}

#[test]
fn annotation_without_test_function_is_rejected() {
    for after in [
        "",
        "fn helper() {}\n",
        "#[cfg(unix)]\nfn helper() {}\n",
        "\n#[test]\nfn separate() {}\n",
        "/// Documentation.\n#[test]\nfn test() {}\n",
        "#[test]\n// A remark.\nfn test() {}\n",
        "#[test]\nstruct Test;\n",
    ] {
        let error = parse("tests/x.rs", &format!("\n// promise: A sentence.\n{after}")).unwrap_err();
        assert_eq!(error, format!("tests/x.rs:2: {NOT_ABOVE}"), "{after}");
    }
}

#[test]
fn malformed_annotations_are_rejected() {
    for bad in [
        "// promise:",
        "// promise: ",
        "//promise: x",
        "//  promise: x",
        "/// promise: x",
        "// Promise: x",
        "// promises: x",
        "// attacks: leak: x -> y",
        "// attack: x -> y",
        "// attack: leak: x",
        "// attack: leak: x ->",
        "// attack: leak:  -> y",
        "// attack: leak: x -> y -> z",
        "// attack: elsewhere: x -> y",
    ] {
        assert!(parse("tests/x.rs", &format!("{bad}\n#[test]\nfn test() {{}}\n")).is_err(), "{bad}");
    }
    let ordinary = "// It keeps its promise: always.\n// attackers: many\n#[test]\nfn test() {}\n";
    assert_eq!(parse("tests/x.rs", ordinary), Ok(Vec::new()));
}

#[test]
fn project_without_annotations_is_rejected() {
    let empty = tempfile::tempdir().unwrap();
    let error = collect(empty.path()).unwrap_err();
    assert!(error.starts_with("only 0 annotations"), "{error}");
}

#[test]
fn test_path_has_crate_and_modules() {
    for (file, module, path) in [
        ("host/core/src/ids.rs", Some("tests"), "core::ids::tests::f"),
        ("host/broker/src/tests.rs", None, "broker::tests::f"),
        ("host/policy/src/tests/mod.rs", None, "policy::tests::f"),
        ("host/vault/src/cache/tests.rs", None, "vault::cache::tests::f"),
        ("host/vault/src/lib.rs", Some("tests"), "vault::tests::f"),
        ("tests/azure/malice.rs", None, "azure::malice::f"),
        ("tests/keyvault/src/vault/mod.rs", None, "keyvault::vault::f"),
        ("host/vault/tests/cases.rs", None, "cases::f"),
    ] {
        assert_eq!(test_path(file, module, "f"), path, "{file}");
    }
}

#[test]
fn long_lines_are_wrapped() {
    let text = format!("  {}", "word ".repeat(60));
    let wrapped = wrapped(&text, "    ");
    assert!(
        wrapped
            .lines()
            .all(|line| line.chars().count() <= WIDTH && line.starts_with("  word") || line.starts_with("    word"))
    );
    assert_eq!(wrapped.split_whitespace().count(), 60);
}
