//! An expression for the paths below a prefix that are nobody else's. Pure.
//!
//! Istio takes the first rule that matches, and of several VirtualServices for one host the older one's rules first: the
//! shorter prefix would take what belongs to the longer one. Gateway API goes by length. Where prefixes are nested, the rule
//! of the shorter one says what it leaves out, so that both give the same answers (faults 8.4). RE2, which Envoy asks, has
//! no "not"; but what is left out is a few words, and all words but those can be spelled.

use std::collections::BTreeMap;

/// Segments of paths, each with what comes below it; `left_out` where all from there on is another's.
#[derive(Debug, Default)]
struct Segments<'a> {
    left_out: bool,
    below: BTreeMap<&'a str, Segments<'a>>,
}

/// The expression for `prefix` and all below it, but for `nested` and all below those. It stands for whole paths, without
/// their queries. Of `nested` only what lies below `prefix` counts.
pub fn but(prefix: &str, nested: &[&str]) -> String {
    let prefix = prefix.trim_end_matches('/');
    let mut root = Segments::default();
    for path in nested {
        let below = path.trim_end_matches('/').strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
        let Some(below) = below.filter(|below| !below.is_empty()) else { continue };
        let mut at = &mut root;
        for segment in below.split('/') {
            at = at.below.entry(segment).or_default();
        }
        at.left_out = true;
    }
    let rest = rest(&root);
    // A path begins with a slash in any case.
    let rest = if prefix.is_empty() { rest } else { format!("({rest})?") };
    format!("{}{rest}", literal(prefix))
}

/// What follows a segment, where anything does: a slash and what may stand behind it.
fn rest(of: &Segments) -> String {
    let words: Vec<&str> = of.below.keys().copied().collect();
    let mut ways = vec![format!("{}(/.*)?", others(&words))];
    for (word, below) in &of.below {
        if !below.left_out {
            ways.push(format!("{}({})?", literal(word), rest(below)));
        }
    }
    format!("/({})", ways.join("|"))
}

/// All segments but these words, the empty one among them.
fn others(words: &[&str]) -> String {
    let mut ways: Vec<String> = Vec::new();
    let mut by_first: BTreeMap<char, Vec<&str>> = BTreeMap::new();
    for word in words {
        if let Some(first) = word.chars().next() {
            by_first.entry(first).or_default().push(&word[first.len_utf8()..]);
        }
    }
    if by_first.is_empty() {
        return if words.is_empty() { "[^/]*".to_owned() } else { "[^/]+".to_owned() };
    }
    let firsts: String = by_first.keys().map(|first| in_class(*first)).collect();
    ways.push(format!("[^/{firsts}][^/]*"));
    for (first, rests) in &by_first {
        ways.push(format!("{}{}", literal(&first.to_string()), others(rests)));
    }
    // The empty one, unless it is one of those words.
    let end = if words.iter().any(|word| word.is_empty()) { "" } else { "?" };
    format!("({}){end}", ways.join("|"))
}

/// A text as it stands in an expression: RE2 takes a backslash before whatever is neither letter nor digit.
fn literal(text: &str) -> String {
    let plain = |one: &char| one.is_ascii_alphanumeric() || matches!(one, '/' | '-' | '_' | '~' | '%');
    text.chars().map(|one| if plain(&one) { one.to_string() } else { format!("\\{one}") }).collect()
}

/// A character as it stands in a class of characters.
fn in_class(one: char) -> String {
    if matches!(one, '\\' | ']' | '[' | '^' | '-' | '&' | '~') { format!("\\{one}") } else { one.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_below(path: &str, prefix: &str) -> bool {
        let prefix = prefix.trim_end_matches('/');
        path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    }

    fn matches(expression: &str, path: &str) -> bool {
        regex::Regex::new(&format!("^(?:{expression})$")).expect("an expression").is_match(path)
    }

    #[test]
    fn faults_8_4_what_is_anothers_is_left_out() {
        let expression = but("/pay", &["/pay/refunds", "/pay/admin/keys", "/cart"]);
        for path in [
            "/pay",
            "/pay/",
            "/pay/x",
            "/pay/refund",
            "/pay/refundss",
            "/pay/refundsx/y",
            "/pay/admin",
            "/pay/admin/x",
        ] {
            assert!(matches(&expression, path), "{path}: {expression}");
        }
        for path in
            ["/pay/refunds", "/pay/refunds/", "/pay/refunds/7", "/pay/admin/keys", "/payments", "/", "/cart"]
        {
            assert!(!matches(&expression, path), "{path}: {expression}");
        }
        let all = but("/", &["/cart"]);
        assert!(
            matches(&all, "/")
                && matches(&all, "/carts")
                && matches(&all, "/car")
                && !matches(&all, "/cart/1")
        );
        assert_eq!(but("/pay", &["/cart"]), "/pay(/([^/]*(/.*)?))?");
    }

    proptest! {
        #[test]
        fn a_path_belongs_to_the_longest_prefix(
            prefix in "(/[ab]{1,2}){0,2}",
            nested in proptest::collection::vec("(/[ab.+-]{1,3}){1,3}", 0..4),
            path in "(/[ab.+-]{0,3}){1,4}",
        ) {
            let below: Vec<String> = nested.iter().map(|rest| format!("{prefix}{rest}")).collect();
            let below: Vec<&str> = below.iter().map(String::as_str).collect();
            let expression = but(if prefix.is_empty() { "/" } else { &prefix }, &below);
            for path in [path.clone(), format!("{prefix}{path}")] {
                let ours = is_below(&path, &prefix) && !below.iter().any(|other| is_below(&path, other));
                prop_assert_eq!(matches(&expression, &path), ours, "{} {}", path, expression);
            }
        }
    }
}
