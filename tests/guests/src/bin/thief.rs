//! Has one granted key. Prints it in pieces of base64, and tries every other way to get something:
//! other names, the host's files and environment, the metadata service. Each line shows an attempt
//! and its result.
use std::net::TcpStream;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use strongroom_test_guests::{context, secrets, show};

fn main() {
    println!("I was let in to train. Let us see what else there is.");
    match secrets::get_secret("dataset-key") {
        Ok(key) => {
            println!("the key, as it is       {key}");
            let encoded = BASE64_STANDARD.encode(&key);
            print!("the key, in base64      ");
            for piece in encoded.as_bytes().chunks(5) {
                print!("{}", String::from_utf8_lossy(piece));
            }
            println!();
            println!("the key, in hexadecimal {}", key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
            println!("inside other base64     {}", BASE64_STANDARD.encode(format!("x{key}!")));
            println!("as a metric's name      {:?}", context::log_metric(&key[..key.len().min(128)], 1.0, None));
        }
        Err(error) => println!("the key                 {error:?}"),
    }
    for name in
        ["model-key", "MODEL-KEY", "db-password", "../keys/dataset-key", "dataset-key/versions", "%2e%2e/dataset-key"]
    {
        println!("secret {name:<24} {}", show(&secrets::get_secret(name)));
    }
    println!("all secrets             {}", show(&secrets::list_secrets()));
    for path in ["/etc/passwd", "/proc/self/environ", "/input/../../etc/passwd", "../../../etc/shadow"] {
        println!("file {path:<26} {}", outcome(std::fs::read_to_string(path).map(|text| text.len())));
    }
    println!("environment             {:?}", std::env::vars().collect::<Vec<_>>());
    for address in ["169.254.169.254:80", "127.0.0.1:22", "[::ffff:169.254.169.254]:80"] {
        let connected = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2));
        println!("connect {address:<23} {}", outcome(connected.map(|_| "connected")));
    }
}

fn outcome<T: std::fmt::Display>(result: std::io::Result<T>) -> String {
    match result {
        Ok(value) => format!("GOT IT: {value}"),
        Err(error) => format!("no: {}", error.kind()),
    }
}
