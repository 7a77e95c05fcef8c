//! Kills while components are compiled as the program does it: in a child process and into the
//! compiled-code cache.

use std::process::Child;

use super::*;
use crate::compiler::tangle;

/// The number of components that a child compiles if it is not killed.
const COMPONENTS: u64 = 4;

/// Returns a unique component that takes a while to compile.
fn component(seed: u64, step: u64) -> Vec<u8> {
    let mut bytes = tangle(6, 60);
    // A custom section: its length, the length of its name, its name, and its content.
    bytes.extend([0, 18, 1, b'n']);
    bytes.extend([seed.to_le_bytes(), step.to_le_bytes()].concat());
    bytes
}

/// Returns whether an entry of the cache was rejected.
fn rejected_entry(record: &RunRecord) -> bool {
    record.warnings.iter().any(|warning| warning.contains("compiled"))
}

struct Compiling;

impl Observer for Compiling {
    fn compiling(&self, started: bool) {
        report(if started { "compiling" } else { "compiled" });
    }
}

#[test]
#[ignore = "the child of `kill_during_compilation_leaves_a_usable_cache`"]
fn child_that_compiles() {
    let Some((seed, folder)) = instructions() else { return };
    let folder = Path::new(&folder);
    let home = folder.join("home");
    let audit = Audit::open(&home.join("audit"), SyncMode::Always).unwrap();
    runtime().block_on(async {
        let runner = runner(&home, &audit, ChildCompiler::new(folder.join("compiler")));
        report("opened");
        for step in 0..COMPONENTS {
            let path = folder.join("compiled.wasm");
            std::fs::write(&path, component(seed, step)).unwrap();
            let policy = Arc::new(Policy::parse("version = 1", "test.toml").unwrap());
            let record = runner.run(RunSpec::new(path), policy, Arc::new(Compiling), std::future::pending()).await;
            let record = record.unwrap();
            assert_eq!(record.outcome, Outcome::Finished, "{record:?}");
            assert!(!rejected_entry(&record), "{record:?}");
            let position = record.audit.unwrap();
            report(&format!("ended {}:{}:{}", position.segment, position.count, position.head));
        }
    });
    audit.close().unwrap();
    report("done");
}

/// Returns the compiler processes of a host, recognized by the path of their program, which only
/// this host uses.
fn compilers(host: &Host) -> Vec<String> {
    let program = host.path().join("compiler").display().to_string();
    let listed = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = listed.filter_map(|process| std::fs::read(process.join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.starts_with(&program)).collect()
}

/// Waits until a condition holds. Returns false if it does not within a minute.
pub(super) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..3_000 {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

// promise: A kill during compilation leaves a usable compiled-code cache.
// promise: After a kill at any moment acknowledged data is present, the audit log verifies, every
// run has a record, and no staging directory or compiler process is left.
#[test]
fn kill_during_compilation_leaves_a_usable_cache() {
    let host = Host::new();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_strongroom"), host.path().join("compiler")).unwrap();
    let (mut seen, mut interrupted, mut last) = (SeenRuns::default(), 0, 0);
    let landed = kill("kills::compiling::child_that_compiles", &host, KILLED_COMPILERS, "compiled", |seed, child| {
        check_audit(&host, child, child.reports_of("ended").last().map(|parts| parts[1]));
        assert!(eventually(|| compilers(&host).is_empty()), "{:?} after {:?}", compilers(&host), child.reports);
        records_after(&host, child, &mut seen);
        interrupted += usize::from(child.reports.last().is_some_and(|report| report == "compiling"));
        // The last compiled component, and the one being compiled, both run in the next process,
        // and their cache entries are valid.
        let compiled = child.reports_of("compiled").count() as u64;
        for step in compiled.saturating_sub(1)..(compiled + 1).min(COMPONENTS) {
            let path = host.file("again.wasm", component(seed, step));
            let run = host.run(path.to_str().unwrap(), "version = 1", &[]).finished();
            assert!(!rejected_entry(&run.record), "{:?}", run.record.warnings);
        }
        let stored = files_below(&host.home().join("code")).len();
        assert!(stored > last || compiled == 0, "{stored} files, {last} before");
        last = stored;
    });
    println!("{landed:?}, of which {interrupted} interrupted the compiler");
    assert!(interrupted > KILLED_COMPILERS / 8, "only {interrupted} kills interrupted the compiler");
}

/// The compiler waits for the rest of a component, and no process can receive its code any more.
// promise: The compiler process ends together with the process that started it.
// attack: resources: outlive the host in its compiler -> the child process ends as soon as no
// process can receive its code
#[test]
fn compiler_ends_when_its_output_is_closed() {
    let limits = [(1_u64 << 31).to_string(), "600".to_owned(), "1".to_owned()];
    let mut compiler = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .arg("__compile")
        .args(limits)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    compiler.stdin.as_ref().unwrap().write_all(&component(0, 0)[..100]).unwrap();
    drop(compiler.stdout.take());
    assert_ends(&mut compiler);
}

#[track_caller]
fn assert_ends(child: &mut Child) {
    let ended = eventually(|| child.try_wait().unwrap().is_some());
    if !ended {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(ended, "the compiler is still running");
}

// promise: The compiler process ends together with the process that started it.
// attack: resources: outlive the host in its compiler -> the child process ends as soon as no
// process can receive its code
#[test]
fn compiler_of_a_killed_program_ends() {
    let host = Host::new();
    let path = host.file("long.wasm", tangle(40, 300));
    let mut program = host.start(path.to_str().unwrap(), "version = 1", &[], &[]);
    let mut children = Vec::new();
    let threads = format!("/proc/{}/task", program.id());
    assert!(eventually(|| {
        let listed = std::fs::read_dir(&threads).unwrap().map(|thread| thread.unwrap().path().join("children"));
        children = listed
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .flat_map(|text| text.split(' ').filter(|id| !id.is_empty()).map(str::to_owned).collect::<Vec<_>>())
            .filter(|id| {
                std::fs::read(format!("/proc/{id}/cmdline"))
                    .is_ok_and(|line| line.windows(9).any(|part| part == b"__compile"))
            })
            .collect();
        !children.is_empty()
    }));
    let [compiler] = children.as_slice() else { panic!("{children:?}") };
    program.kill().unwrap();
    program.wait().unwrap();
    // A zombie process has an empty command line.
    let gone = || std::fs::read(format!("/proc/{compiler}/cmdline")).map_or(true, |line| line.is_empty());
    let ended = eventually(gone);
    if !ended {
        let id = rustix::process::Pid::from_raw(compiler.parse().unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
    }
    assert!(ended, "the compiler outlived the program");
}
