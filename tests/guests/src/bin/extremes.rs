//! Makes calls with extreme numbers, for which a host might allocate, add or wait too much. Without
//! an argument it prints the names of the calls.
use strongroom_test_guests::{arg, context};
use wasip2::clocks::monotonic_clock::{subscribe_duration, subscribe_instant};
use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Advice, Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};
use wasip2::{cli, io, random};

type Way = (&'static str, fn());

const MAX: u64 = u64::MAX;

fn output() -> Descriptor {
    get_directories().into_iter().find(|(_, name)| name == "/output").unwrap().0
}

fn file() -> Descriptor {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let file = output().open_at(PathFlags::empty(), "file", OpenFlags::CREATE, flags).unwrap();
    file.write(b"some bytes", 0).unwrap();
    file
}

const WAYS: &[Way] = &[
    ("random", || println!("{}", random::random::get_random_bytes(MAX).len())),
    ("insecure random", || println!("{}", random::insecure::get_insecure_random_bytes(MAX).len())),
    ("zeroes to stdout", || println!("{:?}", cli::stdout::get_stdout().write_zeroes(MAX))),
    ("blocking zeroes", || println!("{:?}", cli::stdout::get_stdout().blocking_write_zeroes_and_flush(MAX))),
    ("zeroes to a file", || println!("{:?}", file().write_via_stream(0).unwrap().write_zeroes(MAX))),
    ("zeroes within the quota", || println!("{:?}", file().write_via_stream(0).unwrap().write_zeroes(900 << 20))),
    ("write far", || println!("{:?}", file().write(b"x", MAX))),
    ("nothing far", || println!("{:?}", file().write(b"", MAX))),
    ("stream far", || println!("{:?}", file().write_via_stream(MAX).unwrap().blocking_write_and_flush(b"x"))),
    ("size", || println!("{:?}", file().set_size(MAX))),
    ("size that a file system takes", || println!("{:?}", file().set_size(i64::MAX as u64))),
    ("read much", || println!("read {:?}", file().read(MAX, 0).map(|(bytes, _)| bytes.len()))),
    ("read far", || println!("read {:?}", file().read(1, MAX))),
    ("stream much", || {
        let stream = file().read_via_stream(0).unwrap();
        println!("read {:?}", stream.blocking_read(MAX).map(|bytes| bytes.len()));
        println!("read {:?} skipped {:?}", stream.read(MAX), stream.skip(MAX));
        println!("skipped {:?}", file().read_via_stream(MAX).unwrap().blocking_skip(MAX));
    }),
    ("splice", || {
        let (input, stdout) = (cli::stdin::get_stdin(), cli::stdout::get_stdout());
        println!("spliced {:?} {:?}", stdout.splice(&input, MAX), stdout.blocking_splice(&input, MAX));
        let stream = file().read_via_stream(0).unwrap();
        println!("spliced {:?}", stdout.blocking_splice(&stream, MAX));
    }),
    ("times", || {
        for seconds in [MAX, i64::MAX as u64, u64::from(u32::MAX)] {
            for nanoseconds in [u32::MAX, 0] {
                let time = NewTimestamp::Timestamp(Datetime { seconds, nanoseconds });
                println!("times {:?}", file().set_times(time, time));
                println!("times {:?}", output().set_times_at(PathFlags::empty(), "file", time, time));
            }
        }
        println!("{:?}", file().stat());
    }),
    ("timers", || {
        let timers = [subscribe_duration(MAX), subscribe_instant(MAX), subscribe_instant(0), subscribe_duration(1)];
        println!("ready {:?}", timers.each_ref().map(|timer| timer.ready()));
        println!("ready {:?}", io::poll::poll(&timers.each_ref()));
    }),
    ("advice", || {
        println!("{:?} {:?}", file().advise(MAX, MAX, Advice::WillNeed), file().advise(0, MAX, Advice::NoReuse))
    }),
    ("poll nothing", || println!("{:?}", io::poll::poll(&[]))),
    ("poll one many times", || {
        let timer = subscribe_duration(0);
        println!("ready {}", io::poll::poll(&vec![&timer; 1_000_000]).len());
    }),
    ("write unasked", || println!("{:?}", cli::stdout::get_stdout().write(&[b'x'; 1 << 20]))),
    ("report", || {
        println!("{:?}", context::report_progress(MAX, 1, "done"));
        println!("{:?}", context::report_progress(MAX, MAX, "done"));
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            println!("{:?}", context::log_metric("extreme", value, Some(MAX)));
        }
    }),
];

fn main() {
    let wanted = arg(0);
    if wanted.is_empty() {
        return WAYS.iter().for_each(|(name, _)| println!("way: {name}"));
    }
    let (_, way) = WAYS.iter().find(|(name, _)| *name == wanted).unwrap();
    way();
    println!("and on");
}
