//! From a file to a component that can be instantiated.
//!
//! In two steps. [`Loader::read`] takes the bytes once, and tells from their top-level sections whether this is a component at all and what
//! it asks for: what is wrong there is wrong before a run begins. [`Loader::compile`] then makes code of those same bytes, or takes it from
//! memory or the store: it may run into the run's `compile-time`, and belongs to the run. Of many runs of one new component, one compiles
//! and all wait for it, each as long as its own policy allows.

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
use super::store::{AuthenticatedCode, CodeStore, Found};
use super::{error_text, text};
use strongroom_core::ids::Digest;

/// The largest component that is accepted, in bytes, unless told otherwise. A packed Python interpreter has 18 MB.
pub const COMPONENT_MAX: u64 = 64 * 1024 * 1024;

/// How many loaded components are kept in memory for the next run.
const KEPT: usize = 64;

/// How much the components kept may have in sum, code and files, in bytes. Code is in memory once, whether it was copied there or is mapped from a
/// sealed file.
const KEPT_BYTES: usize = 512 * 1024 * 1024;

/// A component ready to be instantiated.
#[derive(Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The SHA-256 digest of the bytes that were compiled.
    pub digest: Digest,
    /// How many bytes those were.
    pub bytes: u64,
    /// The component itself.
    pub component: Component,
    /// What it imports and exports.
    pub interfaces: Arc<Interfaces>,
    /// The component linked, once a run has needed that.
    pub(crate) linked: Linked,
    /// What an operator should know, such as stored code that was not what the store had written.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("digest", &self.digest).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Reads and compiles components for one engine. One serves a whole process.
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
    /// Loaded components, the one used last at the end.
    kept: Vec<Kept>,
    /// Those that are being made. They live as long as somebody waits.
    flights: HashMap<Digest, WeakFlight>,
}

struct Kept {
    digest: Digest,
    component: Component,
    linked: Linked,
    /// Of its code and its file.
    bytes: usize,
}

/// What a flight brings home.
#[derive(Clone)]
struct Made {
    component: Component,
    linked: Linked,
    warnings: Arc<[String]>,
}

impl Loader {
    /// A loader for an engine, with components up to [`COMPONENT_MAX`].
    pub fn new(engine: Engine, compile: Compile, store: Option<CodeStore>) -> Self {
        Self::with_component_max(engine, compile, store, COMPONENT_MAX)
    }

    /// A loader with another bound on the size of components, in bytes.
    pub fn with_component_max(engine: Engine, compile: Compile, store: Option<CodeStore>, component_max: u64) -> Self {
        let engine_hash = EngineHash::of(&engine);
        let store = store.map(Arc::new);
        Self(Arc::new(Inner { engine, engine_hash, compile, store, component_max, state: Mutex::default() }))
    }

    /// Reads a component's file, once: digest, interfaces and compiled code are those of the bytes read here. Compiles nothing.
    ///
    /// # Errors
    /// [`LoadError`]; nothing was created or changed.
    pub async fn read(&self, path: &Path) -> Result<Candidate, LoadError> {
        self.read_as(path, Inspect::Runner).await
    }

    /// As [`Loader::read`], of a component for a world of the embedder's own: what it exports and imports is for that world's linker to judge, and
    /// [`Candidate::refused`] has no say in it.
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

    /// Takes a component that is in memory already. Not for an executor's thread where it is large.
    ///
    /// # Errors
    /// [`LoadError`], with `name` in the place of the path.
    pub fn take(&self, name: &Path, bytes: Bytes) -> Result<Candidate, LoadError> {
        Candidate::new(name, bytes, self.0.component_max, Inspect::Runner)
    }

    /// Makes a candidate ready to run, and waits for that at most `time`. The observer hears of compiling, not of loading code that is
    /// at hand. Imports are not looked at here: [`Candidate::refused`] comes first.
    ///
    /// # Errors
    /// [`CompileError`]. [`CompileError::Invalid`] is a fault in the file as much as [`LoadError`] is, found later because finding it
    /// takes a compiler.
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

    /// The component, where it is at hand, or else the flight that is to bring it, started where there is none.
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
    // No code that holds the lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The work of a flight: store, else compiler; then memory.
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
        // A flight that was given up and begun anew meanwhile is joined by nobody else but those who hold it.
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
            Found::Absent => Ok(None),
            Found::Unusable(why) => Err(why),
            Found::Code(code) => match code.load(&engine) {
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
        // The code is this engine's own, so what is wrong is what it asks for: too many instances, memories or tables.
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
