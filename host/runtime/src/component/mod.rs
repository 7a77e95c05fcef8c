//! Turns a file into a component that can be instantiated, in two steps.
//!
//! [`Loader::read`] reads the bytes once and determines from their top-level sections whether they
//! are a component and what it imports. An error here occurs before a run begins.
//! [`Loader::compile`] then compiles the same bytes, or takes their code from memory or from the
//! store. It belongs to the run and may exceed the run's `compile-time`. If several runs need the
//! same new component, one compilation serves them all, and each run waits as long as its own
//! policy allows.

mod candidate;
mod flight;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use wasmtime::Engine;
use wasmtime::component::Component;

use self::candidate::Inspect;
pub use self::candidate::{Candidate, LoadError};
use self::flight::{Flight, WeakFlight};
use super::compile::{Compile, CompileError, shown};
use super::engine::EngineHash;
use super::execute::Linked;
use super::imports::Interfaces;
use super::observer::Observer;
use super::store::{AuthenticatedCode, CodeStore, StoredCode};
use super::{error_text, text};
use strongroom_core::ids::Digest;

/// The default maximum size of a component, in bytes. A packed Python interpreter has 18 MB.
pub const COMPONENT_MAX: u64 = 64 * 1024 * 1024;

/// How many loaded components are kept in memory for later runs.
const KEPT: usize = 64;

/// The maximum total size of the components kept in memory, code and files, in bytes. Code is in
/// memory once, whether it was copied there or is mapped from a sealed file.
const KEPT_BYTES: usize = 512 * 1024 * 1024;

/// A component ready to be instantiated.
#[derive(Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The SHA-256 digest of the bytes that were compiled.
    pub digest: Digest,
    /// The number of those bytes.
    pub bytes: u64,
    /// The component itself.
    pub component: Component,
    /// What it imports and exports.
    pub interfaces: Arc<Interfaces>,
    /// The linked component, set when a run first needs it.
    pub(crate) linked: Linked,
    /// Warnings for the operator, for example that stored code differed from what the store had
    /// written.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("digest", &self.digest).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Reads and compiles components for one engine. One loader serves a whole process.
#[derive(Clone, Debug)]
pub struct Loader(Arc<Inner>);

struct Inner {
    engine: Engine,
    engine_hash: EngineHash,
    compile: Compile,
    store: Option<Arc<CodeStore>>,
    component_max: u64,
    state: Mutex<State>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("compile", &self.compile).field("store", &self.store).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// Loaded components, in order of last use, the most recent last.
    kept: Vec<Kept>,
    /// Components that are being compiled. Each entry stays valid as long as a run waits for it.
    flights: HashMap<Digest, WeakFlight>,
}

struct Kept {
    digest: Digest,
    component: Component,
    linked: Linked,
    /// Total size of the code and the file, in bytes.
    bytes: usize,
}

/// The outcome of a flight.
#[derive(Clone)]
struct Made {
    component: Component,
    linked: Linked,
    warnings: Arc<[String]>,
}

impl Loader {
    /// Returns a loader for an engine, for components of up to [`COMPONENT_MAX`] bytes.
    pub fn new(engine: Engine, compile: Compile, store: Option<CodeStore>) -> Self {
        Self::with_component_max(engine, compile, store, COMPONENT_MAX)
    }

    /// Returns a loader with another maximum size of components, in bytes.
    pub fn with_component_max(engine: Engine, compile: Compile, store: Option<CodeStore>, component_max: u64) -> Self {
        let engine_hash = EngineHash::of(&engine);
        let store = store.map(Arc::new);
        Self(Arc::new(Inner { engine, engine_hash, compile, store, component_max, state: Mutex::default() }))
    }

    /// Reads a component's file once, without compiling it. Digest, interfaces and compiled code
    /// all belong to the bytes read here.
    ///
    /// # Errors
    /// [`LoadError`]; nothing was created or changed.
    pub async fn read(&self, path: &Path) -> Result<Candidate, LoadError> {
        self.read_as(path, Inspect::Runner).await
    }

