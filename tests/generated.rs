//! Randomly generated components that are valid by construction: functions with loads, stores,
//! loops, calls and traps over memories, tables and globals of any size, with segments that may not
//! fit.
//!
//! Few inputs of `mutations` get past parsing. These reach compilation, instantiation under limits,
//! and execution. Each run must have a record, and the host must not be to blame.

use std::fmt::Write as _;

use strongroom::record::{Limit, Outcome};

use crate::support::random::Random;
use crate::support::trial::Trial;

const COMPONENTS: usize = 200;

/// The maximum number of components to try until every kind of outcome has occurred.
const COMPONENTS_MAX: usize = 20 * COMPONENTS;

const POLICY: &str = "version = 1\n[limits]\ntime = \"20ms\"\nmemory = \"4MiB\"\nlog-bytes = \"4KiB\"";

// attack: resources: be nearly valid, or valid and absurd -> components are parsed within bounds,
// and compiled and run under limits
#[test]
fn generated_component_ends_with_a_run_record() {
    let trial = Trial::new(POLICY);
    let mut random = Random::for_this_test();
    let (mut finished, mut failed, mut limits) = (0, 0, std::collections::BTreeMap::<&str, usize>::new());
    let mut all_seen = false;
    for tried in 0..COMPONENTS_MAX {
        // If some kind of outcome never occurs, the components are too tame to test anything.
        let stopped = |limit: Limit| limits.contains_key(limit.as_str());
        all_seen = finished > 0 && failed > 0 && stopped(Limit::Time) && stopped(Limit::Memory);
        if all_seen && tried >= COMPONENTS {
            break;
        }
        let text = ModuleText::new(&mut random).component();
        let component = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let record = trial.run(&component).unwrap_or_else(|error| panic!("{error}\n{text}"));
        match (record.outcome, record.limit) {
            (Outcome::Finished, None) => finished += 1,
            (Outcome::Failed, None) => failed += 1,
            (Outcome::Limit, Some(limit)) => *limits.entry(limit.as_str()).or_default() += 1,
            _ => panic!("{:?}, {:?}\n{text}", record.outcome, record.reason),
        }
        assert!(record.peak_memory_bytes <= 4 << 20, "{}\n{text}", record.peak_memory_bytes);
    }
    println!("{finished} finished, {failed} failed, {limits:?}");
    assert!(all_seen, "{limits:?}");
}

/// A module under construction.
struct ModuleText<'a> {
    random: &'a mut Random,
    functions: u64,
    globals: u64,
    memories: u64,
    text: String,
}

/// The number of `i32` locals of a function, including its parameter.
const LOCALS: u64 = 3;

impl<'a> ModuleText<'a> {
    fn new(random: &'a mut Random) -> Self {
        let (functions, globals, memories) = (1 + random.below(6), random.below(4), 1 + random.below(3));
        Self { random, functions, globals, memories, text: String::new() }
    }

