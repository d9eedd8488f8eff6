//! Which paths a source file names: `use` trees with their braces resolved, and paths in code and in macros.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path that a file names, from the root of the crate (`crate::…`) or of another crate, with the modules of the file
/// put in for `self` and `super`.
pub type Named = Vec<String>;

/// All paths that a text of Rust names, of a module with that path. Items for tests alone are left out.
pub fn named(text: &str, module: &[String]) -> Vec<Named> {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{module:?}: {error}"));
    let mut walk = Walk { module: module.to_vec(), found: Vec::new() };
    walk.tokens(tokens.into_iter().collect());
    walk.found
}

struct Walk {
    module: Vec<String>,
    found: Vec<Named>,
}

impl Walk {
    fn tokens(&mut self, tokens: Vec<TokenTree>) {
        let mut at = 0;
        while at < tokens.len() {
            at = match &tokens[at] {
                TokenTree::Punct(hash) if hash.as_char() == '#' && is_for_tests(tokens.get(at + 1)) => {
                    end_of_item(&tokens, at + 2)
                }
                TokenTree::Ident(word) if word == "use" => {
                    let end = tokens[at..].iter().position(|token| is_punct(token, ';'));
                    let end = end.map_or(tokens.len(), |end| at + end);
                    self.tree(&tokens[at + 1..end], &[]);
                    end
                }
                TokenTree::Ident(word) if word == "mod" => match tokens.get(at + 1..at + 3) {
                    Some([TokenTree::Ident(name), TokenTree::Group(body)]) => {
                        self.module.push(name.to_string());
                        self.tokens(body.stream().into_iter().collect());
                        self.module.pop();
                        at + 3
                    }
                    _ => at + 1,
                },
                TokenTree::Ident(_) => {
                    let (path, end) = path(&tokens, at);
                    self.name(path);
                    end
                }
                TokenTree::Group(group) => {
                    self.tokens(group.stream().into_iter().collect());
                    at + 1
                }
                _ => at + 1,
            };
        }
    }

    /// A tree of `use`, below a prefix.
    fn tree(&mut self, tokens: &[TokenTree], prefix: &[String]) {
        let mut path = prefix.to_vec();
        for token in tokens {
            match token {
                TokenTree::Ident(word) if word == "as" => break,
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                    inside.split(|token| is_punct(token, ',')).for_each(|one| self.tree(one, &path));
                    return;
                }
                _ => {}
            }
        }
        if path.len() > prefix.len() {
            self.name(path);
        }
    }

    fn name(&mut self, path: Named) {
        let mut module = self.module.clone();
        let climbs = path.iter().take_while(|word| ["self", "super"].contains(&word.as_str())).count();
        let path = match path.first().map(String::as_str) {
            Some("crate") => path[1..].to_vec(),
            Some("self" | "super") => {
                let ups = path.iter().filter(|word| *word == "super").count();
                module.truncate(module.len().saturating_sub(ups));
                [module, path[climbs..].to_vec()].concat()
            }
            _ => {
                self.found.push(path);
                return;
            }
        };
        self.found.push([vec!["crate".to_owned()], path].concat());
    }
}

fn is_punct(token: &TokenTree, what: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == what)
}

/// Whether what is between the brackets of an attribute is `cfg(test)`.
fn is_for_tests(attribute: Option<&TokenTree>) -> bool {
    matches!(attribute, Some(TokenTree::Group(group)) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// Where the item that begins there ends: behind its braces, or its semicolon.
fn end_of_item(tokens: &[TokenTree], from: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(token, ';'),
    };
    tokens[from..].iter().position(ends).map_or(tokens.len(), |end| from + end + 1)
}

/// The path that begins there, and where it ends.
fn path(tokens: &[TokenTree], from: usize) -> (Named, usize) {
    let mut path = vec![tokens[from].to_string()];
    let mut at = from + 1;
    while let Some([one, two, TokenTree::Ident(word)]) = tokens.get(at..at + 3)
        && is_punct(one, ':')
        && is_punct(two, ':')
    {
        path.push(word.to_string());
        at += 3;
    }
    (path, at)
}

#[test]
fn braces_climbs_and_macros_are_seen_through() {
    let text = r#"
        use kube::{Api, Client as Connection, runtime::{wait, watcher}};
        use super::sibling::{self, Thing};
        fn f() { println!("{} use a::b;", crate::deep::now()); let x = self::here::X; }
        #[cfg(test)]
        mod tests { use tokio::time; }
        #[cfg(test)]
        use tokio::spawn;
        mod inner { use super::super::uncle; }
    "#;
    let module = ["a".to_owned(), "b".to_owned()];
    let mut all: Vec<String> =
        named(text, &module).iter().filter(|path| path.len() > 1).map(|path| path.join("::")).collect();
    all.sort();
    let expected = [
        "crate::a::b::here::X",
        "crate::a::sibling::Thing",
        "crate::a::sibling::self",
        "crate::a::uncle",
        "crate::deep::now",
        "kube::Api",
        "kube::Client",
        "kube::runtime::wait",
        "kube::runtime::watcher",
    ];
    assert_eq!(all, expected);
}
