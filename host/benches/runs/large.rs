//! A component of 18 MB: a packed Python interpreter, where one can be packed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use strongroom::audit::SyncMode;
use strongroom::runtime::wasmtime::component::Component;
use strongroom::runtime::{CodeStore, Compile, EngineOptions, Loader, Silent, engine};

use crate::Size;
use crate::guests::{project, target};
use crate::host::{Host, policy, runtime};
use crate::raw::Raw;
use crate::table::{ratio, row, shown, take_turns, turn};

/// What packs Python; of this version, so that the figures can be compared.
const PACKER: &str = "componentize-py==0.25.0";

pub(crate) fn measure(size: Size) {
    let component = component(size);
    let bytes = std::fs::metadata(&component).unwrap().len();
    row("the component", &format!("{:.1} MB", bytes as f64 / 1e6));
    loading(size, &component);
    running(size, &component);
}

fn loading(size: Size, component: &Path) {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("code");
    let engine = engine(&EngineOptions::default()).unwrap();
    // What a new process does: an engine's loader knows nothing.
    let load = || {
        let loader = Loader::new(engine.clone(), Compile::InProcess, Some(CodeStore::open(&store).unwrap()));
        runtime.block_on(async {
            let candidate = loader.read(component).await.unwrap();
            loader.compile(&candidate, Duration::from_secs(600), &Silent).await.unwrap().component
        })
    };
    let begun = Instant::now();
    let code = engine.precompile_component(&std::fs::read(component).unwrap()).unwrap();
    row("compiled by raw wasmtime", &shown(begun.elapsed()));
    let begun = Instant::now();
    drop(load());
    row("read, digested, compiled, stored and loaded by strongroom", &shown(begun.elapsed()));
    let plain = folder.path().join("plain.cwasm");
    std::fs::write(&plain, code).unwrap();
    let [plain, ours] = take_turns(
        [
            turn("loaded by raw wasmtime, unchecked, from its file", |count| {
                (0..count).for_each(|_| drop(deserialize(&engine, &plain)));
            }),
            turn("read, digested, looked up, checked and loaded by strongroom", |count| {
                (0..count).for_each(|_| drop(load()))
            }),
        ],
        size.of(20, 1),
        1,
    );
    plain.show();
    ours.show();
}

#[allow(unsafe_code, reason = "the file was made a moment ago in a folder of this program's alone")]
pub(crate) fn deserialize(engine: &strongroom::runtime::wasmtime::Engine, file: &Path) -> Component {
    // SAFETY: `precompile_component` of this engine made the bytes, and nobody else can write where they lie.
    unsafe { Component::deserialize_file(engine, file) }.unwrap()
}

fn running(size: Size, component: &Path) {
    let runtime = runtime();
    let (host, raw) = (Host::new(&runtime, SyncMode::Os), Raw::new(&runtime));
    let policy = policy("");
    // Two runs: the first compiles, the second remembers the file.
    (0..2).for_each(|_| drop(host.run(component, &policy, &[])));
    let plain = raw.ready_plugin(component);
    let [plain, ours] = take_turns(
        [
            turn("warm run by raw wasmtime", |count| (0..count).for_each(|_| plain.run())),
            turn("warm run by strongroom", |count| (0..count).for_each(|_| drop(host.run(component, &policy, &[])))),
        ],
        size.of(60, 1),
        size.of(5, 1),
    );
    plain.show();
    ours.show();
    ratio("warm run: strongroom / raw", ours.fastest, plain.fastest, 1.1);
    ratio("in the middle", ours.middle, plain.middle, 1.1);
}

/// The component to measure: Python for figures, where it can be had, and else one that is made up.
fn component(size: Size) -> PathBuf {
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).unwrap();
    if size == Size::Whole {
        match python(&folder) {
            Ok(path) => return path,
            Err(why) => row("Python is not measured, but made-up functions", &why),
        }
    }
    let path = folder.join(format!("made-up-{}.wasm", size.of(18, 1)));
    if !path.exists() {
        std::fs::write(&path, made_up(size.of(18_000, 400))).unwrap();
    }
    path
}

/// Packs a program in Python.
fn python(folder: &Path) -> Result<PathBuf, String> {
    let packed = folder.join("python.wasm");
    if packed.exists() {
        return Ok(packed);
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
    let app = "class WitWorld:\n    def train(self) -> None:\n        pass\n";
    std::fs::write(folder.join("app.py"), app).unwrap();
    let wit = project().join("wit");
    run(
        &environment.join("bin/componentize-py"),
        &["-d", wit.to_str().unwrap(), "-w", "plugin", "componentize", "app", "-o", "python.wasm"],
    )?;
    Ok(packed)
}

/// A component of so many functions of about 1 KB, which exports `train`.
fn made_up(functions: usize) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut text = "(component (core module $m (memory (export \"memory\") 1)\n".to_owned();
    for n in 0..functions {
        write!(text, "(func (param i32) (result i32) local.get 0").unwrap();
        for step in 0..100 {
            write!(text, " i32.const {} i32.xor i32.const {} i32.mul", n * 101 + step, n + step * 7).unwrap();
        }
        text.push_str(")\n");
    }
    text.push_str("(func (export \"train\") (result i32) i32.const 16))\n");
    text.push_str("(core instance $i (instantiate $m))\n");
    text.push_str(
        "(func $train (result (result (error string))) (canon lift (core func $i \"train\") (memory (core memory $i \"memory\"))))\n",
    );
    text.push_str("(export \"train\" (func $train)))");
    wat::parse_str(&text).unwrap()
}
