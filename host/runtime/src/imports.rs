//! Reads what a component imports and exports from its top-level sections, before compilation.
//!
//! Nothing here trusts the bytes: nested modules and components are skipped unread, the number of
//! items is bounded, and names are escaped and shortened. The compiler, which works under limits,
//! decides whether the contents are valid.

use std::fmt;

use wasmparser::{
    CanonicalFunction, CanonicalOption, Chunk, ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload,
    TypeBounds, WasmFeatures,
};

use super::text;

/// The newest patch of WASI 0.2 that the engine implements. A test compares it with the engine. A
/// component built for a newer one runs if it imports only functions that the engine has.
pub const WASI_PATCH: u64 = 12;

/// The newest patch of `strongroom:training` 0.1 that is linked. A component built for an older one
/// runs, and one built for a newer one runs if it imports only functions that this host has.
pub const TRAINING_PATCH: u64 = 1;

/// The linked version of WASI, without its patch.
const WASI_MINOR: &str = "0.2.";

/// The linked version of `strongroom:training`, without its patch.
const TRAINING_MINOR: &str = "0.1.";

/// The maximum of imports, and of exports, at a component's top level. A packed Python interpreter
/// has about 40.
pub const ITEMS_MAX: usize = 1_000;

/// The maximum of sections at a component's top level. A packed Python interpreter has a few hundred.
/// A file can hold a section in every two bytes.
pub const SECTIONS_MAX: usize = 100_000;

/// The maximum of refused imports that [`refusal`] names.
const REFUSALS_NAMED: usize = 10;

/// The longest name that is kept, in characters. A longer one is cut and ends in an ellipsis, so
/// that it equals no linked name.
const NAME_MAX: usize = 200;

/// The linked interfaces of WASI 0.2. Each of them decides per call.
pub const WASI: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The interfaces of strongroom.
pub const TRAINING: &[&str] = &["strongroom:training/secrets", "strongroom:training/context"];

/// A component's top-level imports and exports, in the component's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interfaces {
    /// The imports.
    pub imports: Vec<Item>,
    /// The exports.
    pub exports: Vec<Item>,
    /// Whether the component's top level uses the component model's async ABI, which only WASI 0.3
    /// has.
    pub is_async: bool,
}

/// One import or export.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// The name, such as `wasi:cli/run@0.2.6` or `train`. A name that could not be linked is
    /// escaped and shortened.
    pub name: String,
    /// The kind of item.
    pub kind: Kind,
}

/// The kind of an import or export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// An interface: functions and types under one name.
    Interface,
    /// A function.
    Function,
    /// A value.
    Value,
    /// A type equal to another one. It contains no code.
    Type,
    /// A resource type.
    Resource,
    /// A core module.
    Module,
    /// A component.
    Component,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interface => "interface",
            Self::Function => "function",
            Self::Value => "value",
            Self::Type => "type",
            Self::Resource => "resource",
            Self::Module => "module",
            Self::Component => "component",
        })
    }
}

/// A component's entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A command: the function `run` of the interface exported under this name
    /// (`wasi:cli/run@0.2.x`).
    Run(&'a str),
    /// The function `train`.
    Train,
}

