use super::*;
use crate::engine::{EngineOptions, engine};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use wasmtime::Engine;

struct Bench {
    folder: tempfile::TempDir,
    engine: Engine,
    hash: EngineHash,
    component: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let engine = engine(&EngineOptions { pooling: false, max_runs: 1 }).unwrap();
        let component = wat::parse_str(
            r#"(component
                (core module $m
                    (memory (export "memory") 1)
                    (data (i32.const 8) "\2a\00\00\00")
                    (func (export "f") (result i32) (i32.load (i32.const 8))))
                (core instance $i (instantiate $m))
                (func (export "f") (result u32) (canon lift (core func $i "f"))))"#,
        )
        .unwrap();
        Self { folder: tempfile::tempdir().unwrap(), hash: EngineHash::of(&engine), engine, component }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("home/code")
    }

    fn open(&self) -> CodeStore {
        CodeStore::open(&self.path()).unwrap()
    }

    fn code(&self) -> AuthenticatedCode {
        AuthenticatedCode::compile(&self.engine, &self.component).unwrap()
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.component)
    }

    /// Returns a store with one entry, and that entry's file.
    fn filled(&self) -> (CodeStore, PathBuf) {
        let store = self.open();
        store.put(&self.digest(), &self.hash, &self.code()).unwrap();
        (store, self.path().join(name(&self.digest(), &self.hash)))
    }

    fn get(&self, store: &CodeStore) -> StoredCode {
        store.get(&self.digest(), &self.hash)
    }

    fn why(&self, store: &CodeStore) -> String {
        match self.get(store) {
            StoredCode::Unusable(why) => why,
            StoredCode::Absent => "absent".into(),
            StoredCode::Code(_) => "code".into(),
        }
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn stored_code_is_found_by_every_process() {
    let bench = Bench::new();
    let (store, entry) = bench.filled();
    assert_eq!((mode(&bench.path()), mode(&bench.path().join("store.key")), mode(&entry)), (0o700, 0o600, 0o600));
    for store in [store, bench.open()] {
        let StoredCode::Code(code) = bench.get(&store) else { panic!("{}", bench.why(&store)) };
        assert_eq!(code.bytes(), bench.code().bytes());
        assert!(code.is_sealed());
        code.load(&bench.engine).unwrap();
    }
    assert!(matches!(bench.open().get(&Digest::of(b"other"), &bench.hash), StoredCode::Absent));
    let names: Vec<_> = std::fs::read_dir(bench.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing half written stays: {names:?}");
}

/// Runs the component of [`Bench`].
fn answer(engine: &Engine, component: &wasmtime::component::Component) -> u32 {
    let mut store = wasmtime::Store::new(engine, ());
    store.set_epoch_deadline(1);
    let instance = wasmtime::component::Linker::new(engine).instantiate(&mut store, component).unwrap();
    instance.get_typed_func::<(), (u32,)>(&mut store, "f").unwrap().call(&mut store, ()).unwrap().0
}

#[test]
fn code_runs_from_its_sealed_file_and_outlives_entry_and_proof() {
    let bench = Bench::new();
    let (store, entry) = bench.filled();
    let StoredCode::Code(code) = bench.get(&store) else { panic!("{}", bench.why(&store)) };
    let first = code.load(&bench.engine).unwrap();
    std::fs::write(&entry, vec![0; code.len() + HEADER_LEN]).unwrap();
    assert_eq!(answer(&bench.engine, &first), 42);
    let second = code.load(&bench.engine).unwrap();
    drop((code, first));
    assert_eq!(answer(&bench.engine, &second), 42, "the mapping keeps what it maps");
    assert!(matches!(bench.get(&store), StoredCode::Unusable(_)), "the entry itself was changed");
}

#[test]
fn code_without_sealed_file_is_verified_and_loaded_from_memory() {
    let bench = Bench::new();
    let (store, entry) = bench.filled();
    let makes: [MakeFile; 2] = [|| Err(std::io::ErrorKind::Unsupported.into()), tempfile::tempfile];
    let get = |make: MakeFile| store.get_into(&bench.digest(), &bench.hash, make);
    for make in makes {
        let StoredCode::Code(code) = get(make) else { panic!("{}", bench.why(&store)) };
        assert!(!code.is_sealed());
        assert_eq!(code.bytes(), bench.code().bytes());
        assert_eq!(answer(&bench.engine, &code.load(&bench.engine).unwrap()), 42);
    }
    let mut changed = std::fs::read(&entry).unwrap();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    std::fs::write(&entry, changed).unwrap();
    for make in makes {
        assert!(matches!(get(make), StoredCode::Unusable(_)));
    }
}

#[test]
fn code_that_came_from_the_store_is_not_put_there_again() {
    let bench = Bench::new();
    let (store, entry) = bench.filled();
    let StoredCode::Code(code) = bench.get(&store) else { panic!("{}", bench.why(&store)) };
    std::fs::remove_file(&entry).unwrap();
    store.put(&bench.digest(), &bench.hash, &code).unwrap();
    assert!(!entry.exists());
}

#[test]
fn looking_makes_nothing() {
    let bench = Bench::new();
    let store = bench.open();
    assert!(matches!(bench.get(&store), StoredCode::Absent));
    assert!(!bench.folder.path().join("home").exists());
}

// promise: Compiled code is loaded only if its keyed hash matches.
// attack: escape: place machine code in the compiled-code cache, changed, swapped, linked elsewhere
// or of another user -> a keyed hash over the bytes that are loaded from sealed or private memory,
// in a directory of this user alone
#[test]
fn every_flipped_bit_is_noticed() {
    let bench = Bench::new();
    let (store, entry) = bench.filled();
    let whole = std::fs::read(&entry).unwrap();
    // All of the header and the beginning, and a sample of the rest.
    let positions = (0..256).chain((256..whole.len()).step_by(97)).chain([whole.len() - 1]);
    for at in positions {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(&entry, &changed).unwrap();
        assert!(matches!(bench.get(&store), StoredCode::Unusable(_)), "byte {at}");
    }
    std::fs::write(&entry, &whole).unwrap();
    assert!(matches!(bench.get(&store), StoredCode::Code(_)), "the comparison can succeed");
}

#[test]
fn entry_of_changed_length_is_rejected() {
    let bench = Bench::new();
    let (store, entry) = bench.filled();
    let whole = std::fs::read(&entry).unwrap();
    for length in [0, 1, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&entry, &whole[..length]).unwrap();
        assert!(matches!(bench.get(&store), StoredCode::Unusable(_)), "{length} bytes");
    }
    std::fs::write(&entry, [whole, vec![0]].concat()).unwrap();
    assert!(matches!(bench.get(&store), StoredCode::Unusable(_)));
}

// promise: Compiled code is loaded only if its keyed hash matches.
#[test]
fn entry_under_another_name_is_rejected() {
    let bench = Bench::new();
    let (store, entry) = bench.filled();
    let other = Digest::of(b"other");
    std::fs::copy(&entry, bench.path().join(name(&other, &bench.hash))).unwrap();
    assert!(matches!(store.get(&other, &bench.hash), StoredCode::Unusable(_)), "another component");
    let other = EngineHash::of(&Engine::new(wasmtime::Config::new().epoch_interruption(false)).unwrap());
    std::fs::copy(&entry, bench.path().join(name(&bench.digest(), &other))).unwrap();
    assert!(matches!(store.get(&bench.digest(), &other), StoredCode::Unusable(_)), "another engine");
}

// promise: Compiled code is loaded only if its keyed hash matches.
#[test]
fn entry_of_another_key_is_rejected_and_replaced() {
    let bench = Bench::new();
    let (_, entry) = bench.filled();
    std::fs::write(bench.path().join("store.key"), [7; 32]).unwrap();
    let store = bench.open();
    assert!(bench.why(&store).contains("it is not what this store wrote"));
    store.put(&bench.digest(), &bench.hash, &bench.code()).unwrap();
    assert!(matches!(bench.get(&store), StoredCode::Code(_)));
    assert!(entry.exists());
}

// attack: escape: place machine code in the compiled-code cache, changed, swapped, linked elsewhere
// or of another user -> a keyed hash over the bytes that are loaded from sealed or private memory,
// in a directory of this user alone
#[test]
fn link_or_entry_open_to_others_is_replaced() {
    type Damage = fn(&Path);
    let cases: [(Damage, &str); 3] = [
        (
            |entry| {
                let elsewhere = entry.with_extension("moved");
                std::fs::rename(entry, &elsewhere).unwrap();
                symlink(&elsewhere, entry).unwrap();
            },
            "it is a link",
        ),
        (|entry| chmod(entry, 0o644), "other users have access to it"),
        (
            |entry| {
                std::fs::remove_file(entry).unwrap();
                rustix::fs::mknodat(rustix::fs::CWD, entry, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
                    .unwrap();
            },
            "it is no regular file",
        ),
    ];
    for (damage, expected) in cases {
        let bench = Bench::new();
        let (store, entry) = bench.filled();
        damage(&entry);
        assert!(bench.why(&store).contains(expected), "{}", bench.why(&store));
        store.put(&bench.digest(), &bench.hash, &bench.code()).unwrap();
        assert!(matches!(bench.get(&store), StoredCode::Code(_)), "{expected}");
        assert!(std::fs::symlink_metadata(&entry).unwrap().is_file());
    }
}

#[test]
fn folder_or_key_open_to_others_is_refused() {
    type Damage = fn(&Path);
    let cases: [(Damage, &str); 6] = [
        (|path| chmod(path, 0o750), "other users have access to it"),
        (
            |path| {
                std::fs::rename(path, path.with_extension("moved")).unwrap();
                symlink(path.with_extension("moved"), path).unwrap();
            },
            "it is a link or no folder",
        ),
        (
            |path| {
                std::fs::remove_dir_all(path).unwrap();
                std::fs::write(path, "").unwrap();
            },
            "it is a link or no folder",
        ),
        (|path| chmod(&path.join("store.key"), 0o640), "other users have access to it"),
        (|path| std::fs::write(path.join("store.key"), [0; 31]).unwrap(), "it has the wrong length"),
        (
            |path| {
                std::fs::rename(path.join("store.key"), path.join("moved")).unwrap();
                symlink("moved", path.join("store.key")).unwrap();
            },
            "it is a link",
        ),
    ];
    for (damage, expected) in cases {
        let bench = Bench::new();
        bench.filled();
        damage(&bench.path());
        let error = CodeStore::open(&bench.path()).unwrap_err();
        assert!(matches!(&error, StoreError::NotOurs { why, .. } if *why == expected), "{expected}: {error}");
        assert!(error.to_string().ends_with("; remove it, and it is made anew"));
    }
}

// attack: escape: place machine code in the compiled-code cache, changed, swapped, linked elsewhere
// or of another user -> a keyed hash over the bytes that are loaded from sealed or private memory,
// in a directory of this user alone
#[test]
fn folder_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a file away.
        return;
    }
    let bench = Bench::new();
    let (store, entry) = bench.filled();
    std::os::unix::fs::chown(&entry, Some(65534), None).unwrap();
    assert!(bench.why(&store).contains("it belongs to another user"));
    std::os::unix::fs::chown(bench.path(), Some(65534), None).unwrap();
    assert!(CodeStore::open(&bench.path()).unwrap_err().to_string().contains("it belongs to another user"));
}

