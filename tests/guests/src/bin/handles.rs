//! Opens and holds resources of the kind in its argument endlessly.
use strongroom_test_guests::arg;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::sockets::{instance_network, ip_name_lookup, network, tcp_create_socket};

const HOUR: u64 = 3_600_000_000_000;

fn hold_forever<T>(mut open: impl FnMut() -> T) {
    let mut held = Vec::new();
    for _ in 0..1_000_000 {
        held.push(open());
    }
    println!("a million are open");
}

fn output() -> Descriptor {
    get_directories().into_iter().find(|(_, name)| name == "/output").unwrap().0
}

fn file() -> Descriptor {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    output().open_at(PathFlags::empty(), "file", OpenFlags::CREATE, flags).unwrap()
}

fn main() {
    match arg(0).as_str() {
        "files" => hold_forever(file),
        "folders" => hold_forever(output),
        "readers" => {
            let file = file();
            hold_forever(|| file.read_via_stream(0).unwrap());
        }
        "writers" => {
            let file = file();
            hold_forever(|| file.write_via_stream(0).unwrap());
        }
        "streams" => hold_forever(wasip2::cli::stdout::get_stdout),
        "networks" => hold_forever(instance_network::instance_network),
        "sockets" => hold_forever(|| tcp_create_socket::create_tcp_socket(network::IpAddressFamily::Ipv4).unwrap()),
        "lookups" => {
            let network = instance_network::instance_network();
            hold_forever(|| ip_name_lookup::resolve_addresses(&network, "127.0.0.1").unwrap());
        }
        "timers" => hold_forever(|| subscribe_duration(HOUR)),
        // Waits for many timers. Their number may be within or over the limit on resources.
        "poll" => {
            let timers: Vec<_> = (0..arg(1).parse().unwrap()).map(|_| subscribe_duration(HOUR)).collect();
            println!("waiting");
            wasip2::io::poll::poll(&timers.iter().collect::<Vec<_>>());
        }
        other => panic!("no kind `{other}`"),
    }
}
