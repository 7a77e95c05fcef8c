//! The cost of reading a secret for the component, compared with an import that returns the same
//! string.

use std::time::Duration;

use strongroom::audit::SyncMode;

use crate::Size;
use crate::guests::guest;
use crate::host::{Host, SECRETS, policy, runtime};
use crate::raw::{Floor, Raw};
use crate::table::{Measurement, ratio, take_turns, turn};

pub(crate) fn measure(size: Size) {
    let runtime = runtime();
    let raw = Raw::new(&runtime);
    let (os, always) = (Host::new(&runtime, SyncMode::Os), Host::new(&runtime, SyncMode::Always));
    let component = guest("calls", size);
    let ready = raw.ready(&component);
    let grants = policy("secrets = { 'key-*' = ['get'] }\nlimits = { requests = 1000000 }");
    let mut floor = Floor::new(os.folder.path());
    let repeats = size.choose(20_000, 10).to_string();
    let (mut imports, mut cold, mut first, mut few, mut durable, mut again) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..size.choose(200, 1) {
        let (once, often) = figures(&ready.printed(&["1", &repeats]));
        imports.push(often);
        cold.push(once);
        let (_, repeated) = figures(&os.printed(&component, &grants, &["1", &repeats]));
        again.push(repeated);
        for _ in 0..size.choose(20, 1) {
            cold.push(figures(&ready.printed(&["1", "0"])).0);
            first.push(figures(&os.printed(&component, &grants, &["1", "0"])).0);
        }
        few.push(figures(&os.printed(&component, &grants, &[&SECRETS.to_string(), "0"])).0);
        durable.push(figures(&always.printed(&component, &grants, &["5", "0"])).0);
    }
    let [floor] = take_turns(
        [turn("floor of one event", |count| (0..count).for_each(|_| floor.event()))],
        size.choose(100, 1),
        500,
    );
    let imports = Measurement::new("an import that returns the same string", imports);
    let cold = Measurement::new("the first such call of a run", cold);
    let first = Measurement::new("first read of a run, from the cache, `os`", first);
    let few = Measurement::new("the mean of the first reads of 50 secrets, `os`", few);
    let durable = Measurement::new("first read of a run, from the cache, `always`", durable);
    let again = Measurement::new("repeated read", again);
    [&imports, &cold, &floor, &first, &few, &durable, &again].iter().for_each(|taken| taken.show());
    ratio("first read / (first import of a run + floor), in the middle", first.middle, cold.middle + floor.middle, 1.5);
    ratio("mean of first reads / (import + floor), in the middle", few.middle, imports.middle + floor.middle, 1.5);
    ratio("repeated read / import", again.fastest, imports.fastest, 1.3);
    ratio("in the middle", again.middle, imports.middle, 1.3);
}

/// Parses the mean times of a first read and of a repeated one that the guest printed.
fn figures(printed: &str) -> (Duration, Duration) {
    let mut figures =
        printed.split_whitespace().map(|text| Duration::from_secs_f64(text.parse::<f64>().unwrap().max(0.0) / 1e9));
    (figures.next().unwrap(), figures.next().unwrap())
}
