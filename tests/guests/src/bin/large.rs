//! Arguments too large, one for each import that takes a text, bytes or a list. Without an argument it prints the ways there are.
use strongroom_test_guests::{arg, context, secrets};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};

type Way = (&'static str, fn() -> String);

/// 128 MiB of text.
fn text() -> String {
    "x".repeat(128 << 20)
}

/// A million names.
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

fn came_back<T: std::fmt::Debug>(answer: T) -> String {
    format!("{answer:?}").chars().take(200).collect()
}

const WAYS: &[Way] = &[
    ("get-secret", || came_back(secrets::get_secret(&text()))),
    ("set-secret name", || came_back(secrets::set_secret(&text(), ""))),
    ("set-secret value", || came_back(secrets::set_secret("key", &text()))),
    ("get-secrets", || came_back(secrets::get_secrets(&[text()]))),
    ("set-secrets", || came_back(secrets::set_secrets(&[("key".to_owned(), text())]))),
    ("describe-secret", || came_back(secrets::describe_secret(&text()))),
    ("delete-secret", || came_back(secrets::delete_secret(&text()))),
    ("delete-secrets", || came_back(secrets::delete_secrets(&[text()]))),
    ("parameter", || came_back(context::parameter(&text()))),
    ("log-metric", || came_back(context::log_metric(&text(), 0.0, None))),
    ("report-progress", || came_back(context::report_progress(0, 0, &text()))),
    ("stdout write", || came_back(wasip2::cli::stdout::get_stdout().write(text().as_bytes()))),
    ("stderr blocking-write", || {
        came_back(wasip2::cli::stderr::get_stderr().blocking_write_and_flush(text().as_bytes()))
    }),
    ("open-at", || {
        let text = text();
        came_back(output().open_at(PathFlags::empty(), &text, OpenFlags::CREATE, DescriptorFlags::WRITE))
    }),
    ("create-directory-at", || came_back(output().create_directory_at(&text()))),
    ("remove-directory-at", || came_back(output().remove_directory_at(&text()))),
    ("unlink-file-at", || came_back(output().unlink_file_at(&text()))),
    ("stat-at", || came_back(output().stat_at(PathFlags::empty(), &text()))),
    ("set-times-at", || {
        let text = text();
        came_back(output().set_times_at(PathFlags::empty(), &text, NewTimestamp::Now, NewTimestamp::Now))
    }),
    ("readlink-at", || came_back(output().readlink_at(&text()))),
    ("metadata-hash-at", || came_back(output().metadata_hash_at(PathFlags::empty(), &text()))),
    ("symlink-at", || came_back(output().symlink_at(&text(), "link"))),
    ("link-at", || came_back(output().link_at(PathFlags::empty(), &text(), &output(), "link"))),
    ("rename-at", || came_back(output().rename_at("file", &output(), &text()))),
    ("write", || came_back(file().write(text().as_bytes(), 0))),
    ("write-via-stream", || came_back(file().write_via_stream(0).unwrap().write(text().as_bytes()))),
    ("append-via-stream", || came_back(file().append_via_stream().unwrap().write(text().as_bytes()))),
    ("resolve-addresses", || {
        let network = wasip2::sockets::instance_network::instance_network();
        came_back(wasip2::sockets::ip_name_lookup::resolve_addresses(&network, &text()))
    }),
    ("poll", || {
        let timer = wasip2::clocks::monotonic_clock::subscribe_duration(0);
        came_back(wasip2::io::poll::poll(&vec![&timer; 32 << 20]).len())
    }),
    ("names to get", || came_back(secrets::get_secrets(&names()))),
    ("names to set", || came_back(secrets::set_secrets(&pairs()))),
    ("names to delete", || came_back(secrets::delete_secrets(&names()))),
];

fn main() {
    let asked = arg(0);
    if asked.is_empty() {
        return WAYS.iter().for_each(|(name, _)| println!("way: {name}"));
    }
    let (_, way) = WAYS.iter().find(|(name, _)| *name == asked).unwrap();
    println!("came back: {}", way());
}
