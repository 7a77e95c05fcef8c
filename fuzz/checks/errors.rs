//! Components with arbitrary names that fail in a host import, under limits on time and memory.
//!
//! Each input chooses an import, its arguments (mostly invalid pointers, lengths and handles), and
//! the names of a module, its functions, imports and exports. The run's error is formatted with
//! these names.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;

use super::host;
use host::audit::{Audit, SyncMode};
use host::policy::Policy;
use host::record::Outcome;
use host::runner::{Runner, RunnerOptions, StartError};
use host::runtime::{Compile, Silent};
use host::spec::RunSpec;
use host::vault::local::{LocalVault, Protection};

const POLICY: &str = "version = 1\n[secrets]\n\"n*\" = [\"get\", \"set\", \"describe\", \"delete\", \"list\"]\n\
    [limits]\ntime = \"1s\"\nmemory = \"192KiB\"\nlog-bytes = \"4KiB\"";

/// The longest reason in a record, in bytes: 4,096 characters that are all escaped.
const REASON_MAX: usize = 64 * 1024;

/// How many inputs share a host. Its audit log grows with each.
const RUNS_PER_HOST: usize = 1_000;

/// A host function: its interface, the instance's types, its name and type, and the parameters and
/// the result of the lowered core function.
pub(crate) struct Import {
    /// Declarations before the import.
    before: &'static str,
    interface: &'static str,
    types: &'static str,
    name: &'static str,
    ty: &'static str,
    /// One letter for each parameter: `i`, `l` and `d` for `i32`, `i64` and `f64`.
    params: &'static str,
    has_result: bool,
}

const SECRETS: &str = "strongroom:training/secrets@0.1.1";
const SECRETS_TYPES: &str = r#"
    (type $cases (variant
        (case "denied" string) (case "not-found" string) (case "invalid-name" string) (case "invalid-value" string)
        (case "exhausted" string) (case "expired" string) (case "invalid-batch" string) (case "conflict" string)
        (case "partial" (list string)) (case "unavailable" string)))
    (export "error" (type $error (eq $cases)))
    (type $fields (record (field "version" string) (field "content-type" (option string))
        (field "updated" (option u64)) (field "expires" (option u64))))
    (export "description" (type $description (eq $fields)))"#;
const CONTEXT: &str = "strongroom:training/context@0.1.1";
const POLL: &str = r#"(export "pollable" (type $pollable (sub resource)))"#;
const ERROR: &str = r#"(export "error" (type $error (sub resource)))"#;
const BEFORE_STREAMS: &str = r#"
    (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
    (alias export $errors "error" (type $io-error))"#;
const STREAMS: &str = r#"
    (alias outer 1 $io-error (type $io-error))
    (export "error" (type $error (eq $io-error)))
    (type $cases (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $cases)))
    (export "input-stream" (type $input-stream (sub resource)))
    (export "output-stream" (type $output-stream (sub resource)))"#;
const FILES: &str = r#"
    (type $codes (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota" "exist"
        "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io" "is-directory" "loop"
        "too-many-links" "message-size" "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory"
        "insufficient-space" "not-directory" "not-empty" "not-recoverable" "unsupported" "no-tty" "no-such-device"
        "overflow" "not-permitted" "pipe" "read-only" "invalid-seek" "text-file-busy" "cross-device"))
    (export "error-code" (type $error-code (eq $codes)))
    (export "descriptor" (type $descriptor (sub resource)))"#;
const BEFORE_LOOKUP: &str = r#"
    (import "wasi:sockets/network@0.2.0" (instance $networks
        (export "network" (type (sub resource)))
        (type $codes (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
            "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
            "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
            "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
            "permanent-resolver-failure"))
        (export "error-code" (type (eq $codes)))))
    (alias export $networks "network" (type $net))
    (alias export $networks "error-code" (type $code))"#;
const LOOKUP: &str = r#"
    (alias outer 1 $net (type $net))
    (export "network" (type $network (eq $net)))
    (alias outer 1 $code (type $code))
    (export "error-code" (type $error-code (eq $code)))
    (export "resolve-address-stream" (type $stream (sub resource)))"#;

