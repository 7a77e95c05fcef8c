//! Prompts for hidden input on the terminal.
//!
//! The terminal is read byte by byte instead of by line. The line discipline would truncate a line
//! at 4,095 bytes, and would leave all but the first pasted line to the shell, which would show and
//! run them. On terminals with bracketed paste, a value may have several lines. On others, pasting
//! several lines is rejected and the input is discarded.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize, Zeroizing};

use super::failure::{Exit, Failure};

/// How long the rest of a paste may take to arrive.
const PASTE_TIMEOUT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const ERASE: [u8; 2] = [0x08, 0x7f];
const KILL: u8 = 0x15;
const ESCAPE: u8 = 0x1b;

/// Prompts for hidden input and returns it without the line end: at most `max` bytes, plus one if
/// it is too long. Restores the terminal before it returns.
pub(super) fn hidden(question: &str, max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |cause: io::Error| Failure::invalid(format!("could not read from the terminal: {cause}"));
    let file = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let mut terminal = Terminal::acquire(file).map_err(failed)?;
    terminal.ask(question).map_err(failed)?;
    let mut input = Input::new(max);
    loop {
        let mut read = Zeroizing::new([0]);
        match rustix::io::read(&terminal.file, &mut *read) {
            Ok(0) => return Err(cancelled()),
            Ok(_) => {
                let [byte] = *read;
                match input.push(byte) {
                    Step::More => {}
                    Step::Cancelled => return Err(cancelled()),
                    Step::Done => break,
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    // Input that follows the line end this quickly is pasted. It is discarded when the terminal is
    // restored.
    let mut waiting = [PollFd::new(&terminal.file, PollFlags::IN)];
    if poll(&mut waiting, Some(&PASTE_TIMEOUT)).is_ok_and(|count| count > 0) {
        return Err(Failure::invalid(
            "more than one line was pasted, and this terminal does not support bracketed paste",
        )
        .help("pass a value with several lines in a file or on standard input"));
    }
    Ok(input.text)
}

fn cancelled() -> Failure {
    Failure::new(Exit::Cancelled, "cancelled at the prompt; nothing was done")
}

/// The terminal with echo turned off.
struct Terminal {
    file: File,
    before: Termios,
}

impl Terminal {
    fn acquire(file: File) -> io::Result<Self> {
        let before = tcgetattr(&file)?;
        let mut silent = before.clone();
        // Signals are disabled too: they would end the process with echo still off.
        silent.local_modes -=
            LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        silent.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IGNCR | InputModes::IXON;
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&file, OptionalActions::Flush, &silent)?;
        Ok(Self { file, before })
    }

    fn ask(&mut self, question: &str) -> io::Result<()> {
        self.file.write_all(question.as_bytes())?;
        self.file.write_all(b"\x1b[?2004h")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.file.write_all(b"\x1b[?2004l\r\n");
        // Discards unread input, which may be a part of the value.
        let _ = tcsetattr(&self.file, OptionalActions::Flush, &self.before);
    }
}

/// The effect of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    Done,
    Cancelled,
}

/// The input so far.
struct Input {
    /// Allocated at full size, so that it is never moved.
    text: Zeroizing<Vec<u8>>,
    max: usize,
    pasting: bool,
    /// Whether the last pasted byte was CR: a following LF belongs to the same line end.
    after_return: bool,
    /// An incomplete escape sequence.
    sequence: Vec<u8>,
}

impl Input {
    fn new(max: usize) -> Self {
        let text = Zeroizing::new(Vec::with_capacity(max + 1));
        Self { text, max, pasting: false, after_return: false, sequence: Vec::new() }
    }

    fn push(&mut self, byte: u8) -> Step {
        if self.pasting {
            self.pasted(byte);
            return Step::More;
        }
        if !self.sequence.is_empty() && byte != INTERRUPT {
            self.key(byte);
            return Step::More;
        }
        match byte {
            INTERRUPT => return Step::Cancelled,
            END if self.text.is_empty() => return Step::Cancelled,
            b'\r' | b'\n' | END => return Step::Done,
            ESCAPE => self.sequence.push(byte),
            KILL => self.text.zeroize(),
            byte if ERASE.contains(&byte) => self.erase(),
            byte if byte == b'\t' || !byte.is_ascii_control() => self.append(byte),
            // Other control keys are ignored.
            _ => {}
        }
        Step::More
    }

    /// Continues an escape sequence: an ignored key, such as an arrow, or the start of a paste.
    fn key(&mut self, byte: u8) {
        self.sequence.push(byte);
        let complete = match self.sequence.get(1) {
            Some(b'[') => self.sequence.len() > 2 && (0x40..=0x7e).contains(&byte),
            Some(b'O') => self.sequence.len() > 2,
            _ => true,
        };
        if complete || self.sequence.len() > 16 {
            self.pasting = self.sequence == PASTE_BEGINS;
            self.sequence.clear();
        }
    }

    /// Handles a pasted byte. Everything up to the end mark belongs to the value.
    fn pasted(&mut self, byte: u8) {
        let after_return = std::mem::take(&mut self.after_return);
        if byte == ESCAPE || !self.sequence.is_empty() {
            if byte == ESCAPE {
                self.flush();
            }
            self.sequence.push(byte);
            if self.sequence == PASTE_ENDS {
                self.sequence.clear();
                self.pasting = false;
            } else if !PASTE_ENDS.starts_with(&self.sequence) {
                self.flush();
            }
            return;
        }
        match byte {
            b'\n' if after_return => {}
            b'\r' => {
                self.after_return = true;
                self.append(b'\n');
            }
            byte => self.append(byte),
        }
    }

    /// Appends an incomplete sequence that turned out not to be the end mark.
    fn flush(&mut self) {
        for byte in std::mem::take(&mut self.sequence) {
            self.append(byte);
        }
    }

    fn append(&mut self, byte: u8) {
        if self.text.len() <= self.max {
            self.text.push(byte);
        }
    }

    /// Removes the last character.
    fn erase(&mut self) {
        while let Some(byte) = self.text.pop() {
            if byte & 0xc0 != 0x80 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the text, the last step, and the number of consumed bytes.
    fn typed(bytes: &[u8]) -> (Vec<u8>, Step, usize) {
        let mut input = Input::new(40);
        for (at, byte) in bytes.iter().enumerate() {
            match input.push(*byte) {
                Step::More => {}
                step => return (input.text.to_vec(), step, at + 1),
            }
        }
        (input.text.to_vec(), Step::More, bytes.len())
    }

    #[test]
    fn prompt_supports_editing_keys() {
        for (keys, text, step) in [
            ("abc\r", "abc", Step::Done),
            ("abc\n", "abc", Step::Done),
            ("abc\x04", "abc", Step::Done),
            ("\r", "", Step::Done),
            ("\x04", "", Step::Cancelled),
            ("abc\x03", "abc", Step::Cancelled),
            ("\x1b\x03", "", Step::Cancelled),
            ("ab\x7fc\x08d\r", "ad", Step::Done),
            ("\x7f\x7fa\r", "a", Step::Done),
            ("aä€\x7f\x7fb\r", "ab", Step::Done),
            ("abc\x15d\r", "d", Step::Done),
            ("a\tb\r", "a\tb", Step::Done),
            ("a\x1b[D\x1b[1;5C\x1bOP\x1bxb\x1a\x00\r", "ab", Step::Done),
            ("\x1b[200~one\rtwo\x1b[201~\r", "one\ntwo", Step::Done),
            ("\x1b[200~one\r\ntwo\nthree\r\x1b[201~\r", "one\ntwo\nthree\n", Step::Done),
            ("a\x1b[200~\x03\x1b[31m\x1b\x1b[201~b\r", "a\x03\x1b[31m\x1bb", Step::Done),
            ("\x1b[200~a\x1b[201~\x1b[200~b\x1b[201~\r", "ab", Step::Done),
        ] {
            let (found, ended, taken) = typed(keys.as_bytes());
            assert_eq!((String::from_utf8_lossy(&found).as_ref(), ended), (text, step), "{keys:?}");
            assert_eq!(taken, keys.len(), "{keys:?}");
        }
    }

    #[test]
    fn overlong_input_stays_bounded() {
        assert_eq!(typed(&[b'x'; 1000]).0.len(), 41);
        assert_eq!(typed(&[b'x'; 40]).0.len(), 40);
    }

    proptest! {
        #[test]
        fn any_paste_round_trips(text in "[^\r]{0,12}") {
            prop_assume!(!text.contains("\x1b[201~"));
            // A trailing escape character would be taken for the start of the end mark.
            let keys = format!("\x1b[200~{text}\x1b[201~\r");
            let (found, step, taken) = typed(keys.as_bytes());
            prop_assert_eq!((String::from_utf8_lossy(&found).into_owned(), step, taken), (text, Step::Done, keys.len()));
        }
    }
}
