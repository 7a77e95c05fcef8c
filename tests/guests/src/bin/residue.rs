//! Leaves a secret wherever it can, or looks for what an earlier run left in untouched memory,
//! files, environment and arguments.
use strongroom_test_guests::{arg, secrets};

/// The beginning of the value. Each byte is flipped, so that the search does not find this
/// constant.
const FLIPPED: [u8; 12] = flipped(*b"LEFT-BEHIND-");
const PAGES: usize = 1024;

const fn flipped(mut text: [u8; 12]) -> [u8; 12] {
    let mut n = 0;
    while n < text.len() {
        text[n] ^= 0x55;
        n += 1;
    }
    text
}

/// Grows the memory and returns all of it.
fn memory() -> &'static mut [u8] {
    assert_ne!(core::arch::wasm32::memory_grow(0, PAGES), usize::MAX);
    let end = core::arch::wasm32::memory_size(0) << 16;
    // From the first kilobyte: data, stack, heap, and the new pages.
    unsafe { std::slice::from_raw_parts_mut(1024 as *mut u8, end - 1024) }
}

fn main() {
    match arg(0).as_str() {
        "leave" => {
            let value = secrets::get_secret(&arg(1)).unwrap();
            let memory = memory();
            let added = memory.len() - (PAGES << 16);
            for chunk in memory[added..].chunks_exact_mut(value.len()) {
                chunk.copy_from_slice(value.as_bytes());
            }
            std::fs::write("/output/left", &value).unwrap();
            std::fs::create_dir("/output/folder").unwrap();
            println!("left");
        }
        "look" => {
            let memory = memory();
            let matches =
                memory.windows(12).filter(|at| at.iter().zip(FLIPPED).all(|(byte, flipped)| *byte == flipped ^ 0x55));
            println!("values: {}", matches.count());
            let added = memory.len() - (PAGES << 16);
            println!("bytes: {}", memory[added..].iter().filter(|byte| **byte != 0).count());
            println!("files: {}", std::fs::read_dir("/output").unwrap().count());
            println!("environment: {:?}", std::env::vars().collect::<Vec<_>>());
            println!("again: {:?}", secrets::get_secret(&arg(1)).is_ok());
        }
        other => panic!("no way `{other}`"),
    }
}
