use super::*;
use crate::compile::ChildCompiler;
use crate::engine::{EngineOptions, engine};
use crate::imports::{Entry, Malformed};
use crate::observer::Silent;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

const LONG: Duration = Duration::from_secs(300);

fn component() -> Vec<u8> {
    wat::parse_str(
        r#"(component
            (core module $m (func (export "f") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $train (result u32) (canon lift (core func $i "f")))
            (export "train" (func $train)))"#,
    )
    .unwrap()
}

fn on_demand() -> Engine {
    engine(&EngineOptions { pooling: false, max_runs: 1 }).unwrap()
}

fn loader(store: Option<&Path>) -> Loader {
    Loader::new(on_demand(), Compile::InProcess, store.map(|path| CodeStore::open(path).unwrap()))
}

fn take(loader: &Loader, bytes: Vec<u8>) -> Candidate {
    loader.take(Path::new("test.wasm"), bytes.into()).unwrap()
}

/// Counts how often compiling begins and ends.
#[derive(Default)]
struct Counting {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Counting {
    fn seen(&self) -> (usize, usize) {
        (self.begun.load(Ordering::SeqCst), self.ended.load(Ordering::SeqCst))
    }
}

impl Observer for Counting {
    fn compiling(&self, started: bool) {
        if started { &self.begun } else { &self.ended }.fetch_add(1, Ordering::SeqCst);
    }
}

/// A compiler that appends a line to the file `calls`, then waits for the file `go` before it
/// returns a frame of real code.
struct Slow {
    folder: tempfile::TempDir,
    loader: Loader,
}

impl Slow {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let engine = on_demand();
        let code = engine.precompile_component(&component()).unwrap();
        std::fs::write(path.join("frame"), crate::compile::frame_for_test(&engine, &code)).unwrap();
        let body = format!(
            "echo $$ >>{0}/calls\n/bin/cat >/dev/null\nwhile [ ! -e {0}/go ]; do /bin/sleep 0.01; done\nexec /bin/cat {0}/frame",
            path.display()
        );
        let exe = crate::compile::script_for_test(path, &body);
        let loader = Loader::new(engine, Compile::Child(ChildCompiler::new(exe)), None);
        Self { folder, loader }
    }

    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    async fn called(&self, count: usize) {
        while self.calls().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn go(&self) {
        std::fs::write(self.folder.path().join("go"), "").unwrap();
    }
}

#[tokio::test]
async fn every_kind_of_file_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes).unwrap();
    write("good.wasm", &component());
    write("empty.wasm", b"");
    write("large.wasm", &[0; 2_000]);
    rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    std::os::unix::fs::symlink("loop", path("loop")).unwrap();
    std::os::unix::fs::symlink("good.wasm", path("link.wasm")).unwrap();
    let loader = Loader::with_component_max(on_demand(), Compile::InProcess, None, 1_999);
    let read = async |name: &str| loader.read(&path(name)).await;

    let good = read("good.wasm").await.unwrap();
    assert_eq!((*good.digest(), good.len()), (Digest::of(&component()), component().len() as u64));
    assert_eq!(good.interfaces().entry(), Some(Entry::Train));
    assert!(good.refused().is_empty());
    assert_eq!(read("link.wasm").await.unwrap().digest(), good.digest());
    assert!(matches!(read("empty.wasm").await, Err(LoadError::Malformed { why: Malformed::Empty, .. })));
    let large = read("large.wasm").await.unwrap_err();
    assert!(matches!(large, LoadError::TooLarge { max: 1_999, .. }));
    for name in ["pipe", "."] {
        assert!(matches!(read(name).await, Err(LoadError::NotAFile { .. })), "{name}");
    }
    for name in ["missing.wasm", "good.wasm/inside", "loop", "nul\0"] {
        let error = read(name).await.unwrap_err();
        assert!(matches!(error, LoadError::Unreadable { .. }), "{name:?}: {error}");
        assert!(!error.is_host_fault(), "{name:?}: {error}");
    }
    assert!(matches!(loader.read(&PathBuf::from("/dev/null")).await, Err(LoadError::NotAFile { .. })));
    let text = read("missing.wasm").await.unwrap_err().to_string();
    assert!(text.starts_with("the component `") && text.contains("missing.wasm` cannot be read: "), "{text}");
}

