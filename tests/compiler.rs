//! Components that are made to break the compiler. It runs in a child process with limits, which
//! confine failures.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use strongroom::record::{Limit, Outcome};
use strongroom::runtime::ChildCompiler;

use crate::support::in_process::{InProcessHost, compiler};
use crate::support::{Host, isolated};

/// Returns a component with these functions and this body of `train`.
fn component(functions: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m
                {functions}
                (memory (export "memory") 1)
                (func (export "train") (result i32) {body} (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $train (result (result (error string)))
                (canon lift (core func $i "train") (memory (core memory $i "memory"))))
            (export "train" (func $train)))"#
    );
    wat::parse_str(text).unwrap()
}

/// Returns functions in which every block can branch to every other block, which makes register
/// allocation expensive.
pub(super) fn tangle(functions: usize, blocks: usize) -> Vec<u8> {
    let mut text = String::new();
    for n in 0..functions {
        let _ = write!(text, "(func $f{n} (param i32) (result i32) (local i32 i32 i32 i32 i32 i32 i32 i32)");
        text.push_str(&"(block ".repeat(blocks));
        for block in 0..blocks {
            let local = block % 8 + 1;
            let labels: String = (0..blocks - block).map(|label| format!(" {label}")).collect();
            let _ = write!(
                text,
                "(local.set {local} (i32.add (local.get {local}) (i32.mul (local.get 0) (i32.const {block})))) \
                 (br_table{labels} (i32.xor (local.get {local}) (local.get 0))))"
            );
        }
        text.push_str("(i32.add (local.get 1) (i32.add (local.get 2) (i32.add (local.get 3) (local.get 4)))))");
    }
    component(&text, "(drop (call $f0 (i32.const 1)))")
}

/// Returns a component with deeply nested blocks, which exhaust the stack of a recursive pass.
fn deep(depth: usize) -> Vec<u8> {
    component("", &format!("{}{}", "block ".repeat(depth), "end ".repeat(depth)))
}

fn write_component(folder: &std::path::Path, name: &str, component: &[u8]) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, component).unwrap();
    path.to_string_lossy().into_owned()
}

// attack: resources: make the compiler use minutes, gigabytes or its whole stack -> the compiler is
// a child process with limits for memory, CPU time and wall time
#[test]
fn slow_compilation_is_stopped_at_compile_time() {
    let host = Host::new();
    let bomb = write_component(host.path(), "tangle.wasm", &tangle(40, 300));
    let run = host.run(&bomb, "version = 1\n[limits]\ncompile-time = \"1s\"", &[]).stopped(Limit::Compile);
    assert!(run.record.reason.unwrap().contains("compile-time"));
    assert_eq!(run.record.cpu_micros, 0, "its code ran");
    host.assert_audit_intact();
}

// promise: A failure of the compiler is confined to its child process.
// attack: resources: make the compiler use minutes, gigabytes or its whole stack -> the compiler is
// a child process with limits for memory, CPU time and wall time
#[test]
fn compiler_limits_stop_expensive_components() {
    isolated::assert_passes("compiler::compiler_limits_in_this_process");
}

#[test]
#[ignore = "inspects the whole process: `compiler_limits_stop_expensive_components` runs it in a process of its own"]
fn compiler_limits_in_this_process() {
    let bomb = tangle(40, 300);
    let cases: [(&str, ChildCompiler, &str); 3] = [
        ("memory", ChildCompiler { memory: 256 << 20, ..compiler() }, "MiB of memory"),
        ("cpu", ChildCompiler { cpu: Duration::from_secs(1), ..compiler() }, "of CPU time"),
        ("wall", ChildCompiler { wall: Duration::from_secs(1), ..compiler() }, "took longer than"),
    ];
    for (limit, compiler, says) in cases {
        let host = InProcessHost::with_compiler(&[], compiler);
        let path = write_component(host.path(), "tangle.wasm", &bomb);
        let before = isolated::kilobytes("VmRSS:");
        let run = host.run(&path, "version = 1", &[]).stopped(Limit::Compile);
        let reason = run.record.reason.unwrap();
        assert!(reason.contains(says), "{limit}: {reason}");
        // The child process, and not this one, used the memory.
        assert!(isolated::kilobytes("VmRSS:").saturating_sub(before) < 64 << 10, "{limit}");
        assert_eq!(
            isolated::ProcessResources::now().children,
            Vec::<String>::new(),
            "{limit}: the compiler is still there"
        );
    }
}

// promise: A failure of the compiler is confined to its child process.
// attack: resources: make the compiler use minutes, gigabytes or its whole stack -> the compiler is
// a child process with limits for memory, CPU time and wall time
#[test]
fn deeply_nested_blocks_do_not_crash_the_host() {
    let host = Host::new();
    let bomb = write_component(host.path(), "deep.wasm", &deep(3_000_000));
    let policy = host.file("policy.toml", "version = 1\n[limits]\ncompile-time = \"20s\"");
    let output = host.output(&["run", &bomb, "--json", "--policy", policy.to_str().unwrap()]);
    // The component may be invalid, over a limit or fine, but the host must not crash.
    assert!(
        matches!(output.status.code(), Some(0 | 2 | 4)),
        "{:?} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

// attack: resources: be gigabytes large or have a thousand instances -> component size and instance
// count are limited
#[test]
fn component_with_too_many_instances_is_refused() {
    let host = Host::new();
    for (what, count, fits) in [("instance", 60, true), ("instance", 70, false)] {
        let text = format!(
            r#"(component
                (core module $e (func (export "f")))
                {}
                (core module $m (memory (export "memory") 1) (func (export "train") (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (func $train (result (result (error string)))
                    (canon lift (core func $i "train") (memory (core memory $i "memory"))))
                (export "train" (func $train)))"#,
            "(core instance (instantiate $e))".repeat(count)
        );
        let path = write_component(host.path(), &format!("{what}-{count}.wasm"), &wat::parse_str(text).unwrap());
        if fits {
            host.run(&path, "version = 1", &[]).finished();
        } else {
            assert!(host.fails(2, &["run", &path]).contains("needs more than a run may have"));
        }
    }
}

// attack: resources: be gigabytes large or have a thousand instances -> component size and instance
// count are limited
#[test]
fn component_over_maximum_size_is_not_read() {
    let host = Host::new();
    let path = host.path().join("huge.wasm");
    let file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut &file, b"\0asm\x0d\0\x01\0").unwrap();
    file.set_len(10 << 30).unwrap();
    assert!(host.fails(2, &["run", path.to_str().unwrap()]).contains("over 64 MiB"));
}

#[test]
fn failed_compiler_is_recorded_as_host_fault() {
    let host = InProcessHost::with_compiler(&[], ChildCompiler::new("/bin/false"));
    let run = host.run("hello", "version = 1", &[]);
    assert_eq!(run.record.outcome, Outcome::HostFault, "{:?}", run.record.reason);
}