impl Interfaces {
    /// Returns the entry point. `run` takes precedence over `train` if both are exported.
    pub fn entry(&self) -> Option<Entry<'_>> {
        let run = self.exports.iter().find(|item| item.kind == Kind::Interface && is_run(&item.name));
        let train = || self.exports.iter().any(|item| item.kind == Kind::Function && item.name == "train");
        run.map(|item| Entry::Run(&item.name)).or_else(|| train().then_some(Entry::Train))
    }

    /// Checks what the imports do not show: the component has an entry point that this host can
    /// call.
    ///
    /// # Errors
    /// [`Malformed::Async`] or [`Malformed::NoEntry`].
    pub fn check_entry(&self) -> Result<(), Malformed> {
        if self.is_async {
            return Err(Malformed::Async);
        }
        if self.entry().is_some() {
            return Ok(());
        }
        let named = |prefix: &str| self.exports.iter().find(|item| item.name.starts_with(prefix));
        let other = named("wasi:cli/run@").or_else(|| named("wasi:http/"));
        Err(Malformed::NoEntry { other: other.map(|item| item.name.clone()) })
    }

    /// Describes the first import of a newer patch of WASI 0.2 or of the guest contract than this
    /// host has: a linking error may be due to it.
    pub(crate) fn newer_import(&self) -> Option<String> {
        self.imports.iter().find_map(|item| {
            let (id, version) = item.name.split_once('@')?;
            let (here, release) = match id {
                id if TRAINING.contains(&id) && patch(version, TRAINING_MINOR) > Some(TRAINING_PATCH) => {
                    (format!("{TRAINING_MINOR}{TRAINING_PATCH} of it"), "build against this release's `wit/`")
                }
                id if id.starts_with("wasi:") && patch(version, WASI_MINOR) > Some(WASI_PATCH) => {
                    (format!("WASI {WASI_MINOR}{WASI_PATCH}"), "build it for that version")
                }
                _ => return None,
            };
            Some(format!("the component imports `{}`, but this host has {here}: {release}", item.name))
        })
    }
}

fn is_run(name: &str) -> bool {
    matches!(name.split_once('@'), Some(("wasi:cli/run", version)) if patch(version, WASI_MINOR).is_some())
}

/// Why some bytes are not a component that can run. Each text completes "the component `x` ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// There are no bytes.
    #[error("is empty: build it again")]
    Empty,
    /// WebAssembly in its text form.
    #[error("is WebAssembly text: make a binary of it with `wasm-tools parse`")]
    Text,
    /// A core module.
    #[error(
        "is a core WebAssembly module, not a component: build for `wasm32-wasip2`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// A component in an obsolete or future encoding.
    #[error("is encoded in another version of the component format: build it with current tools")]
    OtherVersion,
    /// The bytes are not WebAssembly.
    #[error("is not WebAssembly: give the `.wasm` file that the build made")]
    NotWebAssembly,
    /// The bytes end too early.
    #[error("ends in the middle: it was cut off or damaged, so copy or build it again")]
    Truncated,
    /// The bytes are inconsistent.
    #[error("is damaged: {0}; copy or build it again")]
    Damaged(String),
    /// More than [`ITEMS_MAX`] imports or exports.
    #[error("has over {ITEMS_MAX} imports or exports, more than are accepted")]
    TooManyItems,
    /// More than [`SECTIONS_MAX`] sections.
    #[error("has over {SECTIONS_MAX} sections, more than are accepted")]
    TooManySections,
    /// The component uses the component model's async ABI.
    #[error("needs WASI 0.3, {NOT_YET_HELP}")]
    Async,
    /// The component exports nothing that the host can call.
    #[error("exports neither `wasi:cli/run@0.2` nor `train`{}", instead(.other.as_deref()))]
    NoEntry {
        /// The `wasi:cli/run` of another version, or the HTTP handler, that it exports instead.
        other: Option<String>,
    },
}

/// Completes "needs WASI 0.3, ...".
pub(crate) const NOT_YET_HELP: &str =
    "which is not supported yet: build it for WASI 0.2 (`wasm32-wasip2`; `--sync` with componentize-qjs)";

fn instead(export: Option<&str>) -> String {
    const BUILD: &str = "build a program with `main`, or export the world `plugin`";
    match export {
        Some(run) if run.starts_with("wasi:cli/run@0.3.") => {
            format!(", but `{run}`: it needs WASI 0.3, {NOT_YET_HELP}")
        }
        Some(run) if run.starts_with("wasi:cli/run@") => {
            format!(", but `{run}`: build it for `wasm32-wasip2`, which is WASI 0.2")
        }
        Some(handler) => format!(", but `{handler}`: no HTTP handler is called, so {BUILD}"),
        None => format!(", so there is nothing to run: {BUILD}"),
    }
}

/// Reads what a component imports and exports. It must have an [entry point](Interfaces::entry).
///
/// # Errors
/// [`Malformed`]. The compiler may still reject bytes that pass.
pub fn inspect(bytes: &[u8]) -> Result<Interfaces, Malformed> {
    let interfaces = inspect_for_world(bytes)?;
    interfaces.check_entry()?;
    Ok(interfaces)
}

