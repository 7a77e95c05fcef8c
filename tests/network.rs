//! Reaching out: what is granted is reached, and nothing else, by whatever address and whatever name; nobody listens, no datagram goes out.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread::JoinHandle;

use strongroom::record::NetworkOperation;

use crate::support::Host;

/// A listener that answers one connection after another, until it is told to end.
struct Server {
    at: SocketAddr,
    thread: JoinHandle<usize>,
}

impl Server {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let at = listener.local_addr().unwrap();
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
        Self { at, thread }
    }

    /// How many it has served.
    fn end(self) -> usize {
        std::net::TcpStream::connect(self.at).unwrap().write_all(b"end.\n").unwrap();
        self.thread.join().unwrap()
    }
}

/// A listener at which nobody may knock.
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
    fn was_not_touched(&self) {
        assert!(self.0.accept().is_err(), "somebody has connected to a port that was not granted");
    }
}

/// What `net` says where it got nothing but connections that were granted.
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
fn only_granted_addresses_are_reached() {
    let (granted, trap) = (Server::start("127.0.0.1:0"), Trap::at("127.0.0.1:0").unwrap());
    let host = Host::new();
    let policy = format!("version = 1\ntcp = [\"{}\"]", granted.at);
    let port = trap.port();
    let targets = [
        granted.at.to_string(),
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
        // The granted port, by other addresses than the one that was written.
        format!("127.0.0.2:{}", granted.at.port()),
        format!("[::ffff:127.0.0.1]:{}", granted.at.port()),
        "169.254.169.254:80".to_owned(),
        "[::ffff:169.254.169.254]:80".to_owned(),
        "[fd00:ec2::254]:80".to_owned(),
    ];
    let run = host.run("net", &policy, &targets.each_ref().map(String::as_str)).finished();
    assert_eq!(run.shown.matches("CONNECTED").count(), 1, "{}", run.shown);
    let run = run.shows(&format!("connect {}: CONNECTED pong", granted.at)).never_shows("LISTENING");
    let run = run.shows("listen bound: Err").shows("listen unbound: Err").shows("accept: false");
    let run = NOTHING_ELSE.iter().fold(run.shows("is listening: false"), |run, text| run.shows(text));
    let granted_at = granted.at.to_string();
    assert_eq!(granted.end(), 1);
    trap.was_not_touched();

    // The record and the audit say what it wanted and what it got.
    let account = &run.record.network;
    let of = |target: &str| account.iter().find(|used| used.target == target).unwrap_or_else(|| panic!("{account:?}"));
    let (granted, trapped) = (of(&granted_at), of(&targets[1]));
    assert_eq!((granted.count, granted.denied, granted.entry.as_ref()), (1, 0, Some(&granted_at)));
    assert_eq!((trapped.count, trapped.denied, trapped.would_allow.as_ref()), (0, 1, Some(&targets[1])));
    assert_eq!((of("169.254.169.254:80").denied, of("169.254.169.254:80").would_allow.as_ref()), (1, None));
    assert_eq!((of("example.com").operation, of("example.com").denied), (NetworkOperation::LookUp, 1));
    let trail = host.audit(&run.record.id.to_string());
    assert_eq!(trail.matches(r#""event":"network""#).count(), account.len(), "{trail}");

    // Without a grant a socket leads nowhere, and it is said where it was to lead.
    let run = host.run("net", "version = 1", &[&targets[1], &targets[7]]).finished().never_shows("CONNECTED");
    let run = run.shows("listen bound: Err").shows("listen unbound: Err").shows("accept: false");
    let run = NOTHING_ELSE.iter().fold(run.shows("is listening: false"), |run, text| run.shows(text));
    assert!(run.record.network.iter().any(|used| used.target == targets[1] && used.denied == 1));
    trap.was_not_touched();
}

// attack: escape: connect to an address that was not granted, by IPv4, IPv6, a mapped or embedding
// form, or a name -> whole addresses are compared, and the names of the policy are resolved once
#[test]
fn a_grant_for_ipv6_is_for_that_address_alone() {
    let Some(trap) = Trap::at("[::1]:0") else { return println!("no IPv6 on this machine: nothing to try") };
    let granted = Server::start("[::1]:0");
    let policy = format!("version = 1\ntcp = [\"{}\"]", granted.at);
    let targets =
        [granted.at.to_string(), format!("[::1]:{}", trap.port()), format!("127.0.0.1:{}", granted.at.port())];
    let run = Host::new().run("net", &policy, &targets.each_ref().map(String::as_str)).finished();
    assert_eq!(run.shown.matches("CONNECTED").count(), 1, "{}", run.shown);
    run.shows(&format!("connect {}: CONNECTED pong", granted.at)).never_shows("LISTENING");
    assert_eq!(granted.end(), 1);
    trap.was_not_touched();
}

// attack: escape: reach a metadata service through an address or name in the policy -> metadata
// addresses are refused in every form, for names after resolution
#[test]
fn a_policy_cannot_grant_what_is_always_refused() {
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
        // A name that leads to the machine itself.
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
fn no_datagram_leaves() {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    // Granted as TCP, which is no grant for datagrams.
    let policy = format!("version = 1\ntcp = [\"{at}\"]");
    let run = Host::new().run("net", &policy, &[]).finished();
    NOTHING_ELSE.iter().fold(run, |run, text| run.shows(text));
    assert!(listener.recv(&mut [0; 16]).is_err());
}
