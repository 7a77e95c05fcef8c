//! Tests the command line with transcripts: each file in `cases/` contains commands, exit codes and
//! exact output, as a person would see them.
//!
//! A file starts with a comment that says what it shows. `$ ` starts a command, which `sh` runs,
//! and `> ` continues it. `? 2` is its exit code if that is not
//! 0. The following lines are everything it printed, standard output and standard error in the
//!    order of writing; `(no newline)` marks output without a newline at its end. `# ` starts a
//!    comment.
//!
//! Values that differ between runs are masked automatically: `[ID]`, `[VERSION]` of a secret,
//! `[DIGEST]`, `[NOW]`, `[FOLDER]`. Masks written by hand are `[..]` for any text within a line and
//! `...` for any number of lines.
//!
//! The commands of a file share a folder. In it, `home` is the home of strongroom, and `guests`
//! contains the guests.
//!
//! `REWRITE_CASES=1 cargo test --test all transcripts` rewrites the files with the actual output.
//! Lines that still match stay unchanged.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};

use crate::support::{files_below, guest, project};

/// A time within this distance of now counts as read from the clock.
const NOW: SignedDuration = SignedDuration::from_hours(1);

// attack: escape: get a directory that contains the vault, its key or a credential as input or
// output -> a run with such a directory does not start
#[test]
fn transcripts_match() {
    let files = files_below(&project().join("tests/cases"));
    assert!(files.len() > 15, "only {} cases found", files.len());
    let guests = guest("hello");
    let guests = guests.parent().expect("a guest is in a folder");
    let rewrite = std::env::var_os("REWRITE_CASES").is_some();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = run_case(file, guests, rewrite) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}\nrewrite the files with `REWRITE_CASES=1`", failures.join("\n"));
}

/// Runs the commands of one file in a new folder.
fn run_case(file: &Path, guests: &Path, rewrite: bool) -> Result<(), String> {
    let case = Case::parse(&std::fs::read_to_string(file).unwrap())
        .map_err(|problem| format!("{}: {problem}", file.display()))?;
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(guests, folder.path().join("guests")).unwrap();
    let mut actual = Case { title: case.title.clone(), steps: Vec::new() };
    let mut failure = String::new();
    for step in &case.steps {
        let (code, output) = shell(&step.command.join("\n"), folder.path());
        if code != step.code || !matches(&step.output, &output) {
            let shown = |code, lines: &[String]| format!("? {code}\n{}", lines.join("\n"));
            failure += &format!("\n$ {}\n", step.command.join("\n> "));
            failure += &format!("--- expected\n{}\n", shown(step.code, &step.output));
            failure += &format!("--- printed\n{}\n", shown(code, &output));
        }
        let output = keep_matching(&step.output, output);
        actual.steps.push(Step { code, output, ..step.clone() });
    }
    if failure.is_empty() {
        return Ok(());
    }
    if rewrite {
        std::fs::write(file, actual.text()).unwrap();
        return Ok(());
    }
    Err(format!("{}\n{failure}", file.display()))
}

/// Runs a command with a clean environment. Returns its exit code and its masked output.
fn shell(command: &str, folder: &Path) -> (i32, Vec<String>) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_strongroom")).parent().expect("a program is in a folder");
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(folder)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
        .env("LC_ALL", "C")
        .env("HOME", folder)
        .env("STRONGROOM_HOME", "home")
        .stdin(Stdio::null())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .expect("there is a shell");
    let mut output = Vec::new();
    reader.read_to_end(&mut output).unwrap();
    let code = child.wait().unwrap().code().expect("not killed by a signal");
    let mut output = String::from_utf8(output).expect("text").replace(&folder.display().to_string(), "[FOLDER]");
    if !output.is_empty() && !output.ends_with('\n') {
        output.push_str("(no newline)");
    }
    let mut lines: Vec<String> = output.lines().map(masked).collect();
    trim(&mut lines);
    (code, lines)
}

/// Masks the parts of a line that depend on the clock or on random numbers.
fn masked(line: &str) -> String {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let mut masked = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let length = rest.find(|c| !part_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let is_now = |moment: Timestamp| moment.duration_since(Timestamp::now()).abs() < NOW;
        let mask = match word.parse::<Timestamp>() {
            Ok(moment) if is_now(moment) => "[NOW]".to_owned(),
            _ => word.split_inclusive(['-', ':', '.']).map(masked_word).collect(),
        };
        // Keeps the columns of a table aligned.
        let width = if after.starts_with("  ") { word.len() } else { 0 };
        masked.push_str(&format!("{mask:<width$}"));
        let gap = after.find(part_of_word).unwrap_or(after.len());
        masked.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    masked
}

fn masked_word(word: &str) -> String {
    let core = word.trim_end_matches(['-', ':', '.']);
    let all = |expected: fn(u8) -> bool| core.bytes().all(expected);
    let is_hex = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let mask = match core.len() {
        26 if all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) => "[ID]",
        32 if all(is_hex) => "[VERSION]",
        64 if all(is_hex) => "[DIGEST]",
        _ => core,
    };
    mask.to_owned() + &word[core.len()..]
}

/// Removes empty lines at the end, which only separate steps.
fn trim(lines: &mut Vec<String>) {
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
}

