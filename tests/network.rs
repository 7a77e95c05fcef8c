//! Network access: only granted addresses are reachable, in any spelling and by any name, and no
//! component listens or sends datagrams.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread::JoinHandle;

use strongroom::record::NetworkOperation;

use crate::support::Host;

/// A server that answers one connection after another until [`Server::end`].
struct Server {
    address: SocketAddr,
    thread: JoinHandle<usize>,
}

impl Server {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            for served in 0.. {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = [0; 5];
                if stream.read_exact(&mut line).is_err() || line != *b"ping\n" {
                    return served;
                }
                stream.write_all(b"pong\n").unwrap();
            }
            0
        });
        Self { address, thread }
    }

    /// Stops the server and returns the number of connections served.
    fn end(self) -> usize {
        std::net::TcpStream::connect(self.address).unwrap().write_all(b"end.\n").unwrap();
        self.thread.join().unwrap()
    }
}

/// A listener that must not be connected to.
struct Trap(TcpListener);

impl Trap {
    fn at(address: &str) -> Option<Self> {
        let listener = TcpListener::bind(address).ok()?;
        listener.set_nonblocking(true).unwrap();
        Some(Self(listener))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert!(self.0.accept().is_err(), "a port that was not granted was connected to");
    }
}

/// What `net` prints if it could do nothing beyond granted connections.
const NOTHING_ELSE: &[&str] = &[
    "look up localhost:80: Err",
    "look up example.com:80: Err",
    "look up secret-value.attacker.example:53: Err",
    "look up metadata.google.internal:80: Err",
    "listen 127.0.0.1:0: Err",
    "listen 0.0.0.0:0: Err",
    "listen [::]:0: Err",
    "listen [::1]:0: Err",
    "udp 127.0.0.1:0: Err",
    "udp 0.0.0.0:0: Err",
    "udp [::]:0: Err",
    "udp [::1]:0: Err",
    "datagrams: false",
];