#[test]
fn least_recently_used_entry_is_removed_first() {
    let bench = Bench::new();
    let code = bench.code();
    let size = (code.len() + HEADER_LEN) as u64;
    let store = bench.open().with_max_bytes(3 * size);
    let digests: Vec<_> = (0..5u8).map(|n| Digest::of(&[n])).collect();
    let put = |at: usize| store.put(&digests[at], &bench.hash, &code).unwrap();
    let have = || -> Vec<usize> {
        let there = |at: &usize| bench.path().join(name(&digests[*at], &bench.hash)).exists();
        (0..digests.len()).filter(there).collect()
    };
    let age = |at: usize, seconds: i64| {
        let file = std::fs::File::open(bench.path().join(name(&digests[at], &bench.hash))).unwrap();
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time }).unwrap();
    };
    for (at, seconds) in [(0, 1_000), (1, 2_000), (2, 3_000)] {
        put(at);
        age(at, seconds);
    }
    assert_eq!(have(), [0, 1, 2]);
    assert!(
        matches!(store.get(&digests[0], &bench.hash), StoredCode::Code(_)),
        "the oldest is used, and so the newest"
    );
    put(3);
    assert_eq!(have(), [0, 2, 3]);
    let small = bench.open().with_max_bytes(size);
    small.put(&digests[4], &bench.hash, &code).unwrap();
    assert_eq!(have(), [4], "the one just written stays");
    bench.open().with_max_bytes(size - 1).put(&digests[0], &bench.hash, &code).unwrap();
    assert_eq!(have(), [4], "one that alone is too large is not kept");
}

