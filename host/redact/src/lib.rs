//! Streaming redactor: removes the secret values that a run was given, or has set, from everything
//! of that run that is shown or stored.
//!
//! A [`Redactor`] holds the values of one run. It redacts a whole text ([`Redactor::redact`]) or a
//! stream ([`RedactStream`]), and replaces each range that contains a value with `[redacted:NAME]`.
//!
//! **Redaction is a safety net, not the boundary.** It covers the exact output of the encoders in
//! `encoders` and nothing else: a component can transform a value in ways that no list anticipates.
//! The boundary is what the policy grants.
//!
//! # Output
//! A *needle* is the output of an encoder for a value. The redactor covers every byte of every
//! occurrence of every needle, even where occurrences overlap, adjoin or contain each other, and no
//! other byte. Each maximal range of covered bytes becomes one marker. The marker names the value
//! whose needle starts the range; if several do, the longest needle, and of equal needles the one
//! registered first. The result therefore depends only on the bytes and the values, not on how a
//! stream was split into chunks.
//!
//! # Algorithm
//! - `needles` stores the first bytes of each needle and how to compute the rest from the value.
//!   Storing all encodings of a 25 KiB value would take megabytes; the rest is needed only while a
//!   long needle is being matched.
//! - `tier` builds Aho-Corasick automata over these first bytes. Values arrive during a run, so
//!   there are several automata, merged like the levels of a log-structured merge tree. Each value
//!   is built into few automata instead of into a new one per arrival.
//! - `scan` runs the automata over the text and tracks long needles with Knuth-Morris-Pratt. The
//!   time per byte does not depend on text or values, except that long needles with a long common
//!   prefix are tracked one by one.
//! - `filter` skips ranges in which no needle starts, at several gigabytes per second. The scanner
//!   reads only the rest byte by byte.
//! - `stream` holds back undecided bytes: those from the earliest position at which a needle may
//!   have started. If no needle has started, it holds back nothing, so a prompt without a newline
//!   appears at once.
//!
//! # Memory
//! Values, stored first bytes, partial encodings, held-back bytes and the filter's tables of hashes
//! are zeroized when they are dropped. The automata are not, because `aho-corasick` offers no way
//! to do it. They contain the first `needles::HEAD` bytes of each needle, which is all of a short
//! value, and more of needles with a common prefix.

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

use self::needles::{Entry, EntryByValue};
use self::tier::{Snapshot, Tier};
use strongroom_core::ids::SecretName;
use strongroom_core::secret::Secret;

/// The maximum total length of the values of one redactor in bytes: about 330 values of maximum
/// length. Values with a common prefix are tracked one by one, so this also bounds the cost per
/// byte of output of a component that sets such values.
pub const VALUES_MAX: usize = 8 * 1024 * 1024;

/// The maximum number of needles of one redactor. A password has 20 to 100; a value has at most
/// about 300, and two more for each of its lines.
pub const NEEDLES_MAX: usize = 1 << 20;

/// The number of bytes read at a time if only the start of a long text is needed.
const PREFIX_CHUNK: usize = 4 * 1024;

/// The marker if every longer one would itself contain a registered value, such as the word
/// `redacted`. No needle is this short.
const LAST_MARKER: &str = "***";

/// The values that one run was given or has set, and the count of redactions.
///
/// Clones share the values and the count. A value that is too short to redact is accepted but not
/// covered: one shorter than [`MIN_VALUE`] or of only white space. Each line of a value is also
/// covered on its own if it has at least [`MIN_LINE`] bytes.
///
/// ```
/// use strongroom_core::ids::SecretName;
/// use strongroom_redact::Redactor;
/// use strongroom_core::secret::Secret;
///
/// let redactor = Redactor::new();
/// redactor.register(&SecretName::parse("db-password")?, &Secret::new("hunter2hunter2".to_owned())?);
/// assert_eq!(redactor.redact("the password is hunter2hunter2"), "the password is [redacted:db-password]");
/// // A stream may be split anywhere.
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
    /// The number of effective registrations. A stream compares it without taking the lock.
    generation: AtomicU64,
    replaced: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Registered values that are not in a tier yet.
    pending: Vec<Arc<Entry>>,
    snapshot: Arc<Snapshot>,
    /// All registered values, to detect duplicates.
    registered: HashSet<EntryByValue>,
    bytes: usize,
    /// The number of needles of all values; for pending values, an upper bound.
    needles: usize,
    /// A lower bound for the length of a needle; zero if no value is registered.
    shortest: usize,
    closed: bool,
    /// Disables the filter, for comparison.
    #[cfg(test)]
    unfiltered: bool,
}

impl Redactor {
    /// Creates a redactor without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a redactor that does not use the filter.
    #[cfg(test)]
    fn unfiltered() -> Self {
        let redactor = Self::default();
        redactor.lock().unfiltered = true;
        redactor
    }

    /// Uses up the capacity, as values of [`VALUES_MAX`] bytes would.
    #[cfg(any(test, feature = "oracle"))]
    pub fn fill(&self) {
        self.lock().bytes = VALUES_MAX;
    }

    /// Covers a value from now on in every text and every stream, including bytes that open streams
    /// have not released.
    ///
    /// Registering a value again has no effect, even under another name. A name may have several
    /// values.
    ///
    /// Beyond [`VALUES_MAX`] or [`NEEDLES_MAX`] the redactor fails closed: it withholds all further
    /// output. Use [`try_register`](Self::try_register) to refuse the value instead.
    pub fn register(&self, name: &SecretName, value: &Secret) {
        if !self.try_register(name, value) {
            let mut state = self.lock();
            if !std::mem::replace(&mut state.closed, true) {
                self.0.generation.fetch_add(1, Ordering::Release);
            }
        }
    }

