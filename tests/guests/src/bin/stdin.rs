//! Reads standard input to its end and prints its length and the sum of its bytes.

use std::io::Read;

fn main() {
    let (mut length, mut sum, mut buffer) = (0, 0, vec![0; 1 << 20]);
    let mut stdin = std::io::stdin().lock();
    loop {
        let count = stdin.read(&mut buffer).expect("standard input can be read");
        if count == 0 {
            break;
        }
        length += count;
        sum += buffer[..count].iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    println!("{length} bytes, sum {sum}");
}
