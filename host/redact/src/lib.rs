//! The redactor: takes the values that one run was given, or has set, out of everything of the run's that is shown or stored.
//!
//! A [`Redactor`] is the set of values of one run. Text goes through it whole ([`Redactor::redact`]) or as a stream
//! ([`RedactStream`]), and each stretch that holds a value comes out as `[redacted:NAME]`.
//!
//! **It is a safety net, not the boundary.** What is covered is the exact output of the encoders listed in `encoders`, and nothing
//! else: a component can transform what it was given in ways that no list foresees. The boundary is what the policy hands out.
//!
//! # What comes out
//! Call *needle* whatever an encoder makes of a value. Every byte that lies in any occurrence of any needle is covered, wherever
//! occurrences overlap, chain or contain each other; nothing else is. Each longest stretch of covered bytes becomes one marker, which
//! names the value whose needle starts the stretch (the longest one that starts there; of equal ones the first registered).
//! So the result depends on the bytes and the values alone, never on how a stream was cut into chunks.
//!
//! # How it is found
//! - `needles` keeps, of each needle, the first few bytes and how to make the rest again from the value. Holding all encodings of a
//!   25 KiB value would take megabytes; with the text at hand that is only needed while a long needle is being matched.
//! - `tier` holds an Aho-Corasick automaton over those beginnings. Values arrive one by one while a run goes on, so there are
//!   several, merged like the levels of a log-structured store: each value is built into few automata, not into one per arrival.
//! - `scan` steps the automata through the text and follows long needles with Knuth-Morris-Pratt: the time per byte does not depend on
//!   what the text or the values are, except that long needles which share a long beginning are followed one by one.
//! - `filter` passes over the stretches in which no needle begins, at several gigabytes a second; only what it cannot rule out is
//!   read byte by byte.
//! - `stream` keeps the bytes that are not decided: those from the earliest place where a needle may have begun. With nothing
//!   begun, nothing is held back, so a prompt without a newline appears at once.
//!
//! # Memory
//! Values, beginnings, encodings in the making, and bytes held back are in buffers that are overwritten when dropped. The automata
//! are not: the crate that builds them offers no way. They hold the first `needles::HEAD` bytes of each needle, which
//! is all of a short value, and more of those that begin alike. The tables of the filter, which hold hashes of those, are.

#[cfg(test)]
mod compare;
mod encoders;
mod filter;
mod needles;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod planted;
#[cfg(any(test, feature = "oracle"))]
pub mod reference;
mod scan;
mod stream;
#[cfg(test)]
mod tests;
mod tier;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::encoders::{MIN_LINE, MIN_VALUE};
pub use self::stream::RedactStream;
use strongroom_core::escape::escape_controls;

use self::needles::{Entry, Known};
use self::tier::{Snapshot, Tier};
use strongroom_core::ids::SecretName;
use strongroom_core::secret::Secret;

/// The most bytes of values that one redactor covers: about 330 values of the greatest length. Values made to begin alike are followed one by
/// one, so this also bounds what a component that sets such values can make a byte of its output cost.
pub const VALUES_MAX: usize = 8 * 1024 * 1024;

/// The most needles that one redactor covers. A password has twenty to a hundred, no value more than about three hundred and two for each of its
/// lines.
pub const NEEDLES_MAX: usize = 1 << 20;

/// How much of a long text is read at a time where only its beginning is wanted, in bytes.
const START_CHUNK: usize = 4 * 1024;

/// What a stretch becomes where every longer marker would itself hold a registered value (a value can be the word `redacted`). No
/// needle is as short.
const LAST_MARKER: &str = "***";

