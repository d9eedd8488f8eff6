//! What is drawn on a terminal in place of what was drawn there before.

use std::io::Write;

/// Lines that are drawn anew.
#[derive(Debug, Default)]
pub struct Drawing {
    lines: usize,
}

impl Drawing {
    /// Draws in the place of what was drawn last.
    pub fn draw(&mut self, text: &str) {
        let up = self.up();
        self.lines = text.lines().count();
        // A word that is longer than a line is cut at the edge, which keeps the count of lines right.
        print(&format!("{up}\x1b[?7l{text}\x1b[?7h"));
    }

    /// Leaves what was drawn where it stands: what comes next stands below it.
    pub fn keep(&mut self) {
        self.lines = 0;
    }

    /// Takes away what was drawn last.
    pub fn wipe(&mut self) {
        if self.lines > 0 {
            print(&self.up());
            self.lines = 0;
        }
    }

    fn up(&self) -> String {
        if self.lines == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.lines) }
    }
}

/// Prints on standard output. A reader that went away, as `head` does, is no reason to end in another way than usual.
pub fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
