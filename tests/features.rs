//! Disabled WebAssembly features, and names in a component that are expensive or dangerous to
//! format.

use strongroom::record::{Blame, Outcome};

use crate::support::Host;

/// Returns a component whose core module has these fields, a memory, and a `train` with this body.
fn component(imports: &str, fields: &str, body: &str, instantiate: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            {imports}
            (core module $m
                {fields}
                (func (export "train") (result i32) {body} (i32.const 0)))
            (core instance $i (instantiate $m {instantiate}))
            (func $train (result (result (error string)))
                (canon lift (core func $i "train") (memory (core memory $i "memory"))))
            (export "train" (func $train)))"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn component_with_disabled_feature_is_refused_by_name() {
    let host = Host::new();
    let memory = r#"(memory (export "memory") 1)"#;
    let cases = [
        // A call through a table of a declared subtype reaches `unreachable!()` in wasmtime 48.0.8
        // (RUSTSEC-2026-0570).
        (
            "(gc)",
            component(
                "",
                &format!(
                    "(type $super (sub (func))) (type $sub (sub $super (func))) {memory}
                     (table 1 funcref) (elem (i32.const 0) func $f) (func $f (type $sub))"
                ),
                "(call_indirect (type $super) (i32.const 0))",
                "",
            ),
        ),
        ("(tail-call)", component("", &format!("{memory} (func $f (return_call $f))"), "", "")),
        ("(threads)", component("", &format!("{memory} (memory 1 1 shared)"), "", "")),
        ("(exceptions)", component("", &format!("{memory} (tag $e)"), "(throw $e)", "")),
        ("(memory64)", component("", &format!("{memory} (memory i64 1)"), "", "")),
    ];
    for (name, bytes) in cases {
        host.file("feature.wasm", bytes);
        let message = host.fails(2, &["run", "feature.wasm"]);
        assert!(
            message.contains("uses WebAssembly features that this host disables") && message.contains(name),
            "{message}"
        );
    }
    host.assert_audit_intact();
}

#[test]
fn composed_component_runs() {
    let host = Host::new();
    let composed = r#"(component
        (component $inner
            (core module $m (memory (export "memory") 1)
                (func (export "echo") (param i32 i32) (result i32)
                    (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64)))
            (core instance $i (instantiate $m))
            (func (export "echo") (param "text" string) (result string)
                (canon lift (core func $i "echo") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
        (instance $inner (instantiate $inner))
        (component $outer
            (import "echo" (func $echo (param "text" string) (result string)))
            (core module $libc (memory (export "memory") 1) (data (i32.const 0) "hello")
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 128)))
            (core instance $libc (instantiate $libc))
            (core func $echo (canon lower (func $echo)
                (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
            (core module $m
                (import "libc" "memory" (memory 1)) (import "host" "echo" (func $echo (param i32 i32 i32)))
                (func (export "train") (result i32)
                    (call $echo (i32.const 0) (i32.const 5) (i32.const 32))
                    (if (i32.ne (i32.load (i32.const 36)) (i32.const 5)) (then (unreachable)))
                    (i32.const 512)))
            (core instance $i (instantiate $m
                (with "libc" (instance $libc)) (with "host" (instance (export "echo" (func $echo))))))
            (func (export "train") (result (result (error string)))
                (canon lift (core func $i "train") (memory (core memory $libc "memory")))))
        (instance $outer (instantiate $outer (with "echo" (func $inner "echo"))))
        (export "train" (func $outer "train")))"#;
    host.file("composed.wasm", wat::parse_str(composed).unwrap());
    host.run(host.path().join("composed.wasm").to_str().unwrap(), "version = 1", &[]).finished();
}

/// The import of `get-secret`, lowered with its own memory, for a module that passes invalid
/// pointers to it.
const GET_SECRET: &str = include_str!("guests/fragments/get-secret.wat");

/// Returns a component whose function `name` calls itself 20 times and then passes `get-secret` a
/// pointer outside its memory.
fn invalid_pointer_in(name: &str) -> Vec<u8> {
    component(
        GET_SECRET,
        &format!(
            r#"(import "host" "get" (func $get (param i32 i32 i32))) (memory (export "memory") 1)
               (func $"{name}" (param i32)
                   (if (local.get 0)
                       (then (call $"{name}" (i32.sub (local.get 0) (i32.const 1))))
                       (else (call $get (i32.const -16) (i32.const 1024) (i32.const 32)))))"#
        ),
        &format!(r#"(call $"{name}" (i32.const 20))"#),
        r#"(with "host" (instance (export "get" (func $get))))"#,
    )
}

/// Returns a mangled C++ function whose parameters each double in length when they are demangled.
fn exponential_symbol(parameters: usize) -> String {
    let digit = |n: usize| char::from_digit(n as u32, 36).unwrap().to_ascii_uppercase();
    let doubled = (0..parameters).map(|n| format!("S_IS{0}_S{0}_E", digit(n)));
    format!("_Z1f1AIiiE{}", doubled.collect::<String>())
}

#[test]
fn names_in_backtraces_are_bounded_and_not_demangled() {
    let host = Host::new();
    let policy = "version = 1\n[limits]\ntime = \"1s\"\nmemory = \"192KiB\"";
    for (name, shows) in [
        (exponential_symbol(20), "_Z1f1AIiiES_IS0_S0_E"),
        ("x".repeat(60 << 10), "xxxxxxxx"),
        ("\\1b]0;title\\07".to_owned(), "\\u{1b}]0;title\\u{7}"),
    ] {
        host.file("named.wasm", invalid_pointer_in(&name));
        let run = host.run(host.path().join("named.wasm").to_str().unwrap(), policy, &[]);
        assert_eq!((run.code, run.record.outcome, run.record.blame), (1, Outcome::Failed, Some(Blame::Guest)));
        let reason = run.record.reason.unwrap();
        assert!(!reason.starts_with("error while executing") && reason.contains(shows), "{reason}");
        assert!(
            reason.len() < 2_000 && !reason.contains('\n') && !reason.contains("A<"),
            "{} bytes: {reason}",
            reason.len()
        );
    }
    // Names of which the engine would copy a gigabyte are refused before compilation.
    host.file("named.wasm", invalid_pointer_in(&"x".repeat(30 << 20)));
    assert!(host.fails(2, &["run", "named.wasm"]).contains("names a function with 31457280 bytes"));
}