    /// Reads a component for a world of the embedder's own. The linker of that world decides about
    /// its imports and exports; [`Candidate::refused`] does not apply.
    ///
    /// # Errors
    /// [`LoadError`]; nothing was created or changed.
    pub async fn read_for_world(&self, path: &Path) -> Result<Candidate, LoadError> {
        self.read_as(path, Inspect::Own).await
    }

    async fn read_as(&self, path: &Path, inspect: Inspect) -> Result<Candidate, LoadError> {
        let (path, max) = (path.to_owned(), self.0.component_max);
        let name = path.clone();
        let reading = tokio::task::spawn_blocking(move || Candidate::read_as(&path, max, inspect));
        reading.await.unwrap_or(Err(LoadError::Interrupted { path: name }))
    }

    /// Inspects a component that is already in memory. Do not call this on an executor's thread if
    /// the component is large.
    ///
    /// # Errors
    /// [`LoadError`], with `name` in place of the path.
    pub fn take(&self, name: &Path, bytes: Bytes) -> Result<Candidate, LoadError> {
        Candidate::new(name, bytes, self.0.component_max, Inspect::Runner)
    }

    /// Makes a candidate ready to run and waits at most `time` for that. The observer is notified
    /// of compilation, but not of loading code that is already available. This does not check
    /// imports: check [`Candidate::refused`] first.
    ///
    /// # Errors
    /// [`CompileError`]. [`CompileError::Invalid`] is a fault in the file just as [`LoadError`] is,
    /// but only a compiler can find it.
    pub async fn compile(
        &self,
        candidate: &Candidate,
        time: Duration,
        observer: &dyn Observer,
    ) -> Result<Loaded, CompileError> {
        let loaded = |made: Made| Loaded {
            digest: *candidate.digest(),
            bytes: candidate.len(),
            component: made.component,
            linked: made.linked,
            interfaces: Arc::clone(candidate.interfaces()),
            warnings: made.warnings.to_vec(),
        };
        let flight = match self.lookup(candidate) {
            Ok(made) => return Ok(loaded(made)),
            Err(flight) => flight,
        };
        match tokio::time::timeout(time, flight.watched(|compiling| observer.compiling(compiling))).await {
            Ok(made) => made.map(loaded),
            Err(_elapsed) => Err(CompileError::Limit(format!(
                "compiling the component took longer than {}; raise `compile-time` in the policy's `[limits]`, or use a smaller component",
                shown(time)
            ))),
        }
    }

    /// Returns the component if it is in memory, or else the flight that compiles it, which is
    /// started if there is none.
    fn lookup(&self, candidate: &Candidate) -> Result<Made, Flight> {
        let mut state = self.0.lock();
        if let Some(at) = state.kept.iter().position(|kept| kept.digest == *candidate.digest()) {
            let kept = state.kept.remove(at);
            let (component, linked) = (kept.component.clone(), kept.linked.clone());
            state.kept.push(kept);
            return Ok(Made { component, linked, warnings: Arc::default() });
        }
        if let Some(flight) = state.flights.get(candidate.digest()).and_then(WeakFlight::join) {
            return Err(flight);
        }
        let (inner, digest, bytes) = (Arc::clone(&self.0), *candidate.digest(), candidate.bytes().clone());
        let flight = Flight::start(move |compiling| async move { inner.make(digest, bytes, compiling).await });
        state.flights.insert(digest, flight.downgrade());
        Err(flight)
    }
}