#[test]
fn partial_file_of_a_killed_process_is_removed() {
    let bench = Bench::new();
    let (store, _) = bench.filled();
    let (left, held) = (bench.path().join(".partial-left"), bench.path().join(".partial-held"));
    let plant = || {
        for path in [&left, &held] {
            std::fs::write(path, "half").unwrap();
        }
        let file = std::fs::File::open(&held).unwrap();
        file.lock().unwrap();
        file
    };
    // Removed when the next entry is written, and when the next process opens the store.
    let writer = plant();
    store.put(&bench.digest(), &bench.hash, &bench.code()).unwrap();
    assert!(!left.exists() && held.exists());
    drop(writer);
    let writer = plant();
    assert!(matches!(bench.get(&bench.open()), StoredCode::Code(_)));
    assert!(!left.exists() && held.exists());
    drop(writer);
    bench.open();
    assert!(!held.exists());
}

#[test]
fn many_at_once_agree_on_a_key() {
    let bench = Bench::new();
    let code = bench.code();
    std::thread::scope(|scope| {
        for n in 0..8u8 {
            let (bench, code) = (&bench, &code);
            scope.spawn(move || bench.open().put(&Digest::of(&[n]), &bench.hash, code).unwrap());
        }
    });
    let store = bench.open();
    for n in 0..8u8 {
        assert!(matches!(store.get(&Digest::of(&[n]), &bench.hash), StoredCode::Code(_)), "{n}");
    }
}
