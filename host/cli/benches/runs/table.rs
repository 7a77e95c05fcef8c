//! Turns, and the format of their figures.

use std::time::{Duration, Instant};

/// A measured task that repeats its work `count` times.
pub(crate) struct Turn<'a> {
    pub(crate) name: String,
    pub(crate) work: Box<dyn FnMut(usize) + 'a>,
}

/// Creates a task.
pub(crate) fn turn<'a>(name: impl Into<String>, work: impl FnMut(usize) + 'a) -> Turn<'a> {
    Turn { name: name.into(), work: Box::new(work) }
}

/// Runs all tasks in turn, `rounds` times, and returns for each the time per repetition in the
/// fastest and the median turn.
pub(crate) fn take_turns<const N: usize>(mut turns: [Turn<'_>; N], rounds: usize, count: usize) -> [Measurement; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (turn, times) in turns.iter_mut().zip(&mut times) {
            let started = Instant::now();
            (turn.work)(count);
            times.push(started.elapsed() / u32::try_from(count).unwrap());
        }
    }
    let names = turns.map(|turn| turn.name);
    let mut taken = names.into_iter().zip(times).map(|(name, times)| Measurement::new(name, times));
    std::array::from_fn(|_| taken.next().unwrap())
}

/// Measured times.
pub(crate) struct Measurement {
    pub(crate) name: String,
    pub(crate) fastest: Duration,
    pub(crate) middle: Duration,
}

impl Measurement {
    pub(crate) fn new(name: impl Into<String>, mut times: Vec<Duration>) -> Self {
        times.sort();
        Self { name: name.into(), fastest: times[0], middle: times[times.len() / 2] }
    }

    /// Prints both figures.
    pub(crate) fn show(&self) {
        row(&self.name, &format!("{}, in the middle {}", shown(self.fastest), shown(self.middle)));
    }
}

/// Prints the ratio of two fastest turns and its target.
pub(crate) fn ratio(what: &str, time: Duration, over: Duration, target: f64) {
    let ratio = time.as_secs_f64() / over.as_secs_f64();
    let verdict = if ratio <= target { "" } else { ", missed" };
    row(what, &format!("{ratio:.2} (target {target}{verdict})"));
}

/// Prints a line of the table.
pub(crate) fn row(what: &str, figure: &str) {
    println!("  {what:<62} {figure}");
}

/// Formats a time with three digits.
pub(crate) fn shown(time: Duration) -> String {
    let nanos = time.as_secs_f64() * 1e9;
    match nanos {
        _ if nanos < 1e3 => format!("{nanos:.0} ns"),
        _ if nanos < 1e5 => format!("{:.1} µs", nanos / 1e3),
        _ if nanos < 1e6 => format!("{:.0} µs", nanos / 1e3),
        _ if nanos < 1e8 => format!("{:.1} ms", nanos / 1e6),
        _ if nanos < 1e9 => format!("{:.0} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}
