//! Large components: packed Python with a program, or a generated component if Python cannot be
//! packed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Size;
use crate::guests::{project, target};
use crate::table::row;

/// The tool that packs Python, in a fixed version so that figures are comparable.
const PACKER: &str = "componentize-py==0.25.0";

/// What a component's `train` does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Train {
    /// Nothing.
    Nothing,
    /// Reads one secret, for which the benchmark's vault waits.
    Park,
}

impl Train {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Park => "park",
        }
    }

    fn python(self) -> &'static str {
        match self {
            Self::Nothing => "class WitWorld:\n    def train(self) -> None:\n        pass\n",
            Self::Park => {
                "from wit_world.imports import secrets\n\n\nclass WitWorld:\n    def train(self) -> None:\n        secrets.get_secret(\"parked\")\n"
            }
        }
    }
}

/// Returns a component to measure: packed Python if available, otherwise a generated one.
pub(crate) fn packed(size: Size, train: Train) -> PathBuf {
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).unwrap();
    if size == Size::Whole {
        match python(&folder, train) {
            Ok(path) => return path,
            Err(why) => row("Python is not measured, but made-up functions", &why),
        }
    }
    let path = folder.join(format!("made-up-{}-{}.wasm", train.name(), size.choose(18, 1)));
    if !path.exists() {
        std::fs::write(&path, generated(size.choose(18_000, 400), train)).unwrap();
    }
    path
}

/// Packs a Python program.
fn python(folder: &Path, train: Train) -> Result<PathBuf, String> {
    let (name, packed) = (train.name(), format!("python-{}.wasm", train.name()));
    let made = folder.join(&packed);
    if made.exists() {
        return Ok(made);
    }
    let environment = folder.join("python");
    let run = |program: &Path, arguments: &[&str]| match Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
    {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{} failed: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()
        )),
        Err(error) => Err(format!("{} cannot be started: {error}", program.display())),
    };
    run(Path::new("python3"), &["-m", "venv", "python"])?;
    run(&environment.join("bin/pip"), &["install", "--quiet", PACKER])?;
    std::fs::write(folder.join(name).with_extension("py"), train.python()).unwrap();
    let wit = project().join("wit");
    run(
        &environment.join("bin/componentize-py"),
        &["-d", wit.to_str().unwrap(), "-w", "plugin", "componentize", name, "-o", &packed],
    )?;
    Ok(made)
}

/// Generates a component with `functions` functions of about 1 KB, which exports `train`.
fn generated(functions: usize, train: Train) -> Vec<u8> {
    let (before, imports, call, given) = match train {
        Train::Nothing => ("", "(memory (export \"memory\") 1)", "", ""),
        Train::Park => (
            PARKING,
            "(import \"libc\" \"memory\" (memory 1)) (import \"host\" \"get\" (func $get (param i32 i32 i32)))
             (export \"memory\" (memory 0))",
            "(call $get (i32.const 0) (i32.const 6) (i32.const 32))",
            "(with \"libc\" (instance $libc)) (with \"host\" (instance (export \"get\" (func $get))))",
        ),
    };
    let mut text = format!("(component {before} (core module $m {imports}\n");
    for n in 0..functions {
        write!(text, "(func (param i32) (result i32) local.get 0").unwrap();
        for step in 0..100 {
            write!(text, " i32.const {} i32.xor i32.const {} i32.mul", n * 101 + step, n + step * 7).unwrap();
        }
        text.push_str(")\n");
    }
    write!(
        text,
        "(func (export \"train\") (result i32) {call} i32.const 16))
         (core instance $i (instantiate $m {given}))
         (func $train (result (result (error string)))
             (canon lift (core func $i \"train\") (memory (core memory $i \"memory\"))))
         (export \"train\" (func $train)))"
    )
    .unwrap();
    wat::parse_str(&text).unwrap()
}

/// The imports and memory for reading the secret `parked`, whose name is at the start of the
/// memory.
const PARKING: &str = include_str!("../../../../tests/guests/fragments/get-secret.wat");