// promise: A run connects only to addresses that were granted.
// attack: escape: connect to an address that was not granted, by IPv4, IPv6, a mapped or embedding
// form, or a name -> whole addresses are compared, and the names of the policy are resolved once
// attack: escape: send data out through DNS lookups -> lookups are answered from the names of the
// policy, and DNS is never asked
// attack: escape: listen on a socket, by itself or after a permitted bind, or send datagrams ->
// every use of an address except connecting is refused, and there are no UDP sockets
#[test]
fn run_reaches_only_granted_addresses() {
    let (granted, trap) = (Server::start("127.0.0.1:0"), Trap::at("127.0.0.1:0").unwrap());
    let host = Host::new();
    let policy = format!("version = 1\ntcp = [\"{}\"]", granted.address);
    let port = trap.port();
    let targets = [
        granted.address.to_string(),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("127.1:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::1]:{port}"),
        format!("[::]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("[::127.0.0.1]:{port}"),
        format!("[64:ff9b::7f00:1]:{port}"),
        format!("[2002:7f00:1::]:{port}"),
        // The granted port at other addresses.
        format!("127.0.0.2:{}", granted.address.port()),
        format!("[::ffff:127.0.0.1]:{}", granted.address.port()),
        "169.254.169.254:80".to_owned(),
        "[::ffff:169.254.169.254]:80".to_owned(),
        "[fd00:ec2::254]:80".to_owned(),
    ];
    let run = host.run("net", &policy, &targets.each_ref().map(String::as_str)).finished();
    assert_eq!(run.shown.matches("CONNECTED").count(), 1, "{}", run.shown);
    let run = run.shows(&format!("connect {}: CONNECTED pong", granted.address)).never_shows("LISTENING");
    let run = run.shows("listen bound: Err").shows("listen unbound: Err").shows("accept: false");
    let run = NOTHING_ELSE.iter().fold(run.shows("is listening: false"), |run, text| run.shows(text));
    let granted_at = granted.address.to_string();
    assert_eq!(granted.end(), 1);
    trap.assert_untouched();

    // The record and the audit log list the attempts and their results.
    let usages = &run.record.network;
    let of = |target: &str| usages.iter().find(|usage| usage.target == target).unwrap_or_else(|| panic!("{usages:?}"));
    let (granted, trapped) = (of(&granted_at), of(&targets[1]));
    assert_eq!((granted.count, granted.denied, granted.entry.as_ref()), (1, 0, Some(&granted_at)));
    assert_eq!((trapped.count, trapped.denied, trapped.would_allow.as_ref()), (0, 1, Some(&targets[1])));
    assert_eq!((of("169.254.169.254:80").denied, of("169.254.169.254:80").would_allow.as_ref()), (1, None));
    assert_eq!((of("example.com").operation, of("example.com").denied), (NetworkOperation::LookUp, 1));
    let events = host.audit(&run.record.id.to_string());
    assert_eq!(events.matches(r#""event":"network""#).count(), usages.len(), "{events}");

    // Without a grant a socket connects nowhere, and the denied destination is recorded.
    let run = host.run("net", "version = 1", &[&targets[1], &targets[7]]).finished().never_shows("CONNECTED");
    let run = run.shows("listen bound: Err").shows("listen unbound: Err").shows("accept: false");
    let run = NOTHING_ELSE.iter().fold(run.shows("is listening: false"), |run, text| run.shows(text));
    assert!(run.record.network.iter().any(|usage| usage.target == targets[1] && usage.denied == 1));
    trap.assert_untouched();
}

// attack: escape: connect to an address that was not granted, by IPv4, IPv6, a mapped or embedding
// form, or a name -> whole addresses are compared, and the names of the policy are resolved once
#[test]
fn ipv6_grant_covers_only_its_address() {
    let Some(trap) = Trap::at("[::1]:0") else { return println!("no IPv6 on this machine: nothing to try") };
    let granted = Server::start("[::1]:0");
    let policy = format!("version = 1\ntcp = [\"{}\"]", granted.address);
    let targets = [
        granted.address.to_string(),
        format!("[::1]:{}", trap.port()),
        format!("127.0.0.1:{}", granted.address.port()),
    ];
    let run = Host::new().run("net", &policy, &targets.each_ref().map(String::as_str)).finished();
    assert_eq!(run.shown.matches("CONNECTED").count(), 1, "{}", run.shown);
    run.shows(&format!("connect {}: CONNECTED pong", granted.address)).never_shows("LISTENING");
    assert_eq!(granted.end(), 1);
    trap.assert_untouched();
}

// attack: escape: reach a metadata service through an address or name in the policy -> metadata
// addresses are refused in every form, for names after resolution
#[test]
fn policy_cannot_grant_forbidden_addresses() {
    let host = Host::new();
    let guest = crate::support::guest("net").display().to_string();
    for address in [
        "169.254.169.254:80",
        "[::ffff:169.254.169.254]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[fd00:ec2::254]:80",
        "0.0.0.0:80",
        "224.0.0.1:80",
        "[fe80::1]:80",
        // A name that resolves to the machine itself.
        "localhost:80",
    ] {
        host.file("policy.toml", format!("version = 1\ntcp = [\"{address}\"]"));
        host.fails(2, &["run", &guest, "--policy", "policy.toml"]);
        assert!(!host.home().join("runs").join("x").exists());
    }
}

// attack: escape: listen on a socket, by itself or after a permitted bind, or send datagrams ->
// every use of an address except connecting is refused, and there are no UDP sockets
#[test]
fn run_cannot_send_datagrams() {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    // A grant for TCP is not a grant for datagrams.
    let policy = format!("version = 1\ntcp = [\"{at}\"]");
    let run = Host::new().run("net", &policy, &[]).finished();
    NOTHING_ELSE.iter().fold(run, |run, text| run.shows(text));
    assert!(listener.recv(&mut [0; 16]).is_err());
}
