//! Passes oversized arguments to each import that takes a text, bytes or a list. Without an
//! argument it prints the names of the calls.
use strongroom_test_guests::{arg, context, secrets};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};

type Way = (&'static str, fn() -> String);

/// Returns 128 MiB of text.
fn text() -> String {
    "x".repeat(128 << 20)
}

/// Returns a million names.
fn names() -> Vec<String> {
    (0..1_000_000).map(|n| format!("n{n}")).collect()
}

fn pairs() -> Vec<(String, String)> {
    names().into_iter().map(|name| (name, String::new())).collect()
}

fn output() -> Descriptor {
    get_directories().into_iter().find(|(_, name)| name == "/output").unwrap().0
}

fn file() -> Descriptor {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    output().open_at(PathFlags::empty(), "file", OpenFlags::CREATE, flags).unwrap()
}

fn shorten<T: std::fmt::Debug>(result: T) -> String {
    format!("{result:?}").chars().take(200).collect()
}

const WAYS: &[Way] = &[
    ("get-secret", || shorten(secrets::get_secret(&text()))),
    ("set-secret name", || shorten(secrets::set_secret(&text(), ""))),
    ("set-secret value", || shorten(secrets::set_secret("key", &text()))),
    ("get-secrets", || shorten(secrets::get_secrets(&[text()]))),
    ("set-secrets", || shorten(secrets::set_secrets(&[("key".to_owned(), text())]))),
    ("describe-secret", || shorten(secrets::describe_secret(&text()))),
    ("delete-secret", || shorten(secrets::delete_secret(&text()))),
    ("delete-secrets", || shorten(secrets::delete_secrets(&[text()]))),
    ("parameter", || shorten(context::parameter(&text()))),
    ("log-metric", || shorten(context::log_metric(&text(), 0.0, None))),
    ("report-progress", || shorten(context::report_progress(0, 0, &text()))),
    ("set-tag name", || shorten(context::set_tag(&text(), ""))),
    ("set-tag value", || shorten(context::set_tag("tag", &text()))),
    ("remove-tag", || shorten(context::remove_tag(&text()))),
    ("log-parameter", || shorten(context::log_parameter("parameter", &text()))),
    ("log-text", || shorten(context::log_text("text", &text(), None))),
    ("stdout write", || shorten(wasip2::cli::stdout::get_stdout().write(text().as_bytes()))),
    ("stderr blocking-write", || {
        shorten(wasip2::cli::stderr::get_stderr().blocking_write_and_flush(text().as_bytes()))
    }),
    ("open-at", || {
        let text = text();
        shorten(output().open_at(PathFlags::empty(), &text, OpenFlags::CREATE, DescriptorFlags::WRITE))
    }),
    ("create-directory-at", || shorten(output().create_directory_at(&text()))),
    ("remove-directory-at", || shorten(output().remove_directory_at(&text()))),
    ("unlink-file-at", || shorten(output().unlink_file_at(&text()))),
    ("stat-at", || shorten(output().stat_at(PathFlags::empty(), &text()))),
    ("set-times-at", || {
        let text = text();
        shorten(output().set_times_at(PathFlags::empty(), &text, NewTimestamp::Now, NewTimestamp::Now))
    }),
    ("readlink-at", || shorten(output().readlink_at(&text()))),
    ("metadata-hash-at", || shorten(output().metadata_hash_at(PathFlags::empty(), &text()))),
    ("symlink-at", || shorten(output().symlink_at(&text(), "link"))),
    ("link-at", || shorten(output().link_at(PathFlags::empty(), &text(), &output(), "link"))),
    ("rename-at", || shorten(output().rename_at("file", &output(), &text()))),
    ("write", || shorten(file().write(text().as_bytes(), 0))),
    ("write-via-stream", || shorten(file().write_via_stream(0).unwrap().write(text().as_bytes()))),
    ("append-via-stream", || shorten(file().append_via_stream().unwrap().write(text().as_bytes()))),
    ("resolve-addresses", || {
        let network = wasip2::sockets::instance_network::instance_network();
        shorten(wasip2::sockets::ip_name_lookup::resolve_addresses(&network, &text()))
    }),
    ("poll", || {
        let timer = wasip2::clocks::monotonic_clock::subscribe_duration(0);
        shorten(wasip2::io::poll::poll(&vec![&timer; 32 << 20]).len())
    }),
    ("names to get", || shorten(secrets::get_secrets(&names()))),
    ("names to set", || shorten(secrets::set_secrets(&pairs()))),
    ("names to delete", || shorten(secrets::delete_secrets(&names()))),
];

fn main() {
    let wanted = arg(0);
    if wanted.is_empty() {
        return WAYS.iter().for_each(|(name, _)| println!("way: {name}"));
    }
    let (_, way) = WAYS.iter().find(|(name, _)| *name == wanted).unwrap();
    println!("came back: {}", way());
}