/// The set of values that one run was given or has set, and the count of what was taken out for it.
///
/// Clones share one set. A value that is too short to be redacted is accepted and not covered: one shorter than [`MIN_VALUE`] or
/// of nothing but white space. Its lines are covered by themselves from [`MIN_LINE`] bytes on.
///
/// ```
/// use strongroom_core::ids::SecretName;
/// use strongroom_redact::Redactor;
/// use strongroom_core::secret::Secret;
///
/// let redactor = Redactor::new();
/// redactor.register(&SecretName::parse("db-password")?, &Secret::new("hunter2hunter2".to_owned())?);
/// assert_eq!(redactor.redact("the password is hunter2hunter2"), "the password is [redacted:db-password]");
/// // A stream may be cut anywhere.
/// let (mut stream, mut out) = (redactor.stream(), Vec::new());
/// stream.push(b"hunter2h", &mut out);
/// stream.push(b"unter2", &mut out);
/// stream.finish(&mut out);
/// assert_eq!(out, b"[redacted:db-password]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Redactor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Equal to the number of effective registrations, so that a stream sees without the lock that it is behind.
    generation: AtomicU64,
    replaced: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Registered and not yet in a tier.
    pending: Vec<Arc<Entry>>,
    snapshot: Arc<Snapshot>,
    /// To recognise values that are registered already.
    known: HashSet<Known>,
    bytes: usize,
    /// How many needles the values have; of those that are pending, at most.
    needles: usize,
    /// No needle has fewer bytes than this. Zero while nothing is registered.
    shortest: usize,
    blind: bool,
    /// Whether to read byte by byte, to be held against.
    #[cfg(test)]
    unfiltered: bool,
}

impl Redactor {
    /// A redactor that covers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that reads every byte.
    #[cfg(test)]
    fn unfiltered() -> Self {
        let redactor = Self::default();
        redactor.lock().unfiltered = true;
        redactor
    }

    /// Leaves no room for another value, as values of [`VALUES_MAX`] would.
    #[cfg(any(test, feature = "oracle"))]
    pub fn fill(&self) {
        self.lock().bytes = VALUES_MAX;
    }

    /// Covers a value from now on, in every text and in every stream, also those already open, for bytes not yet released.
    ///
    /// Registering a value again changes nothing; where it was registered under another name, the first name stays. A name may have
    /// several values.
    ///
    /// Beyond [`VALUES_MAX`] or [`NEEDLES_MAX`] the redactor fails closed: from then on it withholds everything. Ask
    /// [`has_room`](Self::has_room) first and refuse the value instead.
    pub fn register(&self, name: &SecretName, value: &Secret) {
        if !self.register_where_room(name, value) {
            let mut state = self.lock();
            if !std::mem::replace(&mut state.blind, true) {
                self.0.generation.fetch_add(1, Ordering::Release);
            }
        }
    }

    /// The same, but beyond what there is room for it registers nothing and says so.
    pub fn register_where_room(&self, name: &SecretName, value: &Secret) -> bool {
        let text = value.expose();
        let mut state = self.lock();
        let state = &mut *state;
        if state.blind {
            return false;
        }
        if !encoders::is_covered(text) || state.known.contains(text) {
            return true;
        }
        if !state.room_for(text.len()) {
            return false;
        }
        let entry = Arc::new(Entry::new(name.clone(), text));
        state.bytes = state.bytes.saturating_add(text.len());
        state.needles = state.needles.saturating_add(encoders::needles_at_most(text.len()));
        let shortest = encoders::shortest_needle(text);
        state.shortest = if state.shortest == 0 { shortest } else { state.shortest.min(shortest) };
        state.known.insert(Known(Arc::clone(&entry)));
        state.pending.push(entry);
        self.0.generation.fetch_add(1, Ordering::Release);
        true
    }

    /// Whether a value of this length can be registered without passing [`VALUES_MAX`] or [`NEEDLES_MAX`].
    pub fn has_room(&self, value: &Secret) -> bool {
        let mut state = self.lock();
        !state.blind && state.room_for(value.len())
    }

