//! How the words of a tour are laid out. Pure.

use std::fmt::Write;

/// Widest line of explanations.
const WIDTH: usize = 100;

/// Words in lines that are not too wide; each of them ended.
pub fn wrapped(words: &str) -> String {
    let mut text = String::new();
    let mut line = String::from("  ");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("  ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
    text
}

/// How an act begins.
pub fn act(number: usize, title: &str, words: &str, command: &str) -> String {
    let mut text = format!("\n{number}. {title}\n{}", wrapped(words));
    if !command.is_empty() {
        let _ = writeln!(text, "   $ {command}");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_wrapped_and_lose_no_word() {
        let words = "word ".repeat(60);
        let text = wrapped(&words);
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.chars().count() <= WIDTH));
        assert_eq!(text.split_whitespace().count(), 60);
    }
}
