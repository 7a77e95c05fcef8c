//! The progress of a run on the last line of a terminal.
//!
//! The run only stores its status. A thread draws it several times per second, so a slow or stopped
//! terminal delays the drawing and not the run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use strongroom::escape::escape_controls;
use strongroom::record::Progress;
use unicode_width::UnicodeWidthChar;

/// How often the line is redrawn.
const PERIOD: Duration = Duration::from_millis(100);
/// The number of columns that stay free on the right: a terminal echoes `^C` after the line, and
/// without room the echo would wrap and leave the line behind.
const ECHO_WIDTH: usize = 4;
/// The number of characters in the bar.
const BAR_WIDTH: u64 = 24;

/// The status of a run.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// When the compilation started, while it is running.
    pub(super) compiling: Option<Instant>,
    /// The component's last progress report.
    pub(super) progress: Option<Progress>,
}

impl Status {
    /// Formats the status as a line for a terminal of `width` columns. Empty if there is nothing to
    /// show. The text of the component has been redacted.
    pub(super) fn line(&self, tick: usize, width: usize) -> String {
        let spinner = ["|", "/", "-", "\\"].get(tick % 4).unwrap_or(&"");
        let text = match self {
            Self { compiling: Some(since), .. } => {
                format!("{spinner} compiling the component, {} s", since.elapsed().as_secs())
            }
            Self { progress: Some(Progress { done, total, message }), .. } if *total > 0 => {
                let of = |whole: u64| u128::from(*done.min(total)) * u128::from(whole) / u128::from(*total);
                let filled = usize::try_from(of(BAR_WIDTH)).unwrap_or_default();
                let head = if done < total { ">" } else { "" };
                let bar = format!("{}{head}", "=".repeat(filled));
                let message = escape_controls(message);
                format!("[{bar:0$}] {1:>3}%  {done}/{total}  {message}", BAR_WIDTH as usize, of(100))
            }
            Self { progress: Some(Progress { done, message, .. }), .. } => {
                let count = if *done > 0 { format!("{done}  ") } else { String::new() };
                format!("{spinner} {count}{}", escape_controls(message))
            }
            Self { .. } => String::new(),
        };
        let mut left = width.saturating_sub(ECHO_WIDTH);
        let fits = |c: &char| {
            let fits = left.checked_sub(c.width().unwrap_or(0));
            left = fits.unwrap_or(0);
            fits.is_some()
        };
        text.chars().take_while(fits).collect()
    }
}

/// A thread that draws periodically until it is told to end.
pub(super) struct Drawer {
    ended: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drawer {
    /// Starts the thread, which passes the number of the call to `draw`. If no thread can be
    /// started, nothing is drawn.
    pub(super) fn start(draw: impl Fn(usize) + Send + 'static) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(move || {
            for tick in 0.. {
                thread::park_timeout(PERIOD);
                if seen.load(Ordering::Acquire) {
                    return;
                }
                draw(tick);
            }
        });
        Self { ended, thread: Mutex::new(thread.ok()) }
    }

    /// Stops drawing. Nothing is drawn after this returns.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            // A panic of the drawing thread is ignored.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn reported(done: u64, total: u64, message: &str) -> Status {
        Status { compiling: None, progress: Some(Progress { done, total, message: message.to_owned() }) }
    }

    #[test]
    fn progress_with_total_is_bar_else_spinner() {
        let line = |status: Status| status.line(0, 80);
        assert_eq!(line(reported(1, 4, "epoch 1")), "[======>                 ]  25%  1/4  epoch 1");
        assert_eq!(line(reported(4, 4, "")), "[========================] 100%  4/4  ");
        assert_eq!(line(reported(7, 0, "rows")), "| 7  rows");
        assert_eq!(line(reported(0, 0, "loading")), "| loading");
        assert_eq!(reported(0, 0, "loading").line(5, 80), "/ loading");
        let compiling = Status { compiling: Some(Instant::now()), progress: None };
        assert_eq!(line(compiling), "| compiling the component, 0 s");
        assert_eq!(line(Status::default()), "");
    }

    #[test]
    fn progress_message_stays_on_one_line() {
        for (width, message) in [(60, "x".repeat(1_000)), (40, "界".repeat(300)), (30, "a\nb\r\u{1b}[2Jc".repeat(9))] {
            let line = reported(1, 2, &message).line(0, width);
            assert!(line.width() <= width - ECHO_WIDTH && line.width() + 2 >= width - ECHO_WIDTH, "{line:?}");
            assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        }
        assert_eq!(reported(9, 4, "{bar} {msg}").line(0, 80), "[========================] 100%  9/4  {bar} {msg}");
        assert!(reported(u64::MAX, u64::MAX, "").line(0, 80).contains("100%"));
        assert!(reported(u64::MAX - 1, u64::MAX, "").line(0, 80).contains(" 99%"));
        assert_eq!(reported(1, 2, "x").line(0, 3), "");
    }

    #[test]
    fn drawer_draws_until_end_and_not_after() {
        let drawn = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&drawn);
        let drawer = Drawer::start(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        while drawn.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        drawer.end();
        let before = drawn.load(Ordering::SeqCst);
        assert_eq!(Arc::strong_count(&drawn), 1, "the thread still exists");
        assert_eq!(drawn.load(Ordering::SeqCst), before);
    }
}