/// Reads what a component imports and exports for a world of the embedder's own. The embedder knows
/// the entry point.
///
/// # Errors
/// As [`inspect`], except for the entry point.
pub fn inspect_for_world(bytes: &[u8]) -> Result<Interfaces, Malformed> {
    recognise(bytes)?;
    let mut interfaces = Interfaces::default();
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL);
    let mut rest = bytes;
    let mut sections = 0;
    while !rest.is_empty() {
        if sections > SECTIONS_MAX {
            return Err(Malformed::TooManySections);
        }
        sections += 1;
        // With `eof` set to false, the parser reports which errors are due to missing bytes.
        let (consumed, payload) = match parser.parse(rest, false).map_err(damaged)? {
            Chunk::NeedMoreData(_) => return Err(Malformed::Truncated),
            Chunk::Parsed { consumed, payload } => (consumed, payload),
        };
        rest = rest.get(consumed..).ok_or(Malformed::Truncated)?;
        match payload {
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                rest = rest.get(unchecked_range.len()..).ok_or(Malformed::Truncated)?;
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.map_err(damaged)?;
                    push(&mut interfaces.imports, import.name.name, import_kind(&import.ty))?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(damaged)?;
                    push(&mut interfaces.exports, export.name.name, export_kind(export.kind))?;
                }
            }
            // The compiler decides whether a section that cannot be read to its end is valid.
            Payload::ComponentCanonicalSection(section) => {
                interfaces.is_async |= section.into_iter().map_while(Result::ok).any(|function| is_async(&function));
            }
            Payload::UnknownSection { .. } => {
                return Err(Malformed::Damaged("it has a section of an unknown kind".into()));
            }
            _ => {}
        }
    }
    Ok(interfaces)
}

/// Returns whether a canonical function belongs to the async ABI: it is lifted or lowered with it, or
/// is one of its built-in functions.
fn is_async(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().any(|option| matches!(option, CanonicalOption::Async | CanonicalOption::Callback(_)))
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. }
        | CanonicalFunction::ThreadSpawnRef { .. }
        | CanonicalFunction::ThreadSpawnIndirect { .. }
        | CanonicalFunction::ThreadAvailableParallelism => false,
        _ => true,
    }
}

/// Detects files that users pass by mistake instead of a component.
fn recognise(bytes: &[u8]) -> Result<(), Malformed> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        return Err(Malformed::Empty);
    }
    if !bytes.starts_with(MAGIC) {
        return Err(if MAGIC.starts_with(bytes) {
            Malformed::Truncated
        } else if is_text(bytes) {
            Malformed::Text
        } else {
            Malformed::NotWebAssembly
        });
    }
    let Some(header) = bytes.first_chunk::<8>() else { return Err(Malformed::Truncated) };
    match Parser::new(0).parse(header, false) {
        Ok(Chunk::Parsed { payload: Payload::Version { encoding: Encoding::Component, .. }, .. }) => Ok(()),
        Ok(Chunk::Parsed { payload: Payload::Version { encoding: Encoding::Module, .. }, .. }) => {
            Err(Malformed::CoreModule)
        }
        _ => Err(Malformed::OtherVersion),
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    // Text format starts with a parenthesis or a comment.
    bytes.starts_with(b"(") || bytes.starts_with(b";;")
}

fn damaged(error: wasmparser::Error) -> Malformed {
    Malformed::Damaged(text::bounded(&error, NAME_MAX))
}

fn push(items: &mut Vec<Item>, name: &str, kind: Kind) -> Result<(), Malformed> {
    if items.len() >= ITEMS_MAX {
        return Err(Malformed::TooManyItems);
    }
    items.push(Item { name: text::bounded(name, NAME_MAX), kind });
    Ok(())
}

fn import_kind(ty: &ComponentTypeRef) -> Kind {
    match ty {
        ComponentTypeRef::Type(TypeBounds::SubResource) => Kind::Resource,
        other => export_kind(other.kind()),
    }
}