#[tokio::test]
async fn a_component_is_compiled_once_and_then_at_hand() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("code");
    let first = loader(Some(&store));
    let candidate = take(&first, component());
    let watching = Counting::default();
    let loaded = first.compile(&candidate, LONG, &watching).await.unwrap();
    assert_eq!((loaded.digest, loaded.bytes, watching.seen()), (*candidate.digest(), candidate.len(), (1, 1)));
    assert!(loaded.warnings.is_empty());
    first.compile(&candidate, LONG, &watching).await.unwrap();
    let second = loader(Some(&store));
    second.compile(&candidate, LONG, &watching).await.unwrap();
    assert_eq!(watching.seen(), (1, 1), "neither memory nor the store takes a compiler");
}

#[tokio::test]
async fn a_damaged_entry_is_compiled_again_with_a_warning_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("code");
    let candidate = take(&loader(None), component());
    loader(Some(&store)).compile(&candidate, LONG, &Silent).await.unwrap();
    let entry = std::fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let entry = entry.into_iter().find(|path| path.extension().is_some_and(|end| end == "code")).unwrap();
    let mut bytes = std::fs::read(&entry).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&entry, &bytes).unwrap();

    let watching = Counting::default();
    let loaded = loader(Some(&store)).compile(&candidate, LONG, &watching).await.unwrap();
    assert_eq!(watching.seen(), (1, 1));
    assert_eq!(
        loaded.warnings,
        ["the stored code of this component was not used: it is not what this store wrote; it was compiled again"]
    );
    let loaded = loader(Some(&store)).compile(&candidate, LONG, &watching).await.unwrap();
    assert_eq!((watching.seen(), loaded.warnings.len()), ((1, 1), 0));
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("code");
    let loader = loader(Some(&store));
    std::fs::write(&store, "in the way").unwrap();
    let candidate = take(&loader, component());
    let loaded = loader.compile(&candidate, LONG, &Silent).await.unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].starts_with("the compiled code was not kept: "), "{}", loaded.warnings[0]);
}

#[tokio::test]
async fn what_is_wrong_inside_is_found_by_the_compiler_and_escaped() {
    let loader = loader(None);
    // The function leaves nothing on the stack although it returns a number. Inspecting the top
    // level does not detect this.
    let mut bytes = component();
    let at = bytes.windows(4).position(|window| window == [0x04, 0x00, 0x41, 0x00]).unwrap();
    bytes[at + 2] = 0x1a;
    let error = loader.compile(&take(&loader, bytes), LONG, &Silent).await.unwrap_err();
    let CompileError::Invalid(text) = error else { panic!("{error}") };
    assert!(text.starts_with("is not valid: ") && text.ends_with("; copy or build it again"), "{text}");
    assert!(!text.chars().any(char::is_control), "{text}");
}

#[tokio::test]
async fn a_component_that_needs_more_than_the_pool_gives_is_at_fault_itself() {
    let engine = engine(&EngineOptions { pooling: true, max_runs: 1 }).unwrap();
    let loader = Loader::new(engine, Compile::InProcess, None);
    let instances: String = (0..100).map(|_| "(core instance (instantiate $m))").collect();
    let text = String::from_utf8(wasm_text(&instances)).unwrap();
    let error = loader.compile(&take(&loader, wat::parse_str(text).unwrap()), LONG, &Silent).await.unwrap_err();
    assert!(
        matches!(&error, CompileError::Invalid(text) if text.starts_with("needs more than a run may have: ")),
        "{error}"
    );
}