const fn import(
    before_and_interface: (&'static str, &'static str),
    types: &'static str,
    name: &'static str,
    ty: &'static str,
    params: &'static str,
    has_result: bool,
) -> Import {
    Import { before: before_and_interface.0, interface: before_and_interface.1, types, name, ty, params, has_result }
}

const fn secret(name: &'static str, ty: &'static str, params: &'static str) -> Import {
    import(("", SECRETS), SECRETS_TYPES, name, ty, params, false)
}

const fn context(name: &'static str, ty: &'static str, params: &'static str) -> Import {
    import(("", CONTEXT), "", name, ty, params, false)
}

const fn stream(name: &'static str, ty: &'static str, params: &'static str) -> Import {
    import((BEFORE_STREAMS, "wasi:io/streams@0.2.0"), STREAMS, name, ty, params, false)
}

const fn file(name: &'static str, ty: &'static str, params: &'static str) -> Import {
    import(("", "wasi:filesystem/types@0.2.0"), FILES, name, ty, params, false)
}

pub(crate) const IMPORTS: &[Import] = &[
    secret("get-secret", r#"(param "name" string) (result (result string (error $error)))"#, "iii"),
    secret("set-secret", r#"(param "name" string) (param "value" string) (result (result (error $error)))"#, "iiiii"),
    secret(
        "get-secrets",
        r#"(param "names" (list string)) (result (result (list (tuple string (option string))) (error $error)))"#,
        "iii",
    ),
    secret("set-secrets", r#"(param "secrets" (list (tuple string string))) (result (result (error $error)))"#, "iii"),
    secret("list-secrets", "(result (result (list string) (error $error)))", "i"),
    secret("describe-secret", r#"(param "name" string) (result (result $description (error $error)))"#, "iii"),
    secret("delete-secret", r#"(param "name" string) (result (result (error $error)))"#, "iii"),
    secret("delete-secrets", r#"(param "names" (list string)) (result (result (error $error)))"#, "iii"),
    context("run-id", "(result string)", "i"),
    context("parameter", r#"(param "name" string) (result (option string))"#, "iii"),
    context("parameters", "(result (list (tuple string string)))", "i"),
    context(
        "log-metric",
        r#"(param "name" string) (param "value" f64) (param "step" (option u64)) (result (result (error string)))"#,
        "iidili",
    ),
    context(
        "report-progress",
        r#"(param "done" u64) (param "total" u64) (param "message" string) (result (result (error string)))"#,
        "lliii",
    ),
    context("set-tag", r#"(param "name" string) (param "value" string) (result (result (error string)))"#, "iiiii"),
    context("remove-tag", r#"(param "name" string) (result (result (error string)))"#, "iii"),
    context(
        "log-parameter",
        r#"(param "name" string) (param "value" string) (result (result (error string)))"#,
        "iiiii",
    ),
    context(
        "log-text",
        r#"(param "name" string) (param "value" string) (param "step" (option u64)) (result (result (error string)))"#,
        "iiiiili",
    ),
    context("remaining-time", "(result (option u64))", "i"),
    import(("", "wasi:cli/exit@0.2.0"), "", "exit", r#"(param "status" (result))"#, "i", false),
    import(
        ("", "wasi:cli/environment@0.2.0"),
        "",
        "get-environment",
        "(result (list (tuple string string)))",
        "i",
        false,
    ),
    import(("", "wasi:cli/environment@0.2.0"), "", "get-arguments", "(result (list string))", "i", false),
    import(
        ("", "wasi:random/random@0.2.0"),
        "",
        "get-random-bytes",
        r#"(param "len" u64) (result (list u8))"#,
        "li",
        false,
    ),
    import(
        ("", "wasi:random/insecure@0.2.0"),
        "",
        "get-insecure-random-bytes",
        r#"(param "len" u64) (result (list u8))"#,
        "li",
        false,
    ),
    import(
        ("", "wasi:io/poll@0.2.0"),
        POLL,
        "[method]pollable.ready",
        r#"(param "self" (borrow $pollable)) (result bool)"#,
        "i",
        true,
    ),
    import(
        ("", "wasi:io/poll@0.2.0"),
        POLL,
        "[method]pollable.block",
        r#"(param "self" (borrow $pollable))"#,
        "i",
        false,
    ),
    import(
        ("", "wasi:io/poll@0.2.0"),
        POLL,
        "poll",
        r#"(param "in" (list (borrow $pollable))) (result (list u32))"#,
        "iii",
        false,
    ),
    import(
        ("", "wasi:io/error@0.2.0"),
        ERROR,
        "[method]error.to-debug-string",
        r#"(param "self" (borrow $error)) (result string)"#,
        "ii",
        false,
    ),
    stream(
        "[method]input-stream.read",
        r#"(param "self" (borrow $input-stream)) (param "len" u64) (result (result (list u8) (error $stream-error)))"#,
        "ili",
    ),
    stream(
        "[method]output-stream.write",
        r#"(param "self" (borrow $output-stream)) (param "contents" (list u8)) (result (result (error $stream-error)))"#,
        "iiii",
    ),
    stream(
        "[method]output-stream.blocking-write-and-flush",
        r#"(param "self" (borrow $output-stream)) (param "contents" (list u8)) (result (result (error $stream-error)))"#,
        "iiii",
    ),
    stream(
        "[method]output-stream.splice",
        r#"(param "self" (borrow $output-stream)) (param "src" (borrow $input-stream)) (param "len" u64)
           (result (result u64 (error $stream-error)))"#,
        "iili",
    ),
    file(
        "[method]descriptor.create-directory-at",
        r#"(param "self" (borrow $descriptor)) (param "path" string) (result (result (error $error-code)))"#,
        "iiii",
    ),
    file(
        "[method]descriptor.unlink-file-at",
        r#"(param "self" (borrow $descriptor)) (param "path" string) (result (result (error $error-code)))"#,
        "iiii",
    ),
    file(
        "[method]descriptor.readlink-at",
        r#"(param "self" (borrow $descriptor)) (param "path" string) (result (result string (error $error-code)))"#,
        "iiii",
    ),
    file(
        "[method]descriptor.rename-at",
        r#"(param "self" (borrow $descriptor)) (param "old-path" string) (param "new-descriptor" (borrow $descriptor))
           (param "new-path" string) (result (result (error $error-code)))"#,
        "iiiiiii",
    ),
    file(
        "[method]descriptor.symlink-at",
        r#"(param "self" (borrow $descriptor)) (param "old-path" string) (param "new-path" string)
           (result (result (error $error-code)))"#,
        "iiiiii",
    ),
    file(
        "[method]descriptor.read",
        r#"(param "self" (borrow $descriptor)) (param "length" u64) (param "offset" u64)
           (result (result (tuple (list u8) bool) (error $error-code)))"#,
        "illi",
    ),
    file(
        "[method]descriptor.write",
        r#"(param "self" (borrow $descriptor)) (param "buffer" (list u8)) (param "offset" u64)
           (result (result u64 (error $error-code)))"#,
        "iiili",
    ),
    file(
        "[method]descriptor.set-size",
        r#"(param "self" (borrow $descriptor)) (param "size" u64) (result (result (error $error-code)))"#,
        "ili",
    ),
    import(
        (BEFORE_LOOKUP, "wasi:sockets/ip-name-lookup@0.2.0"),
        LOOKUP,
        "resolve-addresses",
        r#"(param "network" (borrow $network)) (param "name" string) (result (result (own $stream) (error $error-code)))"#,
        "iiii",
        false,
    ),
];

/// Reads an input from its beginning. Returns zeros after its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Returns a number, often one at the edge of the memory or of its type.
    fn number(&mut self) -> u64 {
        match self.byte() {
            0 => 0,
            1 => 8,
            2 => 65_536,
            3 => 65_535,
            4 => u64::from(u32::MAX),
            5 => 1 << 31,
            6 => u64::MAX,
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// Returns a name as a string of the text format, repeated up to 255 times: every byte escaped.
    fn name(&mut self) -> String {
        let (length, times) = (usize::from(self.byte()), usize::from(self.byte()));
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        let name = String::from_utf8_lossy(bytes).repeat(times.max(1));
        name.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").unwrap();
            text
        })
    }
}

/// Returns the component that an input describes.
fn component(input: &mut Input<'_>) -> Vec<u8> {
    let import = &IMPORTS[usize::from(input.byte()) % IMPORTS.len()];
    let (depth, realloc) = (input.byte(), input.number() as u32 as i32);
    let (mut params, mut arguments) = (String::new(), String::new());
    for param in import.params.chars() {
        let number = input.number();
        let _ = match param {
            'i' => {
                params.push_str(" i32");
                write!(arguments, "(i32.const {})", number as u32 as i32)
            }
            'l' => {
                params.push_str(" i64");
                write!(arguments, "(i64.const {})", number as i64)
            }
            _ => {
                params.push_str(" f64");
                write!(arguments, "(f64.const {})", number as u32)
            }
        };
    }
    let (result, drop) = if import.has_result { ("(result i32)", "drop") } else { ("", "") };
    let [function, module, call, export] = std::array::from_fn(|_| input.name());
    let Import { before, interface, types, name, ty, .. } = import;
    let text = format!(
        r#"(component
            {before}
            (import "{interface}" (instance $host {types} (export "{name}" (func {ty}))))
            (core module $libc
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const {realloc})))
            (core instance $libc (instantiate $libc))
            (core func $call (canon lower (func $host "{name}")
                (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
            (core module $m (@name "{module}")
                (import "host" "{call}" (func $call (param{params}) {result}))
                (memory (export "memory") 1)
                (func $f (@name "{function}") (export "f{export}") (param i32)
                    (if (local.get 0)
                        (then (call $f (i32.sub (local.get 0) (i32.const 1))))
                        (else {arguments} (call $call) {drop})))
                (func (export "train") (result i32) (call $f (i32.const {depth})) (i32.const 0)))
            (core instance $i (instantiate $m (with "host" (instance (export "{call}" (func $call))))))
            (func $train (result (result (error string)))
                (canon lift (core func $i "train") (memory (core memory $i "memory"))))
            (export "train" (func $train)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A host in a folder of its own.
struct Host {
    runtime: tokio::runtime::Runtime,
    runner: Runner,
    policy: Arc<Policy>,
    folder: tempfile::TempDir,
    runs: usize,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let vault = LocalVault::create(&folder.path().join("vault"), Protection::KeyFile).unwrap();
        let audit = Audit::open(&folder.path().join("audit"), SyncMode::Os).unwrap();
        let temp = folder.path().join("tmp");
        std::fs::create_dir(&temp).unwrap();
        let options = RunnerOptions::new(Arc::new(vault), audit, Compile::InProcess).temp(temp);
        let runner = {
            let _context = runtime.enter();
            Runner::new(options).unwrap()
        };
        Self { runtime, runner, policy: Arc::new(Policy::parse(POLICY, "policy.toml").unwrap()), folder, runs: 0 }
    }
}

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    thread_local! {
        static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
    }
    let component = component(&mut Input(data));
    HOST.with_borrow_mut(|host| {
        if host.as_ref().is_some_and(|host| host.runs >= RUNS_PER_HOST) {
            *host = None;
        }
        let host = host.get_or_insert_with(Host::new);
        host.runs += 1;
        let path = host.folder.path().join("component.wasm");
        std::fs::write(&path, &component).unwrap();
        let policy = Arc::clone(&host.policy);
        let run = host.runner.run(RunSpec::new(&path), policy, Arc::new(Silent), std::future::pending());
        let record = match host.runtime.block_on(run) {
            Ok(record) => record,
            // A name that is too long.
            Err(StartError::Invalid { why, .. }) => {
                assert!(why.contains("names a function with") || why.contains("string size out of bounds"), "{why}");
                return assert_bounded(&why);
            }
            Err(error) => panic!("{error}"),
        };
        assert!(
            matches!(record.outcome, Outcome::Finished | Outcome::Failed | Outcome::Limit),
            "{:?}: {:?}",
            record.outcome,
            record.reason
        );
        if let Some(reason) = &record.reason {
            assert_bounded(reason);
        }
    });
}

fn assert_bounded(text: &str) {
    assert!(text.len() <= REASON_MAX && !text.chars().any(char::is_control), "{} bytes: {text:?}", text.len());
}
