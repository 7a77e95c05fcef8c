//! Kills while components are compiled, as the program compiles them: in a child process, into the store of compiled code.

use std::process::Child;

use super::*;
use crate::compiler::tangle;

/// How many components a child compiles that nobody kills.
const COMPONENTS: u64 = 4;

/// A component that no other is like, and that takes the compiler a while.
fn component(seed: u64, step: u64) -> Vec<u8> {
    let mut bytes = tangle(6, 60);
    // A custom section: its length, its name's length, its name, and what is in it.
    bytes.extend([0, 18, 1, b'n']);
    bytes.extend([seed.to_le_bytes(), step.to_le_bytes()].concat());
    bytes
}

/// Whether something in the store was not used.
fn distrusts(record: &RunRecord) -> bool {
    record.warnings.iter().any(|warning| warning.contains("compiled"))
}

struct Compiling;

impl Observer for Compiling {
    fn compiling(&self, started: bool) {
        say(if started { "compiling" } else { "compiled" });
    }
}

#[test]
#[ignore = "the child of `a_kill_while_compiling_leaves_a_store_that_serves_and_no_compiler`"]
fn child_that_compiles() {
    let Some((seed, folder)) = told() else { return };
    let folder = Path::new(&folder);
    let home = folder.join("home");
    let audit = Audit::open(&home.join("audit"), SyncMode::Always).unwrap();
    runtime().block_on(async {
        let runner = runner(&home, &audit, ChildCompiler::new(folder.join("compiler")));
        say("opened");
        for step in 0..COMPONENTS {
            let path = folder.join("compiled.wasm");
            std::fs::write(&path, component(seed, step)).unwrap();
            let policy = Arc::new(Policy::parse("version = 1", "test.toml").unwrap());
            let record = runner.run(RunSpec::new(path), policy, Arc::new(Compiling), std::future::pending()).await;
            let record = record.unwrap();
            assert_eq!(record.outcome, Outcome::Finished, "{record:?}");
            assert!(!distrusts(&record), "{record:?}");
            let position = record.audit.unwrap();
            say(&format!("ended {}:{}:{}", position.segment, position.count, position.head));
        }
    });
    audit.close().unwrap();
    say("done");
}

/// The processes that compile for a host, by the path of their program, which is its alone.
fn compilers(host: &Host) -> Vec<String> {
    let program = host.path().join("compiler").display().to_string();
    let listed = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = listed.filter_map(|process| std::fs::read(process.join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.starts_with(&program)).collect()
}

/// Waits for something that is bound to come. False if it does not.
pub(super) fn comes(mut there: impl FnMut() -> bool) -> bool {
    for _ in 0..3_000 {
        if there() {
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
fn a_kill_while_compiling_leaves_a_store_that_serves_and_no_compiler() {
    let host = Host::new();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_strongroom"), host.path().join("compiler")).unwrap();
    let (mut known, mut cut_off, mut last) = (Known::default(), 0, 0);
    let landed = kill("kills::compiling::child_that_compiles", &host, KILLED_COMPILERS, "compiled", |seed, life| {
        check_audit(&host, life, life.said("ended").last().map(|parts| parts[1]));
        assert!(comes(|| compilers(&host).is_empty()), "{:?} after {:?}", compilers(&host), life.words);
        records_after(&host, life, &mut known);
        cut_off += usize::from(life.words.last().is_some_and(|word| word == "compiling"));
        // What was compiled last, and what was being compiled: both serve the next process, and what is in the store is what belongs there.
        let compiled = life.said("compiled").count() as u64;
        for step in compiled.saturating_sub(1)..(compiled + 1).min(COMPONENTS) {
            let path = host.file("again.wasm", component(seed, step));
            let run = host.run(path.to_str().unwrap(), "version = 1", &[]).finished();
            assert!(!distrusts(&run.record), "{:?}", run.record.warnings);
        }
        let stored = files_below(&host.home().join("code")).len();
        assert!(stored > last || compiled == 0, "{stored} files, {last} before");
        last = stored;
    });
    println!("{landed:?}, of which {cut_off} cut the compiler off");
    assert!(cut_off > KILLED_COMPILERS / 8, "only {cut_off} kills fell into compiling");
}

/// A process that waits for the rest of a component for ever, and has nobody any more to give the code to.
// promise: The compiler process ends together with the process that started it.
// attack: resources: outlive the host in its compiler -> the child process ends as soon as nobody
// can receive its code
#[test]
fn a_compiler_ends_when_nobody_is_there_to_take_the_code() {
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
    ends(&mut compiler);
}

#[track_caller]
fn ends(child: &mut Child) {
    let ended = comes(|| child.try_wait().unwrap().is_some());
    if !ended {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(ended, "it is still there");
}

// promise: The compiler process ends together with the process that started it.
// attack: resources: outlive the host in its compiler -> the child process ends as soon as nobody
// can receive its code
#[test]
fn the_compiler_of_a_killed_program_ends_with_it() {
    let host = Host::new();
    let path = host.file("long.wasm", tangle(40, 300));
    let mut program = host.start(path.to_str().unwrap(), "version = 1", &[], &[]);
    let mut children = Vec::new();
    let threads = format!("/proc/{}/task", program.id());
    assert!(comes(|| {
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
    // One that has ended and that nobody has collected has no command line.
    let gone = || std::fs::read(format!("/proc/{compiler}/cmdline")).map_or(true, |line| line.is_empty());
    let ended = comes(gone);
    if !ended {
        let id = rustix::process::Pid::from_raw(compiler.parse().unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
    }
    assert!(ended, "the compiler goes on by itself");
}