    /// Covers a value as [`register`](Self::register) does, but returns `false` and registers
    /// nothing if the capacity is exceeded.
    pub fn try_register(&self, name: &SecretName, value: &Secret) -> bool {
        let text = value.expose();
        let mut state = self.lock();
        let state = &mut *state;
        if state.closed {
            return false;
        }
        if !encoders::is_covered(text) || state.registered.contains(text) {
            return true;
        }
        if !state.has_capacity_for(text.len()) {
            return false;
        }
        let entry = Arc::new(Entry::new(name.clone(), text));
        state.bytes = state.bytes.saturating_add(text.len());
        state.needles = state.needles.saturating_add(encoders::needles_at_most(text.len()));
        let shortest = encoders::shortest_needle(text);
        state.shortest = if state.shortest == 0 { shortest } else { state.shortest.min(shortest) };
        state.registered.insert(EntryByValue(Arc::clone(&entry)));
        state.pending.push(entry);
        self.0.generation.fetch_add(1, Ordering::Release);
        true
    }

    /// Returns whether a value of this length can be registered without exceeding [`VALUES_MAX`] or
    /// [`NEEDLES_MAX`].
    pub fn has_capacity(&self, value: &Secret) -> bool {
        let mut state = self.lock();
        !state.closed && state.has_capacity_for(value.len())
    }

    /// Redacts a whole text, such as a name or an error. Redact before truncating or escaping: a
    /// truncated or escaped value is not found.
    pub fn redact(&self, text: &str) -> String {
        // Needles and markers are valid UTF-8, so removing needles from a text leaves valid UTF-8
        // and the lossy conversion is never used.
        String::from_utf8(self.redact_bytes(text.as_bytes()))
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Redacts and then escapes text of a component for use inside the host's output, such as a
    /// name, a message or a reason.
    pub fn sanitize(&self, text: &str) -> String {
        if self.is_below_every_needle(text) { escape_controls(text) } else { escape_controls(&self.redact(text)) }
    }

    /// Returns the first `max` characters of [`sanitize`](Self::sanitize) of a text that may be
    /// very long, without reading more of the text than necessary. A truncated result ends in `…`.
    pub fn sanitize_prefix(&self, text: &str, max: usize) -> String {
        // Usually a short name that is requested between two registrations.
        let shown = if text.len() <= PREFIX_CHUNK && self.is_below_every_needle(text) {
            escape_controls(text)
        } else {
            // A character that is cut at the end lies beyond `max`.
            escape_controls(&String::from_utf8_lossy(
                &self.redacted_prefix(text, max.saturating_mul(char::MAX.len_utf8())),
            ))
        };
        match shown.char_indices().nth(max) {
            Some((end, _)) => format!("{}…", shown.get(..end).unwrap_or_default()),
            None => shown,
        }
    }

    /// Redacts a whole buffer, which need not be valid UTF-8.
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut stream = self.stream();
        stream.push(bytes, &mut out);
        stream.finish(&mut out);
        out
    }

    /// Returns a redactor for one output stream. Standard output and standard error each need their
    /// own.
    pub fn stream(&self) -> RedactStream {
        RedactStream::new(self.clone())
    }

    /// Returns the number of markers written so far, over all streams and texts.
    pub fn count(&self) -> u64 {
        self.0.replaced.load(Ordering::Relaxed)
    }

    fn count_one(&self) {
        self.0.replaced.fetch_add(1, Ordering::Relaxed);
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Returns the start of a redacted text: at least `enough` bytes if it has them.
    fn redacted_prefix(&self, text: &str, enough: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stream = self.stream();
        let mut chunks = text.as_bytes().chunks(PREFIX_CHUNK);
        while out.len() <= enough {
            let Some(chunk) = chunks.next() else {
                stream.finish(&mut out);
                break;
            };
            stream.push(chunk, &mut out);
        }
        out
    }

    /// Returns whether a text is shorter than every needle and therefore contains none. This avoids
    /// building automata of the latest values.
    fn is_below_every_needle(&self, text: &str) -> bool {
        let state = self.lock();
        !state.closed && (state.shortest == 0 || text.len() < state.shortest)
    }

    /// Returns the current snapshot, and builds it if values arrived since the last call.
    fn snapshot(&self) -> Arc<Snapshot> {
        let mut state = self.lock();
        // The lock also guards writes, so the snapshot covers exactly this many registrations.
        let generation = self.generation();
        if state.snapshot.generation() != generation {
            let pending = state.take_pending();
            let tiers = Tier::grow(state.snapshot.tiers(), pending);
            state.closed |= tiers.is_none();
            let tiers = if state.closed { None } else { tiers };
            let snapshot = Snapshot::new(generation, tiers);
            #[cfg(test)]
            let snapshot = if state.unfiltered { snapshot.without_filter() } else { snapshot };
            state.snapshot = Arc::new(snapshot);
        }
        Arc::clone(&state.snapshot)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Ignores poisoning: no code that holds the lock leaves the state inconsistent.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_capacity_for(&mut self, len: usize) -> bool {
        let needles = encoders::needles_at_most(len);
        if self.needles.saturating_add(needles) > NEEDLES_MAX {
            // The count may be an overestimate.
            let pending = self.take_pending();
            self.pending = pending;
        }
        self.bytes.saturating_add(len) <= VALUES_MAX && self.needles.saturating_add(needles) <= NEEDLES_MAX
    }

    /// Takes the pending values and replaces the estimates of their needles with exact counts.
    fn take_pending(&mut self) -> Vec<Arc<Entry>> {
        let pending = std::mem::take(&mut self.pending);
        for entry in &pending {
            if let Some(excess) = entry.overestimate() {
                self.needles = self.needles.saturating_sub(excess);
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
