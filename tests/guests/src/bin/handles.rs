//! Holds resources without end: what its argument names.
use strongroom_test_guests::arg;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::sockets::{instance_network, ip_name_lookup, network, tcp_create_socket};

const HOUR: u64 = 3_600_000_000_000;

fn without_end<T>(mut open: impl FnMut() -> T) {
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
        "files" => without_end(file),
        "folders" => without_end(output),
        "readers" => {
            let file = file();
            without_end(|| file.read_via_stream(0).unwrap());
        }
        "writers" => {
            let file = file();
            without_end(|| file.write_via_stream(0).unwrap());
        }
        "streams" => without_end(wasip2::cli::stdout::get_stdout),
        "networks" => without_end(instance_network::instance_network),
        "sockets" => without_end(|| tcp_create_socket::create_tcp_socket(network::IpAddressFamily::Ipv4).unwrap()),
        "lookups" => {
            let network = instance_network::instance_network();
            without_end(|| ip_name_lookup::resolve_addresses(&network, "127.0.0.1").unwrap());
        }
        "timers" => without_end(|| subscribe_duration(HOUR)),
        // A thousand timers are over the limit; as many as there may be are waited for.
        "poll" => {
            let timers: Vec<_> = (0..arg(1).parse().unwrap()).map(|_| subscribe_duration(HOUR)).collect();
            println!("waiting");
            wasip2::io::poll::poll(&timers.iter().collect::<Vec<_>>());
        }
        other => panic!("no kind `{other}`"),
    }
}
