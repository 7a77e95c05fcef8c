//! The WebAssembly features that components may use, and the check that runs before compilation.
//!
//! Every feature is engine code that a hostile component can reach. Features that the supported
//! toolchains (Rust, C, Go, Python, JavaScript) do not emit are therefore disabled in two places:
//! in the engine's configuration, and in a separate validation that names the feature for the
//! component's author. For example, wasmtime without its cargo feature `gc` accepts types of the GC
//! proposal that it cannot run (RUSTSEC-2026-0570).

use wasmparser::{KnownCustom, Name, Parser, Payload, Validator, WasmFeatures};

use super::imports::NOT_YET_HELP;
use super::text;

/// The enabled features, each with the reason.
pub(super) const ENABLED: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::FLOATS, "part of WebAssembly 1.0"),
    (WasmFeatures::MUTABLE_GLOBAL, "the stack pointer of every LLVM toolchain"),
    (WasmFeatures::SATURATING_FLOAT_TO_INT, "on by default in LLVM: float to integer casts"),
    (WasmFeatures::SIGN_EXTENSION, "on by default in LLVM"),
    (WasmFeatures::MULTI_VALUE, "on by default in LLVM"),
    (WasmFeatures::BULK_MEMORY, "on by default in LLVM: `memory.copy` and `memory.fill`"),
    (WasmFeatures::REFERENCE_TYPES, "on by default in LLVM; adapters of the component model import tables"),
    (WasmFeatures::EXTENDED_CONST, "offsets of the shared libraries in a Python component"),
    (WasmFeatures::SIMD, "numerical code: numpy, BLAS kernels"),
    (WasmFeatures::RELAXED_SIMD, "fused multiply-add in BLAS kernels; runs in its deterministic form"),
    (WasmFeatures::MULTI_MEMORY, "merged programs with several memories, all within the run's memory limit"),
    (WasmFeatures::COMPONENT_MODEL, "the format of a training component"),
];

