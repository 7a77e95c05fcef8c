//! A run of an empty program whose code is loaded.

use strongroom::audit::SyncMode;

use crate::Size;
use crate::guests::guest;
use crate::host::{Host, policy, runtime};
use crate::raw::{Floor, Raw};
use crate::table::{ratio, take_turns, turn};

/// A run's first and last event.
const EVENTS: u32 = 2;

pub(crate) fn measure(size: Size) {
    let runtime = runtime();
    let (host, raw) = (Host::new(&runtime, SyncMode::Os), Raw::new(&runtime));
    let component = guest("empty", size);
    let (ready, policy) = (raw.ready(&component), policy("[secrets]\nkey-0 = ['get']"));
    let mut floor = Floor::new(host.folder.path());
    let [plain, ours, floor] = take_turns(
        [
            turn("raw wasmtime", |count| (0..count).for_each(|_| ready.run())),
            turn("strongroom, audit `os`, record in memory", |count| {
                (0..count).for_each(|_| drop(host.run(&component, &policy, &[])));
            }),
            turn("floor of one event", |count| (0..count).for_each(|_| floor.event())),
        ],
        size.choose(60, 1),
        size.choose(500, 2),
    );
    [&plain, &floor, &ours].iter().for_each(|taken| taken.show());
    ratio("strongroom / (raw + floor of two events)", ours.fastest, plain.fastest + EVENTS * floor.fastest, 1.5);
}
