//! `strongroom run` as a process, compared with `wasmtime run`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use strongroom::record::RunRecord;
use strongroom::runtime::{EngineOptions, engine};

use crate::Size;
use crate::guests::{cargo, guest, project, target};
use crate::table::{Measurement, row, shown, take_turns, turn};

/// The version of wasmtime's own program to compare with: that of the engine in use.
const VERSION: &str = "48.0.8";

/// The argument that makes this program a minimal one around raw wasmtime.
pub(crate) const RAW: &str = "run-stored";

pub(crate) fn measure(size: Size) {
    let guests = target().join("guests");
    cargo(
        &project().join("guest-example/rust"),
        &["--target", "wasm32-wasip2", "--bin", "training-example"],
        &guests,
        "",
    );
    let component = guests.join("wasm32-wasip2/release/training-example.wasm");
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("config.toml"), "[audit]\nsync = \"os\"\n").unwrap();
    strongroom(&home, &["init"]);
    let component_path = component.to_str().unwrap();
    // `--help`, because the example has to do the same in both, and wasmtime's program cannot
    // provide secrets.
    let arguments = ["run", component_path, "--", "--help"];
    // The first run compiles and stores the code.
    strongroom(&home, &arguments);
    let (rounds, count) = (size.choose(40, 1), size.choose(5, 1));
    let ours = |count: usize| (0..count).for_each(|_| strongroom(&home, &arguments));
    // A minimal program around raw wasmtime: this one with that argument.
    let stored = folder.path().join("example.code");
    let engine = engine(&EngineOptions::default()).unwrap();
    std::fs::write(&stored, engine.precompile_component(&std::fs::read(&component).unwrap()).unwrap()).unwrap();
    let least = |count: usize| {
        for _ in 0..count {
            let mut command = Command::new(std::env::current_exe().unwrap());
            finish(command.arg(RAW).arg(&stored).arg("--help"));
        }
    };
    let [ours, least, empty] = take_turns(
        [
            turn("strongroom run", ours),
            turn("a program around raw wasmtime, stored code", least),
            turn("starting a process that does nothing", |count| {
                (0..count).for_each(|_| finish(&mut Command::new("true")))
            }),
        ],
        rounds,
        count,
    );
    [&ours, &least, &empty].iter().for_each(|taken| taken.show());
    compare("strongroom / a program around raw wasmtime", &ours, &least);
    phases(&home, &component);
    match wasmtime() {
        Ok(program) => {
            // It cannot provide the example's imports, and replacing them by traps also replaces
            // WASI's. So a program without them is used.
            let (empty, code) = (guest("empty", size), folder.path().join("empty.cwasm"));
            let made = Command::new(&program).arg("compile").arg(&empty).arg("-o").arg(&code).status().unwrap();
            assert!(made.success(), "wasmtime compiles the program");
            let plain = |count: usize| {
                for _ in 0..count {
                    finish(Command::new(&program).args(["run", "--allow-precompiled"]).arg(&code));
                }
            };
            let arguments = ["run", empty.to_str().unwrap()];
            strongroom(&home, &arguments);
            let ours = |count: usize| (0..count).for_each(|_| strongroom(&home, &arguments));
            let [plain, ours] = take_turns(
                [
                    turn(format!("wasmtime run {VERSION} of an empty program, precompiled"), plain),
                    turn("strongroom run", ours),
                ],
                rounds,
                count,
            );
            plain.show();
            ours.show();
            compare("strongroom / wasmtime", &ours, &plain);
        }
        Err(why) => row("wasmtime run", &why),
    }
}

/// Prints the phases of a run in its own process, as `--timings` reports them, from the fastest of
/// several runs. The start and end of the process are not included.
fn phases(home: &Path, component: &Path) {
    let timings = || {
        let mut command = command(home, &["run", "--json", "--timings", component.to_str().unwrap(), "--", "--help"]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let record: RunRecord = serde_json::from_slice(&output.stdout).unwrap();
        record.timings.unwrap().stages()
    };
    let least = (0..10).map(|_| timings()).min_by_key(|stages| stages.iter().map(|(_, nanos)| nanos).sum::<u64>());
    for (stage, nanos) in least.unwrap() {
        row(&format!("  of the run, {stage}"), &shown(Duration::from_nanos(nanos)));
    }
}

fn compare(what: &str, ours: &Measurement, plain: &Measurement) {
    for (which, ours, plain) in [("fastest", ours.fastest, plain.fastest), ("in the middle", ours.middle, plain.middle)]
    {
        let target = plain.mul_f64(1.2).max(plain + Duration::from_millis(5));
        let verdict = if ours <= target { "" } else { ", missed" };
        let (times, more) = (ours.as_secs_f64() / plain.as_secs_f64(), shown(ours.saturating_sub(plain)));
        row(&format!("{what}, {which}"), &format!("{times:.2}, {more} more (target {}{verdict})", shown(target)));
    }
}

fn strongroom(home: &Path, arguments: &[&str]) {
    finish(&mut command(home, arguments));
}

fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(arguments).env("STRONGROOM_HOME", home).env("STRONGROOM_CONFIG", home.join("config.toml"));
    command
}

fn finish(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Finds wasmtime's own program through the variable `WASMTIME` or the search path, or returns why
/// there is none.
fn wasmtime() -> Result<PathBuf, String> {
    let program = PathBuf::from(std::env::var_os("WASMTIME").unwrap_or_else(|| "wasmtime".into()));
    let Ok(output) = Command::new(&program).arg("--version").output() else {
        return Err(format!(
            "not compared: no `wasmtime` in PATH (`cargo install wasmtime-cli --version {VERSION}`, or WASMTIME=FILE)"
        ));
    };
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    if version.split_whitespace().any(|word| word == VERSION) {
        Ok(program)
    } else {
        Err(format!("not compared: `{}` is {}, not {VERSION}", program.display(), version.trim()))
    }
}
