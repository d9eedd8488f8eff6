//! How much room there is on the terminal.

use std::io::{IsTerminal, stdout};

/// Columns and lines of a terminal that does not say how many it has.
const USUAL: Size = Size { width: 80, height: 24 };

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters of a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

impl Size {
    /// That of standard output; `None` if it is no terminal, so that there is no edge at which anything must end.
    pub fn of_stdout() -> Option<Self> {
        let stdout = stdout();
        if !stdout.is_terminal() {
            return None;
        }
        let said = rustix::termios::tcgetwinsize(&stdout).ok();
        // A terminal that was never told its size says zero.
        let or = |said: Option<u16>, usual| said.filter(|said| *said > 0).map_or(usual, usize::from);
        Some(Self {
            width: or(said.map(|size| size.ws_col), USUAL.width),
            height: or(said.map(|size| size.ws_row), USUAL.height),
        })
    }
}

/// The width of standard output, as [`Size::of_stdout`] has it.
pub fn width() -> Option<usize> {
    Size::of_stdout().map(|size| size.width)
}