fn export_kind(kind: ComponentExternalKind) -> Kind {
    match kind {
        ComponentExternalKind::Module => Kind::Module,
        ComponentExternalKind::Func => Kind::Function,
        ComponentExternalKind::Value => Kind::Value,
        ComponentExternalKind::Type => Kind::Type,
        ComponentExternalKind::Instance => Kind::Interface,
        ComponentExternalKind::Component => Kind::Component,
    }
}

/// An import that is not linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The import that the component needs.
    pub import: String,
    /// Why it is not linked, and the alternative if there is one.
    pub why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the import `{}` is not available: {}", self.import, self.why)
    }
}

/// Returns every import that is not linked, in the component's order. This is an allow list: an
/// interface that an embedder or a later engine adds to the linker is rejected here until it is
/// listed.
pub fn refused(interfaces: &Interfaces) -> Vec<Refused> {
    let refusal = |item: &Item| refuse(item).map(|why| Refused { import: item.name.clone(), why });
    interfaces.imports.iter().filter_map(refusal).collect()
}

/// Returns a sentence that names the first refused imports and counts the others. A component may
/// have [`ITEMS_MAX`] of them, and the sentence is stored in the run's record.
pub fn refusal(refused: &[Refused]) -> String {
    let named: Vec<String> = refused.iter().take(REFUSALS_NAMED).map(ToString::to_string).collect();
    let named = named.join("; ");
    match refused.len().saturating_sub(REFUSALS_NAMED) {
        0 => named,
        others => format!("{named}; and {others} other imports"),
    }
}

fn refuse(item: &Item) -> Option<String> {
    match item.kind {
        // A type alias requires nothing from the host.
        Kind::Type => return None,
        Kind::Interface => {}
        other => return Some(format!("a single {other} is never linked, only whole interfaces")),
    }
    let (id, version) = match item.name.split_once('@') {
        Some((id, version)) => (id, Some(version)),
        None => (item.name.as_str(), None),
    };
    if TRAINING.contains(&id) {
        let found = version.map_or_else(|| "none".to_owned(), |version| format!("`{version}`"));
        // Linking decides about the patch, as for WASI.
        return version.and_then(|version| patch(version, TRAINING_MINOR)).is_none().then(|| {
            format!(
                "this host has version `{TRAINING_MINOR}{TRAINING_PATCH}` of it, not {found}: build against this release's `wit/`"
            )
        });
    }
    if id.starts_with("strongroom:") {
        return Some("strongroom has no such interface: build against this release's `wit/`".to_owned());
    }
    if !id.starts_with("wasi:") {
        return Some("it is no interface of strongroom or of WASI 0.2: build without it".to_owned());
    }
    refuse_wasi(id, version)
}

fn refuse_wasi(id: &str, version: Option<&str>) -> Option<String> {
    if version.is_some_and(|version| version.starts_with("0.3.")) {
        return Some(
            "it needs WASI 0.3, which is not supported yet: build for `wasm32-wasip2`, which is WASI 0.2".to_owned(),
        );
    }
    if id.starts_with("wasi:http/") {
        return Some(
            "no policy can grant HTTP yet: build without it, or use a TCP address that the policy's `tcp` lists"
                .to_owned(),
        );
    }
    if !WASI.contains(&id) {
        return Some("this part of WASI is not linked: build without it".to_owned());
    }
    // Linking decides about a newer patch: the engine has all functions that the component imports, or
    // the error names the first that is missing.
    match version.and_then(|version| patch(version, WASI_MINOR)) {
        Some(_) => None,
        None => Some("only released versions of WASI 0.2 are linked: build for `wasm32-wasip2`".to_owned()),
    }
}

/// Returns the patch number of a released version that starts with `minor`, such as `0.2.`.
fn patch(version: &str, minor: &str) -> Option<u64> {
    let patch = version.strip_prefix(minor)?;
    let plain = patch.bytes().all(|byte| byte.is_ascii_digit()) && (patch == "0" || !patch.starts_with('0'));
    if plain { patch.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
