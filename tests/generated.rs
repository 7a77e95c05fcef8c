//! Components that are made up, each valid by the way it is made: functions full of loads, stores, loops, calls and traps over memories, tables and
//! globals of any size, with segments that may not fit. What the byte changes of `mutations` seldom get past the reading of, these take through
//! compiling, instantiation under limits, and running. Whatever one does, it is a run with a record for which the host is not to blame.

use std::fmt::Write as _;

use strongroom::record::{Limit, Outcome};

use crate::support::random::Random;
use crate::support::trial::Trial;

const COMPONENTS: usize = 200;

/// How many there may be until each way to end was seen.
const COMPONENTS_MAX: usize = 20 * COMPONENTS;

const POLICY: &str = "version = 1\n[limits]\ntime = \"20ms\"\nmemory = \"4MiB\"\nlog-bytes = \"4KiB\"";

// attack: resources: be nearly valid, or valid and absurd -> components are parsed within bounds,
// and compiled and run under limits
#[test]
fn a_component_that_was_made_up_is_a_run_with_a_record() {
    let trial = Trial::new(POLICY);
    let mut random = Random::for_this_test();
    let (mut finished, mut failed, mut limits) = (0, 0, std::collections::BTreeMap::<&str, usize>::new());
    let mut all_seen = false;
    for made in 0..COMPONENTS_MAX {
        // All ways to end are there, or the components are too tame to tell anything.
        let stopped = |limit: Limit| limits.contains_key(limit.as_str());
        all_seen = finished > 0 && failed > 0 && stopped(Limit::Time) && stopped(Limit::Memory);
        if all_seen && made >= COMPONENTS {
            break;
        }
        let text = Made::new(&mut random).component();
        let made = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let record = trial.run(&made).unwrap_or_else(|error| panic!("{error}\n{text}"));
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

/// A module in the making.
struct Made<'a> {
    random: &'a mut Random,
    functions: u64,
    globals: u64,
    memories: u64,
    text: String,
}

/// How many locals a function has of each type, its parameter among them.
const LOCALS: u64 = 3;

impl<'a> Made<'a> {
    fn new(random: &'a mut Random) -> Self {
        let (functions, globals, memories) = (1 + random.below(6), random.below(4), 1 + random.below(3));
        Self { random, functions, globals, memories, text: String::new() }
    }

    fn of(&mut self, all: &[&'static str]) -> &'static str {
        all[usize::try_from(self.random.below(all.len() as u64)).unwrap()]
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).unwrap();
    }

    /// The whole component. Its `train` calls the first function and succeeds, if it gets that far.
    fn component(mut self) -> String {
        self.put(format_args!("(component (core module $m (type $t (func (param i32) (result i32)))"));
        for memory in 0..self.memories {
            // Seldom one that is over the limit from the beginning.
            let least = if self.random.below(20) == 0 { 70 } else { self.random.below(4) };
            let export = if memory == 0 { "(export \"memory\")" } else { "" };
            let most = least + self.random.below(200);
            self.put(format_args!("(memory {export} {least} {most})"));
            if self.random.below(3) == 0 {
                // Where it does not fit, the instance is not made.
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

    /// Something that leaves nothing on the stack.
    fn statement(&mut self, depth: u32) {
        let (local, memory) = (self.random.below(LOCALS), self.random.below(self.memories));
        match self.random.below(if depth == 0 { 2 } else { 8 }) {
            0 => self.wrapped(&format!("(local.set {local}"), depth),
            1 if self.globals > 0 => {
                let global = self.random.below(self.globals);
                self.wrapped(&format!("(global.set $g{global}"), depth);
            }
            2 => {
                let store = self.of(&["i32.store", "i32.store8", "i32.store16"]);
                self.put(format_args!("({store} {memory} "));
                self.value(depth - 1);
                self.value(depth - 1);
                self.put(format_args!(")"));
            }
            3 => {
                // A loop that goes on while a value says so: for ever, where that is a constant.
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
                let bulk = self.of(&["memory.fill", "memory.copy"]);
                let memories = if bulk == "memory.copy" { format!("{memory} {memory}") } else { memory.to_string() };
                self.put(format_args!("({bulk} {memories} "));
                (0..3).for_each(|_| self.value(depth - 1));
                self.put(format_args!(")"));
            }
            6 if self.random.below(8) == 0 => self.put(format_args!("(unreachable)")),
            _ => self.wrapped("(drop", depth),
        }
    }

    /// A value with this around it.
    fn wrapped(&mut self, head: &str, depth: u32) {
        self.put(format_args!("{head} "));
        self.value(depth.saturating_sub(1));
        self.put(format_args!(")"));
    }

    /// Something that leaves one `i32` on the stack.
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
                let load = self.of(&["i32.load", "i32.load8_s", "i32.load16_u"]);
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
                let operation = self.of(&["add", "sub", "mul", "div_s", "rem_u", "and", "xor", "shl", "rotr", "lt_u"]);
                self.put(format_args!("(i32.{operation} "));
                self.value(depth - 1);
                self.value(depth - 1);
                self.put(format_args!(")"));
            }
        }
    }
}
