//! The ticker, which interrupts endless loops of guests.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

use super::EngineError;

/// How often the epoch advances while a run is alive. A run that exceeds its time ends within
/// slightly more than this.
pub const TICK: Duration = Duration::from_millis(10);

/// Advances the engine's epoch every [`TICK`] while at least one run is alive, so that guest code
/// returns control to the host.
///
/// It uses a dedicated thread, because an executor whose threads are all busy with guests could not
/// keep time. The thread sleeps while nothing runs. It goes to sleep one [`TICK`] after the last
/// run ends, so that a run that follows immediately need not wake it. The thread ends when the last
/// clone and the last [`Running`] are dropped.
#[derive(Clone)]
pub struct Ticker(Arc<Clock>);

/// Marks a run as alive. The epoch advances until this is dropped.
pub struct Running(Arc<Clock>);

struct Clock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    /// Whether the thread waits to be woken because no run is alive.
    asleep: bool,
    ended: bool,
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker").field("running", &self.0.shared.lock().running).finish()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

impl Ticker {
    /// Starts the thread, asleep.
    ///
    /// # Errors
    /// [`EngineError::Ticker`] if the system cannot start another thread.
    pub fn new(engine: &Engine) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let thread = std::thread::Builder::new().name("sandbox-time".to_owned()).spawn({
            let (shared, engine) = (Arc::clone(&shared), engine.clone());
            move || shared.tick(|| engine.increment_epoch())
        });
        let thread = Some(thread.map_err(EngineError::Ticker)?);
        Ok(Self(Arc::new(Clock { shared, thread })))
    }

    /// Keeps the epoch advancing until the returned value is dropped.
    #[must_use = "the epoch stands still when this is dropped"]
    pub fn run(&self) -> Running {
        let mut state = self.0.shared.lock();
        state.running = state.running.saturating_add(1);
        let asleep = state.asleep;
        drop(state);
        if asleep {
            self.0.shared.changed.notify_all();
        }
        Running(Arc::clone(&self.0))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.shared.lock();
        state.running = state.running.saturating_sub(1);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    // Ignoring poisoning is sound: no code that holds the lock can panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, mut increment: impl FnMut()) {
        let mut state = self.lock();
        while !state.ended {
            state.asleep = state.running == 0;
            state = if state.asleep {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                increment();
                self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compiling_engine;
    use super::*;

    #[test]
    fn ticker_advances_the_epoch_while_a_run_is_alive() {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let (ticks, seen) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.tick(|| {
                    let _ = ticks.send(());
                });
            }
        });
        let ticker = Ticker(Arc::new(Clock { shared, thread: Some(thread) }));
        assert!(seen.try_recv().is_err(), "nothing runs");
        let (first, second) = (ticker.run(), ticker.run());
        drop((ticker, first));
        while seen.try_recv().is_ok() {}
        // The first may have been due already; the next ones come because a run is alive.
        (0..3).for_each(|_| seen.recv().unwrap());
        drop(second);
        // The loop ends only when the thread has dropped the sender.
        seen.iter().for_each(drop);
    }

    #[tokio::test]
    async fn endless_loop_returns_to_the_host() {
        let engine = compiling_engine().unwrap();
        let bytes = wat::parse_str(
            r#"(component
                (core module $m (func (export "f") (loop (br 0))))
                (core instance $i (instantiate $m))
                (func $train (canon lift (core func $i "f")))
                (export "train" (func $train)))"#,
        );
        let component = wasmtime::component::Component::from_binary(&engine, &bytes.unwrap()).unwrap();
        let linker = wasmtime::component::Linker::<()>::new(&engine);
        let mut store = wasmtime::Store::new(&engine, ());
        store.set_epoch_deadline(2);
        let _running = Ticker::new(&engine).unwrap().run();
        let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
        let train = instance.get_typed_func::<(), ()>(&mut store, "train").unwrap();
        let error = train.call_async(&mut store, ()).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&wasmtime::Trap::Interrupt));
    }
}