/// Returns whether printed lines match those of a transcript.
fn matches(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, expected)) if first == "..." => (0..=lines.len()).any(|at| matches(expected, &lines[at..])),
        Some((first, expected)) => {
            lines.split_first().is_some_and(|(line, lines)| fits(first, line) && matches(expected, lines))
        }
    }
}

/// Returns whether a line matches one of a transcript, in which `[..]` stands for any text.
fn fits(expected: &str, line: &str) -> bool {
    match expected.split_once("[..]") {
        None => expected == line,
        Some((before, expected)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(expected, &rest[at..]))
        }),
    }
}

/// Returns the printed lines, with those of the transcript where they still match.
fn keep_matching(expected: &[String], lines: Vec<String>) -> Vec<String> {
    if matches(expected, &lines) {
        return expected.to_vec();
    }
    let mut expected = expected;
    let keep = |line: String| match expected.iter().position(|expected| fits(expected, &line)) {
        Some(at) => {
            let same = expected[at].clone();
            expected = &expected[at + 1..];
            same
        }
        None => line,
    };
    lines.into_iter().map(keep).collect()
}

#[derive(Debug, PartialEq)]
struct Case {
    /// The lines before the first command.
    title: Vec<String>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Step {
    command: Vec<String>,
    code: i32,
    output: Vec<String>,
    /// Comments before the next command.
    after: Vec<String>,
}

impl Case {
    fn parse(text: &str) -> Result<Self, String> {
        let mut case = Self { title: Vec::new(), steps: Vec::new() };
        for line in text.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                case.steps.push(Step { command: vec![command.to_owned()], ..Step::default() });
                continue;
            }
            let Some(step) = case.steps.last_mut() else {
                case.title.push(line.to_owned());
                continue;
            };
            let at_command = step.output.is_empty() && step.code == 0;
            match line.split_at_checked(2) {
                _ if at_command && line == ">" => step.command.push(String::new()),
                Some(("> ", more)) if at_command => step.command.push(more.to_owned()),
                Some(("? ", code)) if at_command => {
                    step.code = code.parse().map_err(|_| format!("no exit code: {line}"))?
                }
                Some(("# ", _)) => step.after.push(line.to_owned()),
                _ if step.after.is_empty() => step.output.push(line.to_owned()),
                _ if line.is_empty() => {}
                _ => return Err(format!("a comment within output, before: {line}")),
            }
        }
        trim(&mut case.title);
        case.steps.iter_mut().for_each(|step| trim(&mut step.output));
        if !case.title.first().is_some_and(|line| line.starts_with("# ")) || case.steps.is_empty() {
            return Err("a case starts with `# ` and a description, and has a command".to_owned());
        }
        Ok(case)
    }

    fn text(&self) -> String {
        let mut blocks = vec![self.title.join("\n")];
        for step in &self.steps {
            let mut lines = vec![format!("$ {}", step.command.join("\n> ").replace("\n> \n", "\n>\n"))];
            lines.extend((step.code != 0).then(|| format!("? {}", step.code)));
            lines.extend(step.output.iter().cloned());
            blocks.push(lines.join("\n"));
            blocks.extend((!step.after.is_empty()).then(|| step.after.join("\n")));
        }
        blocks.join("\n\n") + "\n"
    }
}

#[test]
fn transcript_round_trips() {
    let text =
        "# What it shows.\n\n$ one <<end\n> two\n>\n> end\n? 2\nerror: x\n\n  help: y\n\n# A remark.\n\n$ three\n";
    let case = Case::parse(text).unwrap();
    assert_eq!(case.steps[0].command, ["one <<end", "two", "", "end"]);
    assert_eq!((case.steps[0].code, case.steps[0].output.len(), case.steps[0].after.len()), (2, 3, 1));
    assert_eq!(case.text(), text);
    for bad in ["$ one\n", "# Nothing is shown.\n", "# x\n$ one\n? two\n", "# x\n$ one\na\n# y\nb\n"] {
        assert!(Case::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn output_is_matched_with_its_transcript() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (expected, printed, fit) in [
        ("a\nb", "a\nb", true),
        ("a\nb", "a\nc", false),
        ("a", "a\nb", false),
        ("a\nb", "a", false),
        ("in [..] ms, [..].", "in 12 ms, x.", true),
        ("in [..] ms, [..].", "in 12 s, x.", false),
        ("a\n...\nd", "a\nb\nc\nd", true),
        ("a\n...\nd", "a\nd", true),
        ("a\n...\nd", "a\nb", false),
    ] {
        assert_eq!(matches(&lines(expected), &lines(printed)), fit, "{expected:?} {printed:?}");
    }
    assert_eq!(keep_matching(&lines("took [..]\nold\nend"), lines("took 5 s\nnew\nend")), ["took [..]", "new", "end"]);
}

#[test]
fn only_values_that_vary_are_masked() {
    let (id, digest) = ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "a".repeat(64));
    let line = format!("run {id}: {}, {id}:5:{digest}, sha256:{digest}.", Timestamp::now());
    assert_eq!(masked(&line), "run [ID]: [NOW], [ID]:5:[DIGEST], sha256:[DIGEST].");
    assert_eq!(masked(&format!("{id}  x  {}", "b".repeat(32))), "[ID]                        x  [VERSION]");
    let line = "key-a, 2099-12-01T00:00:00Z, 01ARZ3, `größe`: 64 MiB";
    assert_eq!(masked(line), line);
}
