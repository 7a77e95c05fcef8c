//! A component of 18 MB: a packed Python interpreter, if one can be packed.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use strongroom::audit::SyncMode;
use strongroom::runtime::wasmtime::component::Component;
use strongroom::runtime::{CodeStore, Compile, EngineOptions, Loader, Silent, engine};

use crate::Size;
use crate::guests::settle;
use crate::host::{Host, policy, runtime};
use crate::packed::{Train, packed};
use crate::raw::Raw;
use crate::table::{Measurement, ratio, row, shown, take_turns, turn};

pub(crate) fn measure(size: Size) {
    let component = packed(size, Train::Nothing);
    let bytes = std::fs::metadata(&component).unwrap().len();
    row("the component", &megabytes(bytes));
    loading(size, &component);
    settle(&component, size);
    running(size, &component);
}

fn loading(size: Size, component: &Path) {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("code");
    let engine = engine(&EngineOptions::default()).unwrap();
    // As in a new process, whose loader has nothing cached. Both phases are measured separately.
    let phases = RefCell::new((Vec::new(), Vec::new()));
    let load = || {
        let loader = Loader::new(engine.clone(), Compile::InProcess, Some(CodeStore::open(&store).unwrap()));
        runtime.block_on(async {
            let started = Instant::now();
            let candidate = loader.read(component).await.unwrap();
            let read = started.elapsed();
            let loaded = loader.compile(&candidate, Duration::from_secs(600), &Silent).await.unwrap();
            let mut phases = phases.borrow_mut();
            phases.0.push(read);
            phases.1.push(started.elapsed() - read);
            loaded.component
        })
    };
    let started = Instant::now();
    let code = engine.precompile_component(&std::fs::read(component).unwrap()).unwrap();
    row("compiled by raw wasmtime", &shown(started.elapsed()));
    row("its code", &megabytes(code.len() as u64));
    let started = Instant::now();
    drop(load());
    row("read, digested, compiled, stored and loaded by strongroom", &shown(started.elapsed()));
    // The phases of that step are not those of loading.
    phases.take();
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
        size.choose(20, 1),
        1,
    );
    plain.show();
    ours.show();
    let (read, load) = phases.take();
    Measurement::new("  of it, the component read and digested", read).show();
    Measurement::new("  of it, its code looked up, copied, checked and mapped", load).show();
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[allow(unsafe_code, reason = "the file was made a moment ago in a folder of this program's alone")]
pub(crate) fn deserialize(engine: &strongroom::runtime::wasmtime::Engine, file: &Path) -> Component {
    // SAFETY: `precompile_component` of this engine created the bytes, and no other process can
    // write to the file.
    unsafe { Component::deserialize_file(engine, file) }.unwrap()
}

fn running(size: Size, component: &Path) {
    let runtime = runtime();
    let (host, raw) = (Host::new(&runtime, SyncMode::Os), Raw::new(&runtime));
    let policy = policy("");
    // Two runs: the first compiles, the second recognizes the file.
    (0..2).for_each(|_| drop(host.run(component, &policy, &[])));
    let plain = raw.ready_plugin(component);
    let [plain, ours] = take_turns(
        [
            turn("warm run by raw wasmtime", |count| (0..count).for_each(|_| plain.run())),
            turn("warm run by strongroom", |count| (0..count).for_each(|_| drop(host.run(component, &policy, &[])))),
        ],
        size.choose(60, 1),
        size.choose(5, 1),
    );
    plain.show();
    ours.show();
    ratio("warm run: strongroom / raw", ours.fastest, plain.fastest, 1.1);
    ratio("in the middle", ours.middle, plain.middle, 1.1);
}
