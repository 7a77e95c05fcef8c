//! Makes components of the suites' programs.

use anyhow::{Context as _, Result};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

/// Returns a component: the program itself, or a core module for WASI preview 1 with its adapter.
pub(crate) fn component(program: &[u8]) -> Result<Vec<u8>> {
    if is_component(program) {
        return Ok(program.to_vec());
    }
    ComponentEncoder::default()
        .module(program)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .encode()
}

fn is_component(bytes: &[u8]) -> bool {
    let first = Parser::new(0).parse_all(bytes).next();
    matches!(first, Some(Ok(Payload::Version { encoding: Encoding::Component, .. })))
}

/// Returns the component with a directory under another name: `/` in place of `/input` or `/output`.
///
/// The result is composed of the component and of one that implements `wasi:filesystem/preopens`
/// with the host's, so that every access still reaches the host's directory.
pub(crate) fn at_root(component: &[u8], directory: &str) -> Result<Vec<u8>> {
    let (imports, exports) = names(component)?;
    let find = |names: &[String], prefix: &str| names.iter().find(|name| name.starts_with(prefix)).cloned();
    let preopens = find(&imports, "wasi:filesystem/preopens@").context("it imports no directories")?;
    let types = find(&imports, "wasi:filesystem/types@").context("it imports no files")?;
    let run = find(&exports, "wasi:cli/run@").context("it is no program")?;

    let mut graph = CompositionGraph::new();
    let renaming =
        Package::from_bytes("conformance:renaming", None, renaming(&types, &preopens, directory)?, graph.types_mut())?;
    let renaming = graph.register_package(renaming)?;
    let program = Package::from_bytes("conformance:program", None, component.to_vec(), graph.types_mut())?;
    let program = graph.register_package(program)?;
    let renaming = graph.instantiate(renaming);
    let program = graph.instantiate(program);
    let renamed = graph.alias_instance_export(renaming, &preopens)?;
    graph.set_instantiation_argument(program, &preopens, renamed)?;
    let entry = graph.alias_instance_export(program, &run)?;
    graph.export(entry, run)?;
    Ok(graph.encode(EncodeOptions::default())?)
}

/// Returns the names of a component's imports and exports.
fn names(component: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_u32);
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

/// Returns a component that passes the host's directories on, with one of them named `/`. The host
/// has no two names of the same length.
fn renaming(types: &str, preopens: &str, directory: &str) -> Result<Vec<u8>> {
    let length = directory.len();
    let text = format!(
        r#"(component
  (import "{types}" (instance $types (export "descriptor" (type (sub resource)))))
  (alias export $types "descriptor" (type $descriptor))
  (import "{preopens}" (instance $preopens
    (alias outer 1 $descriptor (type $outer))
    (export "descriptor" (type $descriptor (eq $outer)))
    (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
  (core module $libc
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and
        (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $at) (local.get $new)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias export $preopens "get-directories" (func $get))
  (core func $get (canon lower (func $get) (memory (core memory $libc "memory"))
    (realloc (core func $libc "realloc"))))
  (core module $rename
    (import "libc" "memory" (memory 1))
    (import "host" "get" (func $get (param i32)))
    (data (i32.const 16) "/")
    (func (export "get-directories") (result i32)
      (local $entry i32) (local $end i32)
      (call $get (i32.const 0))
      (local.set $entry (i32.load (i32.const 0)))
      (local.set $end (i32.add (local.get $entry) (i32.mul (i32.load (i32.const 4)) (i32.const 12))))
      (block $done
        (loop $each
          (br_if $done (i32.ge_u (local.get $entry) (local.get $end)))
          (if (i32.eq (i32.load offset=8 (local.get $entry)) (i32.const {length}))
            (then
              (i32.store offset=4 (local.get $entry) (i32.const 16))
              (i32.store offset=8 (local.get $entry) (i32.const 1))))
          (local.set $entry (i32.add (local.get $entry) (i32.const 12)))
          (br $each)))
      (i32.const 0)))
  (core instance $rename (instantiate $rename
    (with "libc" (instance $libc)) (with "host" (instance (export "get" (func $get))))))
  (func $renamed (result (list (tuple (own $descriptor) string)))
    (canon lift (core func $rename "get-directories") (memory (core memory $libc "memory"))))
  (instance $result (export "descriptor" (type $descriptor)) (export "get-directories" (func $renamed)))
  (export "{preopens}" (instance $result)))"#
    );
    Ok(wat::parse_str(text)?)
}