impl Inner {
    // Ignoring poisoning is sound: no code that holds the lock can panic during a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work of a flight: takes the code from the store or compiles it, then keeps the
    /// component in memory.
    async fn make(
        self: Arc<Self>,
        digest: Digest,
        bytes: Bytes,
        compiling: watch::Sender<bool>,
    ) -> Result<Made, CompileError> {
        let file_bytes = bytes.len();
        let (mut warnings, linked) = (Vec::new(), Linked::default());
        let made = match self.stored(digest, &mut warnings).await {
            Some(made) => Ok(made),
            None => self.compiled(digest, bytes, &compiling, &mut warnings).await,
        };
        let mut state = self.lock();
        // If the flight was abandoned and a new one started meanwhile, this removes the new one
        // from the table. Its current waiters still share it.
        state.flights.remove(&digest);
        let (component, code_bytes) = made?;
        let bytes = code_bytes.saturating_add(file_bytes);
        state.keep(Kept { digest, component: component.clone(), linked: linked.clone(), bytes });
        Ok(Made { component, linked, warnings: warnings.into() })
    }

    async fn stored(&self, digest: Digest, warnings: &mut Vec<String>) -> Option<(Component, usize)> {
        let store = Arc::clone(self.store.as_ref()?);
        let (engine, engine_hash) = (self.engine.clone(), self.engine_hash);
        let looking = tokio::task::spawn_blocking(move || match store.get(&digest, &engine_hash) {
            StoredCode::Absent => Ok(None),
            StoredCode::Unusable(why) => Err(why),
            StoredCode::Code(code) => match code.load(&engine) {
                Ok(component) => Ok(Some((component, code.len()))),
                Err(error) => {
                    let why = error_text::format(&error, super::compile::MESSAGE_MAX);
                    Err(format!("the stored code of this component cannot be loaded: {why}; it was compiled again"))
                }
            },
        });
        match looking.await {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => {
                warnings.push(text::bounded(&why, super::compile::MESSAGE_MAX));
                None
            }
            Err(_panic) => None,
        }
    }

    async fn compiled(
        &self,
        digest: Digest,
        bytes: Bytes,
        compiling: &watch::Sender<bool>,
        warnings: &mut Vec<String>,
    ) -> Result<(Component, usize), CompileError> {
        compiling.send_replace(true);
        let code = self.compile.compile(&self.engine, &self.engine_hash, bytes).await?;
        let (engine, engine_hash, store) = (self.engine.clone(), self.engine_hash, self.store.clone());
        let loading =
            tokio::task::spawn_blocking(move || load_and_keep(&code, &engine, store.as_deref(), &digest, &engine_hash));
        let (component, code_bytes, warning) =
            loading.await.map_err(|_| CompileError::Host("loading the component's code failed".to_owned()))??;
        warnings.extend(warning);
        Ok((component, code_bytes))
    }
}

fn load_and_keep(
    code: &AuthenticatedCode,
    engine: &Engine,
    store: Option<&CodeStore>,
    digest: &Digest,
    engine_hash: &EngineHash,
) -> Result<(Component, usize, Option<String>), CompileError> {
    let component = code.load(engine).map_err(|error| {
        // The code is this engine's own, so the error concerns what it requests: too many
        // instances, memories or tables.
        let message = error_text::format(&error, super::compile::MESSAGE_MAX);
        CompileError::Invalid(format!("needs more than a run may have: {message}; build it smaller"))
    })?;
    let kept = store.map_or(Ok(()), |store| store.put(digest, engine_hash, code));
    let warning = kept.err().map(|error| format!("the compiled code was not kept: {error}"));
    Ok((component, code.len(), warning))
}

impl State {
    fn keep(&mut self, kept: Kept) {
        self.kept.retain(|other| other.digest != kept.digest);
        self.kept.push(kept);
        let mut bytes = self.kept.iter().fold(0usize, |sum, kept| sum.saturating_add(kept.bytes));
        while self.kept.len() > KEPT || (bytes > KEPT_BYTES && self.kept.len() > 1) {
            bytes = bytes.saturating_sub(self.kept.remove(0).bytes);
        }
    }
}

#[cfg(test)]
mod tests;