fn wasm_text(more: &str) -> Vec<u8> {
    format!(
        r#"(component
            (core module $m (func (export "f") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            {more}
            (func $train (result u32) (canon lift (core func $i "f")))
            (export "train" (func $train)))"#
    )
    .into_bytes()
}

#[tokio::test]
async fn of_many_runs_one_compiles_and_all_hear_of_it() {
    let slow = Slow::new();
    let candidate = take(&slow.loader, component());
    let watching = Counting::default();
    let all = futures_util::future::join_all((0..100).map(|_| slow.loader.compile(&candidate, LONG, &watching)));
    let release = async {
        slow.called(1).await;
        slow.go();
    };
    let (loaded, ()) = tokio::join!(all, release);
    assert!(loaded.iter().all(Result::is_ok));
    assert_eq!((slow.calls().len(), watching.seen()), (1, (100, 100)));
}

#[tokio::test]
async fn one_that_gives_up_does_not_disturb_the_others() {
    let slow = Slow::new();
    let candidate = take(&slow.loader, component());
    let watching = Counting::default();
    let impatient = slow.loader.compile(&candidate, Duration::from_millis(50), &watching);
    let patient = slow.loader.compile(&candidate, LONG, &Silent);
    let gives_up = async {
        let error = impatient.await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "compiling the component took longer than 50ms; raise `compile-time` in the policy's `[limits]`, or use a smaller component"
        );
        slow.go();
    };
    let ((), loaded) = tokio::join!(gives_up, patient);
    loaded.unwrap();
    assert_eq!(slow.calls().len(), 1);
    assert_eq!(
        watching.begun.load(Ordering::SeqCst),
        watching.ended.load(Ordering::SeqCst),
        "who hears of a beginning hears of an end"
    );
}

#[tokio::test]
async fn when_the_last_one_gives_up_the_compiler_is_killed_and_collected() {
    let slow = Slow::new();
    let candidate = take(&slow.loader, component());
    let mut waiting = Box::pin(slow.loader.compile(&candidate, LONG, &Silent));
    tokio::select! {
        _ = &mut waiting => panic!("nobody let it go on"),
        () = slow.called(1) => {}
    }
    drop(waiting);
    let process = PathBuf::from(format!("/proc/{}", slow.calls()[0]));
    // Loops until the process is neither running nor a zombie.
    while process.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The next run compiles again.
    let again = slow.loader.compile(&candidate, LONG, &Silent);
    let release = async {
        slow.called(2).await;
        slow.go();
    };
    let (loaded, ()) = tokio::join!(again, release);
    loaded.unwrap();
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let slow = Slow::new();
    let candidate = take(&slow.loader, component());
    let frame = slow.folder.path().join("frame");
    let good = std::fs::read(&frame).unwrap();
    std::fs::write(&frame, &good[..good.len() - 1]).unwrap();
    slow.go();
    let error = slow.loader.compile(&candidate, LONG, &Silent).await.unwrap_err();
    assert_eq!(error, CompileError::Host("the compiler process sent no whole code".into()));
    std::fs::write(&frame, good).unwrap();
    slow.loader.compile(&candidate, LONG, &Silent).await.unwrap();
    assert_eq!(slow.calls().len(), 2);
}

#[test]
fn memory_keeps_what_was_used_last() {
    let engine = on_demand();
    let component = Component::from_binary(&engine, &component()).unwrap();
    let mut state = State::default();
    let kept = |n: usize, bytes| Kept {
        digest: Digest::of(&n.to_le_bytes()),
        component: component.clone(),
        linked: Linked::default(),
        bytes,
    };
    for n in 0..KEPT + 1 {
        state.keep(kept(n, 1));
    }
    assert_eq!(state.kept.len(), KEPT);
    assert_eq!(state.kept[0].digest, Digest::of(&1usize.to_le_bytes()));
    state.keep(kept(1, 1));
    assert_eq!((state.kept.len(), state.kept.last().unwrap().digest), (KEPT, Digest::of(&1usize.to_le_bytes())));
    state.keep(kept(1_000, KEPT_BYTES + 1));
    assert_eq!(state.kept.len(), 1, "the one in use stays, however large");
}

// promise: The code that runs always matches the digest of the file that was read for the run.
#[tokio::test]
async fn a_file_that_was_changed_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("component.wasm");
    let loader = loader(None);
    let (first, mut second) = (component(), component());
    // An additional custom section; otherwise the same component.
    second.extend_from_slice(&[0, 2, 1, b'x']);
    for bytes in [&first, &second, &first] {
        std::fs::write(&path, bytes).unwrap();
        for _ in 0..3 {
            let candidate = loader.read(&path).await.unwrap();
            assert_eq!(*candidate.digest(), Digest::of(bytes));
            loader.compile(&candidate, LONG, &Silent).await.unwrap();
        }
    }
}
