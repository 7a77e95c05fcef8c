//! Performs one operation for each argument, such as `get=NAME`, `set=NAME=VALUE`, `get-many=A,B`,
//! and prints each result.
use strongroom_test_guests::{args, secrets, show};

fn main() {
    for step in args() {
        let (operation, rest) = step.split_once('=').unwrap_or((step.as_str(), ""));
        let many = || rest.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let pairs = || {
            let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            rest.split(',').filter_map(pair).collect::<Vec<_>>()
        };
        let result = match operation {
            "get" => show(&secrets::get_secret(rest)),
            // Prints only the length of the value.
            "len" => show(&secrets::get_secret(rest).map(|value| value.len())),
            "set" => {
                let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
                show(&secrets::set_secret(name, value))
            }
            // A value of this many bytes.
            "set-long" => {
                let (name, length) = rest.split_once('=').unwrap_or((rest, "0"));
                show(&secrets::set_secret(name, &"x".repeat(length.parse().unwrap())))
            }
            "get-many" => show(&secrets::get_secrets(&many())),
            "set-many" => show(&secrets::set_secrets(&pairs())),
            "list" => show(&secrets::list_secrets()),
            "describe" => show(&secrets::describe_secret(rest)),
            "delete" => show(&secrets::delete_secret(rest)),
            "delete-many" => show(&secrets::delete_secrets(&many())),
            other => panic!("no operation `{other}`"),
        };
        println!("{operation} {rest}: {result}");
    }
}