    /// Redacts a whole text: a name, an error, a message. Redact first, then cut to length or escape: a value that was cut or escaped is
    /// not found.
    pub fn redact(&self, text: &str) -> String {
        // Needles are whole texts and markers too, so that what is left of a text is a text; the lossy way out is never taken.
        String::from_utf8(self.redact_bytes(text.as_bytes()))
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// A component's text as it may stand in a frame of ours (a name, a message, a reason): redacted, then escaped.
    pub fn shown(&self, text: &str) -> String {
        if self.is_below_every_needle(text) { escape_controls(text) } else { escape_controls(&self.redact(text)) }
    }

    /// The beginning of such a text, at most `max` characters of it, where a component may have sent millions. No more of it is read than that
    /// takes, and what is shown is a beginning of what [`shown`](Self::shown) shows of the whole.
    pub fn shown_start(&self, text: &str, max: usize) -> String {
        // Mostly a name: short, and asked for between two values that come in.
        let shown = if text.len() <= START_CHUNK && self.is_below_every_needle(text) {
            escape_controls(text)
        } else {
            // Where it ends in the middle of a character, that one is beyond `max`.
            escape_controls(&String::from_utf8_lossy(
                &self.redacted_start(text, max.saturating_mul(char::MAX.len_utf8())),
            ))
        };
        match shown.char_indices().nth(max) {
            Some((end, _)) => format!("{}…", shown.get(..end).unwrap_or_default()),
            None => shown,
        }
    }

    /// Redacts a whole buffer, which need not be text.
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut stream = self.stream();
        stream.push(bytes, &mut out);
        stream.finish(&mut out);
        out
    }

    /// A redactor for one output stream. Each stream (standard output, standard error) has its own.
    pub fn stream(&self) -> RedactStream {
        RedactStream::new(self.clone())
    }

    /// How many markers were written so far, over all streams and texts.
    pub fn count(&self) -> u64 {
        self.0.replaced.load(Ordering::Relaxed)
    }

    fn count_one(&self) {
        self.0.replaced.fetch_add(1, Ordering::Relaxed);
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// The beginning of a redacted text, of at least so many bytes where it has them.
    fn redacted_start(&self, text: &str, enough: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stream = self.stream();
        let mut chunks = text.as_bytes().chunks(START_CHUNK);
        while out.len() <= enough {
            let Some(chunk) = chunks.next() else {
                stream.finish(&mut out);
                break;
            };
            stream.push(chunk, &mut out);
        }
        out
    }

    /// Whether a text is shorter than whatever is looked for, so that nothing can be found in it. That needs no automaton of the latest values.
    fn is_below_every_needle(&self, text: &str) -> bool {
        let state = self.lock();
        !state.blind && (state.shortest == 0 || text.len() < state.shortest)
    }

    /// The set as it is now, built if values arrived since the last time.
    fn snapshot(&self) -> Arc<Snapshot> {
        let mut state = self.lock();
        // Read under the lock, under which it is written: what is built here covers exactly this many registrations.
        let generation = self.generation();
        if state.snapshot.generation() != generation {
            let pending = state.settle();
            let tiers = Tier::grow(state.snapshot.tiers(), pending);
            state.blind |= tiers.is_none();
            let tiers = if state.blind { None } else { tiers };
            let snapshot = Snapshot::new(generation, tiers);
            #[cfg(test)]
            let snapshot = if state.unfiltered { snapshot.without_filter() } else { snapshot };
            state.snapshot = Arc::new(snapshot);
        }
        Arc::clone(&state.snapshot)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock leaves the state half changed, so that a panic elsewhere does not make it unusable.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn room_for(&mut self, len: usize) -> bool {
        let needles = encoders::needles_at_most(len);
        if self.needles.saturating_add(needles) > NEEDLES_MAX {
            // Perhaps there are not as many as there could be.
            let pending = self.settle();
            self.pending = pending;
        }
        self.bytes.saturating_add(len) <= VALUES_MAX && self.needles.saturating_add(needles) <= NEEDLES_MAX
    }

    /// Takes the pending values with their needles, which are counted now as they are.
    fn settle(&mut self) -> Vec<Arc<Entry>> {
        let pending = std::mem::take(&mut self.pending);
        for entry in &pending {
            if let Some(surplus) = entry.surplus() {
                self.needles = self.needles.saturating_sub(surplus);
            }
        }
        pending
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("registered", &self.generation()).field("count", &self.count()).finish()
    }
}
