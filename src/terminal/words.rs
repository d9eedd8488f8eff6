//! Lines that end between words. Pure.

/// Breaks a text into lines, of at most `first` characters the first and of at most `then` each other one, between words and
/// never within one: a word that is longer has a line for itself. A command in backquotes stays in one piece where a line has room
/// for it, so that it can be copied. A text of several lines keeps them. At least one line comes back.
fn broken(text: &str, first: usize, then: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        let mut length = 0;
        for word in pieces(paragraph, first.min(then), &['`']) {
            let more = word.chars().count();
            let width = if lines.is_empty() { first } else { then };
            if length > 0 && length + 1 + more > width {
                lines.push(std::mem::take(&mut line));
                length = 0;
            }
            if length > 0 {
                line.push(' ');
                length += 1;
            }
            line.push_str(&word);
            length += more;
        }
        lines.push(line);
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// The words of a line; what stands between two `quotes` of a kind is one, unless it is longer than a line.
fn pieces(text: &str, width: usize, quotes: &[char]) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut open: Option<char> = None;
    for word in text.split_whitespace() {
        match pieces.last_mut().filter(|_| open.is_some()) {
            Some(quoted) => {
                quoted.push(' ');
                quoted.push_str(word);
            }
            None => pieces.push(word.to_owned()),
        }
        for sign in word.chars().filter(|sign| quotes.contains(sign)) {
            open = match open {
                None => Some(sign),
                Some(known) if known == sign => None,
                other => other,
            };
        }
    }
    let split = |piece: String| match piece.chars().count() <= width {
        true => vec![piece],
        false => piece.split_whitespace().map(str::to_owned).collect(),
    };
    pieces.into_iter().flat_map(split).collect()
}

/// A text behind a `first` prefix, with lines of at most `width` characters in all; each further line has the prefix `then`.
/// Without a width it is one line. Every line is ended.
pub fn hang(first: &str, then: &str, text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return format!("{first}{text}\n") };
    let room = |prefix: &str| width.saturating_sub(prefix.chars().count()).max(1);
    let lines = broken(text, room(first), room(then));
    let mut out = String::new();
    for (place, line) in lines.iter().enumerate() {
        let prefix = if place == 0 { first } else { then };
        out.push_str(format!("{prefix}{line}").trim_end());
        out.push('\n');
    }
    out
}

/// A command to type behind a prefix. Where it is longer than `width`, its lines end with a backslash, as a shell reads them;
/// what is quoted in it stays whole.
pub fn command(prefix: &str, command: &str, width: Option<usize>) -> String {
    let whole = format!("{prefix}{command}\n");
    let Some(width) = width.filter(|width| whole.chars().count() > width + 1) else { return whole };
    let indent = prefix.chars().count();
    // A piece that is too long for a line is one all the same: a break within quotes would be quoted as well.
    let most = width.saturating_sub(indent + 2).max(1);
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces(command, usize::MAX, &['\'', '"']) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + piece.chars().count() <= most => {
                line.push(' ');
                line.push_str(&piece);
            }
            _ => lines.push(piece),
        }
    }
    let spaces = " ".repeat(indent);
    let mut out = String::new();
    for (place, line) in lines.iter().enumerate() {
        let end = if place + 1 < lines.len() { " \\" } else { "" };
        out.push_str(&format!("{}{line}{end}\n", if place == 0 { prefix } else { &spaces }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(text: &str, width: usize) -> Vec<String> {
        broken(text, width, width)
    }

    #[test]
    fn faults_6_15_lines_end_between_words() {
        let text = "0 of 2 pods of revision 6f5d8c9b7x are Ready, which 10 % needs";
        assert_eq!(wrap(text, 30), ["0 of 2 pods of revision", "6f5d8c9b7x are Ready, which 10", "% needs"]);
        assert_eq!(
            wrap("registry.example/payments/transaction is long", 20)[0],
            "registry.example/payments/transaction"
        );
        assert_eq!(wrap("", 20), [""]);
        assert_eq!(wrap("one\n\ntwo", 20), ["one", "", "two"]);
        for width in 1..80 {
            let lines = wrap(text, width);
            assert_eq!(lines.join(" "), text, "nothing is lost at {width}");
            let longest = text.split(' ').map(str::len).max().expect("it has words");
            assert!(lines.iter().all(|line| line.len() <= width.max(longest)), "{width}: {lines:?}");
        }
    }

    #[test]
    fn faults_6_15_a_command_can_be_copied() {
        let text = "it failed; run `kubectl banyan canary retry app -n pay` to try it again";
        assert_eq!(
            wrap(text, 45),
            ["it failed; run", "`kubectl banyan canary retry app -n pay` to", "try it again"]
        );
        // One that no line has room for breaks between its words.
        assert_eq!(wrap("run `kubectl get pods -n pay`", 12), ["run `kubectl", "get pods -n", "pay`"]);
        let typed = "kubectl -n payments describe pod transaction-6f5d8c9b7x-abcde";
        assert_eq!(
            command("next: ", typed, Some(50)),
            "next: kubectl -n payments describe pod \\\n      transaction-6f5d8c9b7x-abcde\n"
        );
        assert_eq!(command("next: ", typed, Some(80)), format!("next: {typed}\n"));
        assert_eq!(command("next: ", typed, None), format!("next: {typed}\n"));
        assert_eq!(
            command("  ", "banyan failover start payments --reason 'a drill'", Some(46)),
            "  banyan failover start payments --reason \\\n  'a drill'\n"
        );
    }

    #[test]
    fn faults_6_15_further_lines_hang_under_the_first() {
        assert_eq!(hang("├─ ", "│  ", "one two three", Some(10)), "├─ one two\n│  three\n");
        assert_eq!(hang("├─ ", "│  ", "one two three", None), "├─ one two three\n");
    }
}