/// Features that a component may need, by the name that a user would search for. None of them is
/// enabled.
const DISABLED: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::FUNCTION_REFERENCES, "typed function references (function-references)"),
    (WasmFeatures::GC, "garbage collection (gc)"),
    (WasmFeatures::GC_TYPES, "garbage-collected references (externref, gc)"),
    (WasmFeatures::TAIL_CALL, "tail calls (tail-call)"),
    (WasmFeatures::EXCEPTIONS, "exception handling (exceptions)"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy exception handling (legacy-exceptions)"),
    (WasmFeatures::STACK_SWITCHING, "stack switching (stack-switching)"),
    (WasmFeatures::THREADS, "threads and shared memory (threads)"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything threads (shared-everything-threads)"),
    (WasmFeatures::MEMORY64, "64-bit memory (memory64)"),
    (WasmFeatures::MEMORY_CONTROL, "memory control (memory-control)"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic (wide-arithmetic)"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes (custom-page-sizes)"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom descriptors (custom-descriptors)"),
    (WasmFeatures::COMPACT_IMPORTS, "compact imports (compact-imports)"),
    (WasmFeatures::CM_ASYNC, "the component model's async ABI (WASI 0.3)"),
    (WasmFeatures::CM_ASYNC_STACKFUL, "the component model's stackful async ABI (WASI 0.3)"),
    (WasmFeatures::CM_MORE_ASYNC_BUILTINS, "the component model's async built-ins (WASI 0.3)"),
    (WasmFeatures::CM_THREADING, "component model threads"),
    (WasmFeatures::CM_ERROR_CONTEXT, "component model error contexts (WASI 0.3)"),
    (WasmFeatures::CM_VALUES, "component model values"),
    (WasmFeatures::CM_NESTED_NAMES, "component model nested names"),
    (WasmFeatures::CM_FIXED_LENGTH_LISTS, "component model fixed-length lists"),
    (WasmFeatures::CM_GC, "component model garbage collection"),
    (WasmFeatures::CM_MAP, "component model maps"),
    (WasmFeatures::CM64, "64-bit component model"),
    (WasmFeatures::CM_IMPLEMENTS, "component model `implements` names"),
    (WasmFeatures::CM_CANON_NAMES, "component model canonical names"),
];

/// The longest function name in a module's `name` section, in bytes. When an error passes through
/// calls, the engine copies the names of up to twenty of them, outside the run's memory limit.
pub(super) const FUNCTION_NAME_MAX: usize = 64 * 1024;

/// Why a component must not reach the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unacceptable {
    /// It is not valid WebAssembly under any set of features. Holds the validator's message,
    /// bounded and escaped.
    Invalid(String),
    /// It is valid, but this host does not support it. The text completes a sentence, such as "uses
    /// ...", and says what is wrong and what to do.
    Unsupported(String),
}

/// Returns all enabled features.
pub(super) fn enabled() -> WasmFeatures {
    ENABLED.iter().fold(WasmFeatures::empty(), |all, (feature, _)| all | *feature)
}

/// Validates a whole component against the enabled features. Time and memory are proportional to
/// the component's size: the caller bounds both.
pub(super) fn check(component: &[u8]) -> Result<(), Unacceptable> {
    match validate(component, enabled()) {
        Ok(()) => check_names(component),
        Err(message) => Err(unsupported(component).unwrap_or(Unacceptable::Invalid(message))),
    }
}

fn validate(component: &[u8], features: WasmFeatures) -> Result<(), String> {
    let validated = Validator::new_with_features(features).validate_all(component);
    validated.map(drop).map_err(|error| text::bounded(&error, super::compile::MESSAGE_MAX))
}

/// Returns the disabled features that the component needs in order to be valid, if any.
fn unsupported(component: &[u8]) -> Option<Unacceptable> {
    let all = DISABLED.iter().fold(enabled(), |all, (feature, _)| all | *feature);
    validate(component, all).ok()?;
    let is_needed = |feature: WasmFeatures| validate(component, all - feature).is_err();
    let mut names: Vec<&str> =
        DISABLED.iter().filter(|(feature, _)| is_needed(*feature)).map(|(_, name)| *name).collect();
    if names.is_empty() {
        // Several features allow the same thing: name the first that would be enough.
        let is_enough = |feature: WasmFeatures| validate(component, enabled() | feature).is_ok();
        names.extend(DISABLED.iter().find(|(feature, _)| is_enough(*feature)).map(|(_, name)| *name));
    }
    if names.iter().any(|name| name.ends_with("(WASI 0.3)")) {
        return Some(Unacceptable::Unsupported(format!("needs WASI 0.3, {NOT_YET_HELP}")));
    }
    let names = if names.is_empty() { "a combination of them".to_owned() } else { names.join(", ") };
    Some(Unacceptable::Unsupported(format!(
        "uses WebAssembly features that this host disables: {names}; build it without them"
    )))
}

/// Rejects function names that are too long to be copied. Parses the names as the engine does.
fn check_names(component: &[u8]) -> Result<(), Unacceptable> {
    for payload in Parser::new(0).parse_all(component) {
        let Ok(Payload::CustomSection(section)) = payload else { continue };
        let KnownCustom::Name(subsections) = section.as_known() else { continue };
        // Like the engine, this ignores a section from the point where it fails to parse.
        for name in subsections.into_iter().map_while(Result::ok) {
            let Name::Function(functions) = name else { continue };
            let longest = functions.into_iter().map_while(Result::ok).map(|function| function.name.len()).max();
            if let Some(longest) = longest.filter(|longest| *longest > FUNCTION_NAME_MAX) {
                return Err(Unacceptable::Unsupported(format!(
                    "names a function with {longest} bytes, more than the {FUNCTION_NAME_MAX} that this host accepts; strip its `name` sections"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_either_enabled_or_named_as_disabled() {
        let disabled = DISABLED.iter().fold(WasmFeatures::empty(), |all, (feature, _)| all | *feature);
        assert_eq!(enabled() & disabled, WasmFeatures::empty());
        assert_eq!(WasmFeatures::all() - enabled() - disabled, WasmFeatures::empty());
    }

    #[test]
    fn long_function_name_is_refused() {
        let named = |length: usize| {
            let name = "x".repeat(length);
            wat::parse_str(format!("(component (core module (func ${name})))")).unwrap()
        };
        assert_eq!(check(&named(FUNCTION_NAME_MAX)), Ok(()));
        let refused = check(&named(FUNCTION_NAME_MAX + 1)).unwrap_err();
        assert!(matches!(&refused, Unacceptable::Unsupported(why) if why.contains("65537 bytes")), "{refused:?}");
    }

    #[test]
    fn invalid_component_is_told_from_an_unsupported_one() {
        let invalid = wat::parse_str("(component (core module (func (result i32))))").unwrap();
        assert!(matches!(check(&invalid), Err(Unacceptable::Invalid(_))));
        let tail = wat::parse_str("(component (core module (func $f (return_call $f))))").unwrap();
        assert_eq!(
            check(&tail),
            Err(Unacceptable::Unsupported(
                "uses WebAssembly features that this host disables: tail calls (tail-call); build it without them"
                    .to_owned()
            ))
        );
    }

    // attack: resources: use a WebAssembly feature that the supported toolchains do not need -> a
    // component that needs a disabled feature is refused by the feature's name before compilation
    #[test]
    fn component_that_needs_a_disabled_feature_is_refused_by_its_name() {
        let core = |fields: &str| format!("(component (core module {fields}))");
        let cases = [
            ("gc", core("(type (struct (field i32)))")),
            ("gc", core("(type $a (sub (func))) (type (sub $a (func)))")),
            ("externref", core("(func (param externref))")),
            ("function-references", core("(type $f (func)) (func (param (ref $f)))")),
            ("tail-call", core("(func $f (return_call $f))")),
            ("exceptions", core("(tag $e)")),
            ("legacy-exceptions", core("(func try catch_all end)")),
            ("stack-switching", core("(type $f (func)) (type (cont $f))")),
            ("threads", core("(memory 1 1 shared)")),
            ("shared-everything-threads", core("(type (shared (func)))")),
            ("memory64", core("(memory i64 1)")),
            ("memory-control", core("(memory 1) (func (memory.discard (i32.const 0) (i32.const 0)))")),
            (
                "wide-arithmetic",
                core(
                    "(func (result i64 i64) \
                     (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))",
                ),
            ),
            ("custom-page-sizes", core("(memory 1 (pagesize 1))")),
            ("WASI 0.3", "(component (core func (canon backpressure.inc)))".to_owned()),
            ("WASI 0.3", "(component (type (stream u8)))".to_owned()),
            ("WASI 0.3", "(component (core func (canon error-context.drop)))".to_owned()),
            ("fixed-length lists", "(component (type (list u8 4)))".to_owned()),
            ("component model maps", "(component (type (map string u8)))".to_owned()),
        ];
        for (name, text) in cases {
            let component = wat::parse_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            match check(&component) {
                Err(Unacceptable::Unsupported(why)) => assert!(why.contains(name), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
