//! Draws the progress of a run on the last line of a terminal.
//!
//! The run only reports its status ([`Meter`]). A thread draws it several times per second, so a
//! slow or stopped terminal delays the drawing and not the run.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use strongroom::escape::escape_controls;
use strongroom::record::Progress;

/// How often the line is redrawn. A status that changes sooner is never drawn.
const PERIOD: Duration = Duration::from_millis(100);
/// The maximum number of draws per second, including those after output.
const RATE: u8 = 20;

/// The number of columns that stay free on the right.
const ECHO_WIDTH: u16 = 4;

const BAR: &str = "[{bar:24}] {wide_msg}";
const SPINNER: &str = "{spinner} {wide_msg}";

/// The status of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// When the compilation started, while it is running.
    pub(super) compiling: Option<Instant>,
    /// The component's last progress report.
    pub(super) progress: Option<Progress>,
}

/// Receives the status of a run and has it drawn.
pub(super) struct Meter {
    shared: Arc<Shared>,
    drawer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    status: Status,
    changed: bool,
    ended: bool,
}

impl Meter {
    /// Starts the drawing thread. Without a thread, nothing is drawn.
    pub(super) fn start(draw: impl Fn(&Status) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let drawer = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            while let Some(status) = watched.next() {
                draw(&status);
            }
        });
        Self { shared, drawer: Mutex::new(drawer.ok()) }
    }

    pub(super) fn compiling(&self, started: bool) {
        self.shared.update(|status| status.compiling = started.then(Instant::now));
    }

    pub(super) fn progress(&self, progress: &Progress) {
        self.shared.update(|status| status.progress = Some(progress.clone()));
    }

    /// Stops drawing. Nothing is drawn after this returns.
    pub(super) fn end(&self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        let drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drawer) = drawer {
            // A panic of the drawing thread is ignored.
            let _ = drawer.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the status. The lock is never held while drawing.
    fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut state = self.lock();
        change(&mut state.status);
        state.changed = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Returns what to draw next, after a pause; `None` at the end.
    fn next(&self) -> Option<Status> {
        let is_quiet = |state: &mut State| state.status == Status::default() && !state.changed && !state.ended;
        let state = self.changed.wait_while(self.lock(), is_quiet).unwrap_or_else(PoisonError::into_inner);
        let pause = self.changed.wait_timeout_while(state, PERIOD, |state| !state.ended);
        let (mut state, _) = pause.unwrap_or_else(PoisonError::into_inner);
        state.changed = false;
        (!state.ended).then(|| state.status.clone())
    }
}

/// The progress line on a terminal.
pub(super) struct Line {
    lines: MultiProgress,
    bar: ProgressBar,
    form: &'static str,
}

impl Line {
    /// Returns a progress line on standard error.
    pub(super) fn new() -> Self {
        Self::on(ProgressDrawTarget::term_like_with_hz(Box::new(Narrower(Term::stderr())), RATE))
    }

    /// Returns a progress line on any terminal.
    pub(super) fn on(target: ProgressDrawTarget) -> Self {
        let lines = MultiProgress::with_draw_target(target);
        let bar = lines.add(ProgressBar::no_length());
        Self { lines, bar, form: "" }
    }