    fn choose(&mut self, all: &[&'static str]) -> &'static str {
        all[usize::try_from(self.random.below(all.len() as u64)).unwrap()]
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).unwrap();
    }

    /// Returns the whole component. Its `train` calls the first function and then succeeds.
    fn component(mut self) -> String {
        self.put(format_args!("(component (core module $m (type $t (func (param i32) (result i32)))"));
        for memory in 0..self.memories {
            // Rarely, the memory exceeds the limit from the start.
            let minimum = if self.random.below(20) == 0 { 70 } else { self.random.below(4) };
            let export = if memory == 0 { "(export \"memory\")" } else { "" };
            let maximum = minimum + self.random.below(200);
            self.put(format_args!("(memory {export} {minimum} {maximum})"));
            if self.random.below(3) == 0 {
                // If the segment does not fit, instantiation fails.
                let at = self.random.below(70_000);
                self.put(format_args!("(data (memory {memory}) (i32.const {at}) \"made up\")"));
            }
        }
        let entries = self.random.below(40);
        self.put(format_args!("(table $table {entries} funcref)"));
        if entries > 0 {
            let (at, function) = (self.random.below(entries + 1), self.random.below(self.functions));
            self.put(format_args!("(elem (i32.const {at}) func $f{function})"));
        }
        for global in 0..self.globals {
            let value = self.number();
            self.put(format_args!("(global $g{global} (mut i32) (i32.const {value}))"));
        }
        for function in 0..self.functions {
            self.put(format_args!("(func $f{function} (type $t) (local i32 i32) "));
            for _ in 0..self.random.below(5) {
                self.statement(3);
            }
            self.value(4);
            self.put(format_args!(")"));
        }
        if self.random.below(10) == 0 {
            self.put(format_args!("(func $start (drop (call $f0 (i32.const 1)))) (start $start)"));
        }
        let argument = self.number();
        self.put(format_args!(
            "(func (export \"train\") (result i32) (drop (call $f0 (i32.const {argument}))) (i32.const 8)))
            (core instance $i (instantiate $m))
            (func $train (result (result (error string)))
                (canon lift (core func $i \"train\") (memory (core memory $i \"memory\"))))
            (export \"train\" (func $train)))"
        ));
        self.text
    }

    fn number(&mut self) -> i32 {
        match self.random.below(4) {
            0 => i32::try_from(self.random.below(70_000)).unwrap(),
            1 => [i32::MIN, i32::MAX, -1, 0, 65_535, 65_536][usize::try_from(self.random.below(6)).unwrap()],
            _ => i32::try_from(self.random.below(16)).unwrap(),
        }
    }

    /// Writes code that leaves nothing on the stack.
    fn statement(&mut self, depth: u32) {
        let (local, memory) = (self.random.below(LOCALS), self.random.below(self.memories));
        match self.random.below(if depth == 0 { 2 } else { 8 }) {
            0 => self.wrapped(&format!("(local.set {local}"), depth),
            1 if self.globals > 0 => {
                let global = self.random.below(self.globals);
                self.wrapped(&format!("(global.set $g{global}"), depth);
            }
            2 => {
                let store = self.choose(&["i32.store", "i32.store8", "i32.store16"]);
                self.put(format_args!("({store} {memory} "));
                self.value(depth - 1);
                self.value(depth - 1);
                self.put(format_args!(")"));
            }
            3 => {
                // A loop that continues while a value is not zero, and so endlessly if the value is
                // constant.
                self.put(format_args!("(loop "));
                self.statement(depth - 1);
                self.wrapped("(br_if 0", depth);
                self.put(format_args!(")"));
            }
            4 => {
                self.put(format_args!("(if "));
                self.value(depth - 1);
                self.put(format_args!("(then "));
                self.statement(depth - 1);
                self.put(format_args!(") (else "));
                self.statement(depth - 1);
                self.put(format_args!("))"));
            }
            5 => {
                let bulk = self.choose(&["memory.fill", "memory.copy"]);
                let memories = if bulk == "memory.copy" { format!("{memory} {memory}") } else { memory.to_string() };
                self.put(format_args!("({bulk} {memories} "));
                (0..3).for_each(|_| self.value(depth - 1));
                self.put(format_args!(")"));
            }
            6 if self.random.below(8) == 0 => self.put(format_args!("(unreachable)")),
            _ => self.wrapped("(drop", depth),
        }
    }

    /// Writes a value as the operand of `head`.
    fn wrapped(&mut self, head: &str, depth: u32) {
        self.put(format_args!("{head} "));
        self.value(depth.saturating_sub(1));
        self.put(format_args!(")"));
    }

    /// Writes code that leaves one `i32` on the stack.
    fn value(&mut self, depth: u32) {
        let (local, memory) = (self.random.below(LOCALS), self.random.below(self.memories));
        match self.random.below(if depth == 0 { 2 } else { 9 }) {
            0 => {
                let number = self.number();
                self.put(format_args!("(i32.const {number})"));
            }
            1 => self.put(format_args!("(local.get {local})")),
            2 if self.globals > 0 => {
                let global = self.random.below(self.globals);
                self.put(format_args!("(global.get $g{global})"));
            }
            3 => {
                let load = self.choose(&["i32.load", "i32.load8_s", "i32.load16_u"]);
                self.wrapped(&format!("({load} {memory}"), depth);
            }
            4 => self.wrapped(&format!("(memory.grow {memory}"), depth),
            5 => {
                let function = self.random.below(self.functions);
                self.wrapped(&format!("(call $f{function}"), depth);
            }
            6 => {
                self.put(format_args!("(call_indirect $table (type $t) "));
                self.value(depth - 1);
                self.value(depth - 1);
                self.put(format_args!(")"));
            }
            7 => {
                self.put(format_args!("(table.grow $table (ref.null func) "));
                self.value(depth - 1);
                self.put(format_args!(")"));
            }
            _ => {
                let operation =
                    self.choose(&["add", "sub", "mul", "div_s", "rem_u", "and", "xor", "shl", "rotr", "lt_u"]);
                self.put(format_args!("(i32.{operation} "));
                self.value(depth - 1);
                self.value(depth - 1);
                self.put(format_args!(")"));
            }
        }
    }
}
