use super::*;
use crate::engine::{EngineOptions, engine};
use proptest::prelude::*;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Returns a component with these imports that exports `train`.
fn component(imports: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {imports} {TRAIN})")).unwrap()
}

const TRAIN: &str = r#"
    (core module $m (func (export "f") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $train (result u32) (canon lift (core func $i "f")))
    (export "train" (func $train))"#;

/// Returns a component that exports an empty interface under a name.
fn exporting(name: &str) -> Vec<u8> {
    wat::parse_str(format!(r#"(component (instance $i) (export "{name}" (instance $i)))"#)).unwrap()
}

fn refusals(imports: &str) -> Vec<Refused> {
    refused(&inspect(&component(imports)).unwrap())
}

fn instance(name: &str) -> String {
    format!(r#"(import "{name}" (instance))"#)
}

#[test]
fn non_component_error_names_the_kind_of_file() {
    let core = wat::parse_str("(module)").unwrap();
    let whole = component("");
    let cases: &[(&[u8], &str)] = &[
        (b"", "is empty: build it again"),
        (b"(component)", "is WebAssembly text: make a binary of it with `wasm-tools parse`"),
        (b"\n ;; text\n(module)", "is WebAssembly text: make a binary of it with `wasm-tools parse`"),
        (b"\x7fELF\x02\x01\x01", "is not WebAssembly: give the `.wasm` file that the build made"),
        (b"\0\0\0\0\0\0\0\0\0", "is not WebAssembly: give the `.wasm` file that the build made"),
        (b"\0as", "ends in the middle: it was cut off or damaged, so copy or build it again"),
        (b"\0asm\x0d\0", "ends in the middle: it was cut off or damaged, so copy or build it again"),
        (&whole[..whole.len() - 1], "ends in the middle: it was cut off or damaged, so copy or build it again"),
        (b"\0asm\x0c\0\x01\0", "is encoded in another version of the component format: build it with current tools"),
        (
            &core,
            "is a core WebAssembly module, not a component: build for `wasm32-wasip2`, or wrap it with `wasm-tools component new`",
        ),
        (
            &whole[..8],
            "exports neither `wasi:cli/run@0.2` nor `train`, so there is nothing to run: build a program with `main`, \
                       or export the world `plugin`",
        ),
        (b"\0asm\x0d\0\x01\0\x3f\x01\0", "is damaged: it has a section of an unknown kind; copy or build it again"),
        (
            b"\0asm\x0d\0\x01\0\x0a\x02\x01\x7f",
            "is damaged: invalid leading byte (0x7f) for component name (at offset 0xb); \
                                               copy or build it again",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(inspect(bytes).unwrap_err().to_string(), *expected, "{:?}", bytes.get(..16));
    }
}

#[test]
fn every_truncation_is_an_error() {
    let whole = component(&instance("wasi:io/poll@0.2.0"));
    inspect(&whole).unwrap();
    // After the last required section there is a custom section with names; without it the
    // component is still complete.
    let parts = (0..whole.len()).filter(|end| inspect(&whole[..*end]).is_ok()).count();
    assert!(parts <= 1, "{parts} prefixes pass for whole components");
}

#[test]
fn entry_point_run_takes_precedence_over_train() {
    for name in ["wasi:cli/run@0.2.0", "wasi:cli/run@0.2.6", "wasi:cli/run@0.2.12", "wasi:cli/run@0.2.99"] {
        assert_eq!(inspect(&exporting(name)).unwrap().entry(), Some(Entry::Run(name)));
    }
    assert_eq!(inspect(&component("")).unwrap().entry(), Some(Entry::Train));
    let both = format!(r#"(component {TRAIN} (instance $run) (export "wasi:cli/run@0.2.3" (instance $run)))"#);
    let both = inspect(&wat::parse_str(both).unwrap()).unwrap();
    assert_eq!(both.entry(), Some(Entry::Run("wasi:cli/run@0.2.3")));
    assert_eq!(both.exports.len(), 2);
}

#[test]
fn program_for_another_wasi_is_named_in_the_error() {
    for (name, help) in [
        ("wasi:cli/run@0.3.0", "it needs WASI 0.3, which is not supported yet: build it for WASI 0.2"),
        ("wasi:cli/run@0.2.0-rc-2023-11-10", "build it for `wasm32-wasip2`"),
        ("wasi:cli/run@1.0.0", "build it for `wasm32-wasip2`"),
        ("wasi:http/incoming-handler@0.2.3", "no HTTP handler is called"),
    ] {
        let error = inspect(&exporting(name)).unwrap_err();
        assert_eq!(error, Malformed::NoEntry { other: Some(name.to_owned()) });
        assert!(error.to_string().contains(&format!("but `{name}`: {help}")), "{error}");
    }
    // An interface called `train`, a function called `run`.
    for other in ["train", "run"] {
        assert_eq!(inspect(&exporting(other)).unwrap_err(), Malformed::NoEntry { other: None });
        assert!(inspect_for_world(&exporting(other)).is_ok(), "an embedder's own world knows its entry");
    }
}

#[test]
fn async_abi_is_told_from_damage() {
    let lifted = |options: &str| {
        let text = format!(
            r#"(component
                (core module $m (memory (export "memory") 1) (func (export "f") (result i32) i32.const 0)
                    (func (export "callback") (param i32 i32 i32) (result i32) i32.const 0))
                (core instance $i (instantiate $m))
                (func $train (result u32) (canon lift (core func $i "f") {options}))
                (export "train" (func $train)))"#
        );
        wat::parse_str(text).unwrap()
    };
    let builtin = |canonical: &str| wat::parse_str(format!("(component (core func {canonical}) {TRAIN})")).unwrap();
    for bytes in [
        lifted(r#"async (callback (core func $i "callback"))"#),
        lifted("async"),
        builtin("(canon task.return (result u32))"),
        builtin("(canon backpressure.inc)"),
    ] {
        let error = inspect(&bytes).unwrap_err();
        assert_eq!(error, Malformed::Async);
        assert!(
            error.to_string().starts_with("needs WASI 0.3, which is not supported yet")
                && error.to_string().contains("--sync")
        );
        let interfaces = inspect_for_world(&bytes).unwrap();
        assert_eq!((interfaces.entry(), interfaces.check_entry()), (Some(Entry::Train), Err(Malformed::Async)));
    }
    assert_eq!(inspect(&lifted(r#"(memory (core memory $i "memory"))"#)).unwrap().check_entry(), Ok(()));
}

#[test]
fn contract_and_all_wasi_patches_are_linked() {
    let mut imports = String::new();
    for patch in 0..=TRAINING_PATCH {
        imports.extend(TRAINING.iter().map(|id| instance(&format!("{id}@0.1.{patch}"))));
    }
    for (index, id) in WASI.iter().enumerate() {
        let patch = index as u64 % (WASI_PATCH + 1);
        imports.push_str(&instance(&format!("{id}@0.2.{patch}")));
    }
    assert_eq!(refusals(&imports), []);
    // Linking decides about newer patches.
    for patch in (0..=WASI_PATCH + 1).chain([99, u64::MAX]) {
        let interfaces = inspect(&component(&instance(&format!("wasi:cli/environment@0.2.{patch}")))).unwrap();
        assert_eq!(refused(&interfaces), [], "{patch}");
        assert_eq!(interfaces.newer_import().is_some(), patch > WASI_PATCH, "{patch}");
    }
    for patch in (0..=TRAINING_PATCH + 1).chain([99, u64::MAX]) {
        let name = format!("strongroom:training/context@0.1.{patch}");
        let interfaces = inspect(&component(&instance(&name))).unwrap();
        assert_eq!(refused(&interfaces), [], "{patch}");
        let newer = interfaces.newer_import();
        assert_eq!(newer.is_some(), patch > TRAINING_PATCH, "{patch}");
        let here = format!("`{name}`, but this host has 0.1.{TRAINING_PATCH} of it: ");
        assert!(newer.is_none_or(|newer| newer.contains(&here)), "{patch}");
    }
}

#[test]
fn everything_else_is_refused_by_name_and_all_of_it() {
    let cases = [
        ("wasi:http/outgoing-handler@0.2.0", "no policy can grant HTTP yet"),
        ("wasi:http/types@0.2.6", "no policy can grant HTTP yet"),
        ("wasi:http/client@0.3.0", "it needs WASI 0.3, which is not supported yet"),
        ("wasi:cli/stdout@0.3.0", "it needs WASI 0.3, which is not supported yet"),
        ("wasi:cli/stdout@0.3.0-rc-2025-09-16", "it needs WASI 0.3, which is not supported yet"),
        ("wasi:cli/stdout@0.2.0-rc-2023-11-10", "only released versions of WASI 0.2"),
        ("wasi:cli/stdout@0.2.3+build", "only released versions of WASI 0.2"),
        ("wasi:cli/stdout@0.2.99999999999999999999", "only released versions of WASI 0.2"),
        ("wasi:cli/stdout@1.0.0", "only released versions of WASI 0.2"),
        ("wasi:cli/stdout", "only released versions of WASI 0.2"),
        ("wasi:clocks/timezone@0.2.12", "this part of WASI is not linked"),
        ("wasi:keyvalue/store@0.2.0-draft", "this part of WASI is not linked"),
        ("wasi:cli/run@0.2.0", "this part of WASI is not linked"),
        ("strongroom:training/secrets@0.2.0", "this host has version `0.1.1` of it, not `0.2.0`"),
        ("strongroom:training/secrets@0.1.0-rc", "this host has version `0.1.1` of it, not `0.1.0-rc`"),
        ("strongroom:training/secrets@0.1.99999999999999999999", "this host has version `0.1.1` of it"),
        ("strongroom:training/secrets", "this host has version `0.1.1` of it, not none"),
        ("strongroom:training/admin@0.1.0", "strongroom has no such interface"),
        ("strongroom:vault/operator@0.1.0", "strongroom has no such interface"),
        ("example:host/anything@1.0.0", "it is no interface of strongroom or of WASI 0.2"),
        ("secrets", "it is no interface of strongroom or of WASI 0.2"),
    ];
    let imports: String = cases.iter().map(|(name, _)| instance(name)).collect();
    let imports = format!("{} {imports}", instance("wasi:io/poll@0.2.0"));
    let found = refusals(&imports);
    assert_eq!(found.len(), cases.len(), "all of them, and only them: {found:#?}");
    for (refused, (name, why)) in found.iter().zip(cases) {
        assert_eq!(refused.import, name);
        assert!(refused.why.starts_with(why), "{name}: {}", refused.why);
        assert!(refused.to_string().starts_with(&format!("the import `{name}` is not available: ")));
    }
}

#[test]
fn only_whole_interfaces_are_linked() {
    let found = refusals(
        r#"(import "log" (func (param "text" string)))
           (import "module" (core module))
           (import "component" (component))
           (import "handle" (type (sub resource)))
           (import "wasi:cli/exit@0.2.0" (func))"#,
    );
    let kinds: Vec<_> = found.iter().map(|refused| (refused.import.as_str(), refused.why.as_str())).collect();
    assert_eq!(
        kinds,
        [
            ("log", "a single function is never linked, only whole interfaces"),
            ("module", "a single module is never linked, only whole interfaces"),
            ("component", "a single component is never linked, only whole interfaces"),
            ("handle", "a single resource is never linked, only whole interfaces"),
            ("wasi:cli/exit@0.2.0", "a single function is never linked, only whole interfaces"),
        ]
    );
}

#[test]
fn names_that_only_look_right_are_refused() {
    // Encoded by hand, because no tool produces such names: an import section with one instance
    // import.
    for name in [
        "wasi:cli/exit@0.2.0\n",
        "wasi:cli/exit@0.2.0\u{202e}",
        " wasi:cli/exit@0.2.0",
        "wasi:cli/exit@0.2.00",
        "wasi:cli/exit@0.2.",
    ] {
        let mut bytes = component("");
        let mut section = vec![1, 0, name.len() as u8];
        section.extend(name.as_bytes());
        section.extend([5, 0]);
        bytes.extend([10, section.len() as u8]);
        bytes.extend(section);
        let interfaces = inspect(&bytes).unwrap();
        let found = refused(&interfaces);
        assert_eq!(found.len(), 1, "{name:?}");
        assert!(!found[0].to_string().chars().any(|c| c.is_control() || c == '\u{202e}'), "{name:?}");
    }
}

#[test]
fn items_and_names_are_bounded() {
    let many: String = (0..=ITEMS_MAX).map(|index| instance(&format!("a{index}"))).collect();
    assert_eq!(inspect(&component(&many)).unwrap_err(), Malformed::TooManyItems);
    let long = "a".repeat(NAME_MAX + 1);
    let found = refusals(&instance(&long));
    assert_eq!(found[0].import.chars().count(), NAME_MAX + 1);
    assert!(found[0].import.ends_with('…'));
}

#[test]
fn nested_components_are_not_read() {
    let nested = r#"(component $inner (import "example:nested/thing" (instance)))"#;
    assert_eq!(refusals(nested), []);
}

struct Host {
    table: ResourceTable,
    wasi: WasiCtx,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

fn linker(engine: &Engine) -> Linker<Host> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    linker
}

/// One function or resource of each interface.
const KNOWN: &[(&str, &str)] = &[
    ("wasi:cli/environment", "get-environment"),
    ("wasi:cli/exit", "exit"),
    ("wasi:cli/stderr", "get-stderr"),
    ("wasi:cli/stdin", "get-stdin"),
    ("wasi:cli/stdout", "get-stdout"),
    ("wasi:cli/terminal-input", "terminal-input"),
    ("wasi:cli/terminal-output", "terminal-output"),
    ("wasi:cli/terminal-stderr", "get-terminal-stderr"),
    ("wasi:cli/terminal-stdin", "get-terminal-stdin"),
    ("wasi:cli/terminal-stdout", "get-terminal-stdout"),
    ("wasi:clocks/monotonic-clock", "now"),
    ("wasi:clocks/wall-clock", "now"),
    ("wasi:filesystem/preopens", "get-directories"),
    ("wasi:filesystem/types", "descriptor"),
    ("wasi:io/error", "error"),
    ("wasi:io/poll", "poll"),
    ("wasi:io/streams", "input-stream"),
    ("wasi:random/insecure", "get-insecure-random-bytes"),
    ("wasi:random/insecure-seed", "insecure-seed"),
    ("wasi:random/random", "get-random-bytes"),
    ("wasi:sockets/instance-network", "instance-network"),
    ("wasi:sockets/ip-name-lookup", "resolve-addresses"),
    ("wasi:sockets/network", "network"),
    ("wasi:sockets/tcp", "tcp-socket"),
    ("wasi:sockets/tcp-create-socket", "create-tcp-socket"),
    ("wasi:sockets/udp", "udp-socket"),
    ("wasi:sockets/udp-create-socket", "create-udp-socket"),
];

#[test]
fn engine_links_every_listed_interface_at_the_newest_patch() {
    let engine = engine(&EngineOptions { pooling: false, max_runs: 1 }).unwrap();
    let mut linker = linker(&engine);
    assert!(KNOWN.iter().map(|(id, _)| id).eq(WASI));
    for (id, item) in KNOWN {
        let mut there = |patch: u64| {
            // An item can be defined only once.
            let mut interface = linker.instance(&format!("{id}@0.2.{patch}")).unwrap();
            interface.func_wrap(item, |_, (): ()| Ok(())).is_err()
        };
        assert_eq!((there(WASI_PATCH), there(WASI_PATCH + 1)), (true, false), "{id}");
    }
}

#[test]
fn contract_is_linked_at_the_newest_patch() {
    let engine = engine(&EngineOptions { pooling: false, max_runs: 1 }).unwrap();
    let mut linker = crate::linker::linker(&engine).unwrap();
    for (id, function) in TRAINING.iter().zip(["get-secret", "remaining-time"]) {
        let mut there = |patch: u64| {
            let mut interface = linker.instance(&format!("{id}@0.1.{patch}")).unwrap();
            interface.func_wrap(function, |_, (): ()| Ok(())).is_err()
        };
        assert_eq!((there(TRAINING_PATCH), there(TRAINING_PATCH + 1)), (true, false), "{id}");
    }
}

#[test]
fn type_import_needs_nothing_from_the_host() {
    let bytes = component(r#"(type $text string) (import "text" (type (eq $text)))"#);
    let interfaces = inspect(&bytes).unwrap();
    assert_eq!(interfaces.imports, [Item { name: "text".into(), kind: Kind::Type }]);
    assert_eq!(refused(&interfaces), []);
    let engine = engine(&EngineOptions { pooling: false, max_runs: 1 }).unwrap();
    let component = Component::from_binary(&engine, &bytes).unwrap();
    assert!(linker(&engine).instantiate_pre(&component).is_ok());
}

// attack: resources: be nearly valid, or valid and absurd -> components are parsed within bounds,
// and compiled and run under limits
#[test]
fn component_with_a_section_in_every_byte_is_refused() {
    // Custom sections with an empty name: three bytes each.
    let with = |sections: usize| [b"\0asm\x0d\0\x01\0".as_slice(), &[0, 1, 0].repeat(sections)].concat();
    assert_eq!(inspect_for_world(&with(SECTIONS_MAX)), Ok(Interfaces::default()));
    assert_eq!(inspect_for_world(&with(SECTIONS_MAX + 1)), Err(Malformed::TooManySections));
}

#[test]
fn refusal_of_many_imports_is_short() {
    let many: String = (0..ITEMS_MAX).map(|n| format!("(import \"x{n}\" (func))")).collect();
    let refused = refused(&inspect_for_world(&wat::parse_str(format!("(component {many})")).unwrap()).unwrap());
    assert_eq!(refused.len(), ITEMS_MAX);
    let text = refusal(&refused);
    assert!(text.contains("`x9`") && !text.contains("`x10`") && text.ends_with("; and 990 other imports"), "{text}");
    assert_eq!(refusal(&refused[..1]), refused[0].to_string());
}

proptest! {
    #[test]
    fn inspecting_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = inspect(&bytes);
        let _ = inspect(&[b"\0asm\x0d\0\x01\0".as_slice(), &bytes].concat());
    }

    #[test]
    fn inspecting_a_changed_component_never_panics(at in 0usize..2_000, bit in 0u8..8) {
        let mut bytes = component(&instance("wasi:io/poll@0.2.0"));
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(interfaces) = inspect(&bytes) {
            let _ = refused(&interfaces);
        }
    }
}