    /// Redraws the line. The cursor must be at the start of an empty line, or below this line.
    pub(super) fn draw(&mut self, status: &Status) {
        let (form, done, total, text) = match status {
            Status { compiling: Some(since), .. } => {
                (SPINNER, 0, 0, format!("compiling the component, {} s", since.elapsed().as_secs()))
            }
            Status { progress: Some(progress), .. } => {
                let form = if progress.total > 0 { BAR } else { SPINNER };
                (form, progress.done.min(progress.total), progress.total, text_of(progress))
            }
            Status { .. } => return self.clear(),
        };
        if self.form != form {
            self.bar.set_style(style(form));
            self.form = form;
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(text);
        self.bar.tick();
    }

    /// Removes the line, so that other text can be written in its place.
    pub(super) fn clear(&mut self) {
        // If the terminal cannot be written to, there is nothing to remove.
        let _ = self.lines.clear();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A terminal whose last columns stay free. A terminal echoes `^C` there; without room, the echo
/// would wrap and move the cursor away from the line to clear.
#[derive(Debug)]
struct Narrower<T>(T);

impl<T: TermLike> TermLike for Narrower<T> {
    fn width(&self) -> u16 {
        self.0.width().saturating_sub(ECHO_WIDTH).max(1)
    }
    fn height(&self) -> u16 {
        self.0.height()
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_up(n)
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_down(n)
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_right(n)
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_left(n)
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.write_line(text)
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }
    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }
    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Formats a progress report as one line. Its text has been redacted.
fn text_of(progress: &Progress) -> String {
    let Progress { done, total, message } = progress;
    let message = escape_controls(message);
    if *total > 0 {
        let percent = u128::from(*done.min(total)) * 100 / u128::from(*total);
        format!("{percent:>3}%  {done}/{total}  {message}")
    } else if *done > 0 {
        format!("{done}  {message}")
    } else {
        message
    }
}

/// Returns the style for a template. An invalid template falls back to the default; a test checks
/// both templates.
fn style(form: &str) -> ProgressStyle {
    let plain = ProgressStyle::default_spinner();
    ProgressStyle::with_template(form).unwrap_or(plain).progress_chars("=> ").tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use indicatif::InMemoryTerm;

    use super::*;

    fn line(width: u16) -> (InMemoryTerm, Line) {
        let term = InMemoryTerm::new(6, width);
        let line = Line::on(ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255));
        (term, line)
    }

    fn reported(done: u64, total: u64, message: &str) -> Status {
        Status { compiling: None, progress: Some(Progress { done, total, message: message.to_owned() }) }
    }

    fn drawn(width: u16, status: &Status) -> String {
        let (term, mut line) = line(width);
        line.draw(status);
        term.contents()
    }

    #[test]
    fn progress_with_total_is_bar_else_spinner() {
        assert_eq!(drawn(80, &reported(1, 4, "epoch 1")), "[======>                 ]  25%  1/4  epoch 1");
        assert_eq!(drawn(80, &reported(4, 4, "")), "[========================] 100%  4/4");
        assert!(drawn(80, &reported(7, 0, "rows")).ends_with(" 7  rows"));
        assert!(drawn(80, &reported(0, 0, "loading")).ends_with(" loading"));
        let compiling = Status { compiling: Some(Instant::now()), progress: None };
        assert!(drawn(80, &compiling).ends_with(" compiling the component, 0 s"));
    }

    #[test]
    fn progress_message_stays_on_one_line() {
        for (width, message) in [(60, "x".repeat(1_000)), (40, "界".repeat(300)), (30, "a\nb\r\u{1b}[2Jc".repeat(9))] {
            let drawn = drawn(width, &reported(1, 2, &message));
            assert_eq!(drawn.lines().count(), 1, "{drawn:?}");
            assert!(!drawn.contains('\u{1b}'), "{drawn:?}");
        }
        assert_eq!(drawn(80, &reported(9, 4, "{bar} {msg}")), "[========================] 100%  9/4  {bar} {msg}");
        assert!(drawn(80, &reported(u64::MAX, u64::MAX, "")).contains("100%"));
    }

    #[test]
    fn line_with_echoed_interrupt_is_cleared() {
        let term = InMemoryTerm::new(6, 60);
        let mut line = Line::on(ProgressDrawTarget::term_like_with_hz(Box::new(Narrower(term.clone())), 255));
        line.draw(&reported(1, 2, &"x".repeat(100)));
        term.write_str("^C").unwrap();
        line.clear();
        assert_eq!(term.contents(), "");
    }

    #[test]
    fn progress_line_is_cleared_when_dropped() {
        let (term, mut line) = line(80);
        line.draw(&reported(1, 2, "half"));
        line.clear();
        assert_eq!(term.contents(), "");
        line.draw(&reported(2, 2, "all"));
        assert!(term.contents().contains("all"));
        line.draw(&Status::default());
        assert_eq!(term.contents(), "");
        line.draw(&reported(2, 2, "all"));
        drop(line);
        assert_eq!(term.contents(), "");
    }

    #[test]
    fn meter_draws_last_status_and_nothing_after_end() {
        let (drawn, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let (count, last) = (Arc::clone(&drawn), Arc::clone(&seen));
        let meter = Meter::start(move |status| {
            *last.lock().unwrap() = Some(status.clone());
            count.fetch_add(1, Ordering::SeqCst);
        });
        meter.compiling(true);
        meter.compiling(false);
        for done in 0..1_000 {
            meter.progress(&Progress { done, total: 0, message: String::new() });
        }
        while seen
            .lock()
            .unwrap()
            .as_ref()
            .and_then(|status| status.progress.clone())
            .is_none_or(|status| status.done < 999)
        {
            std::thread::yield_now();
        }
        meter.end();
        let before = drawn.load(Ordering::SeqCst);
        meter.progress(&Progress { done: 0, total: 0, message: String::new() });
        assert_eq!(drawn.load(Ordering::SeqCst), before);
    }

    // promise: The progress display does not break lines of output and does not delay a run.
    #[test]
    fn blocked_drawing_does_not_delay_run() {
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let (entered, gate_of_drawer) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&gate));
        let count = Arc::clone(&entered);
        let meter = Meter::start(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            drop(gate_of_drawer.lock());
        });
        meter.compiling(true);
        while entered.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        // Returns although the drawing thread is blocked.
        meter.progress(&Progress { done: 1, total: 2, message: String::new() });
        drop(closed);
        meter.end();
    }
}
