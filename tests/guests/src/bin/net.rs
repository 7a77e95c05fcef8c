//! Connects to each address that its arguments name; then tries to look names up, bind, listen, and send a datagram. Prints what came of each.
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use strongroom_test_guests::args;

fn main() {
    for target in args() {
        let connected = TcpStream::connect(&target).and_then(|mut stream| {
            stream.write_all(b"ping\n")?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).trim().to_owned())
        });
        match connected {
            Ok(answer) => println!("connect {target}: CONNECTED {answer}"),
            Err(error) => println!("connect {target}: {:?}", error.kind()),
        }
    }
    for name in ["localhost:80", "example.com:80", "secret-value.attacker.example:53"] {
        println!("look up {name}: {:?}", name.to_socket_addrs().map(|found| found.count()).map_err(|_| "no"));
    }
    println!("listen: {:?}", TcpListener::bind("127.0.0.1:0").map(|_| "LISTENING").map_err(|_| "no"));
    println!(
        "udp: {:?}",
        UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"x", "127.0.0.1:9")).map_err(|_| "no")
    );
}
