//! The bodies of messages. What a tenant may have written pings nobody, links nowhere and is no longer than it should be.
//! Pure.

use serde_json::{Value, json};

use super::pending::{Group, Pending, Told};
use super::settings::{Format, Severity};

/// How many groups have a block of their own: Slack takes 50 blocks.
const GROUPS: usize = 20;
/// The longest text of a block, in characters: Slack takes 3000.
const LONGEST_BLOCK: usize = 2900;
/// The longest sentence of a transition, in characters.
const LONGEST_NOTE: usize = 400;

/// The message that tells what is pending of a site.
pub fn message(format: Format, site: &str, pending: &Pending) -> Value {
    match format {
        Format::Slack => slack(site, pending),
        Format::Json => {
            let groups: Vec<Value> = pending.groups().map(group).collect();
            json!({"version": 1, "site": site, "groups": groups})
        }
    }
}

/// A message by which somebody tries a destination out.
pub fn trial(format: Format, site: &str) -> Value {
    match format {
        Format::Slack => {
            let text = format!("Banyan in {} can be heard here: this is a test.", safe(site));
            json!({"text": text, "blocks": [block(text)]})
        }
        Format::Json => json!({"version": 1, "site": site, "test": true, "groups": []}),
    }
}

fn group(group: &Group) -> Value {
    let object = |told: &Told| {
        json!({"namespace": told.namespace, "name": told.name, "at": told.at.to_string(),
            "message": cut(&told.note, LONGEST_NOTE)})
    };
    let first = group.named.first();
    json!({
        "kind": first.map(|told| told.kind.as_str()),
        "reason": first.map(|told| told.reason.as_str()),
        "severity": first.map(|told| Severity::of(told.reason).as_str()),
        "count": group.count,
        "objects": group.named.iter().map(object).collect::<Vec<_>>(),
    })
}

fn slack(site: &str, pending: &Pending) -> Value {
    let of = |group: &Group| match group.named.first() {
        Some(told) => format!("{} {} × {}", told.kind, told.reason.as_str(), group.count),
        None => String::new(),
    };
    let words: Vec<String> = pending.groups().take(GROUPS).map(of).collect();
    let title = format!("Banyan in {}: {}", safe(site), words.join(", "));
    let mut blocks = vec![block(format!("*Banyan in {}*", safe(site)))];
    blocks.extend(pending.groups().take(GROUPS).map(|group| block(section(group))));
    let hidden: usize = pending.groups().skip(GROUPS).map(|group| group.count).sum();
    if hidden > 0 {
        blocks.push(block(format!("and {hidden} more of other kinds: see the log of the operator")));
    }
    // Nothing that a tenant names is fetched by Slack.
    json!({"text": cut(&title, LONGEST_BLOCK), "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

/// A block in Slack's own markup, of which nothing but that is understood: no names, channels or links in plain words.
fn block(text: String) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}})
}

/// What is told of a group.
fn section(group: &Group) -> String {
    let Some(first) = group.named.first() else { return String::new() };
    let (reason, kind) = (first.reason.as_str(), &first.kind);
    let mark = if first.reason.is_warning() { ":warning:" } else { ":information_source:" };
    let mut text = format!("{mark} *{reason}* of {} {kind}{}", group.count, plural(group.count));
    let mut length = text.chars().count();
    let mut named = 0;
    // Room is left for the line that counts the others.
    for told in &group.named {
        let line = format!(
            "\n• {}/{}: {}",
            safe(&told.namespace),
            safe(&told.name),
            safe(&cut(&told.note, LONGEST_NOTE))
        );
        length += line.chars().count();
        if length > LONGEST_BLOCK - 200 {
            break;
        }
        text.push_str(&line);
        named += 1;
    }
    if group.count > named {
        let more = group.count - named;
        text.push_str(&format!(
            "\nand {more} more: `kubectl get events -A --field-selector reason={reason}`"
        ));
    }
    text
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The text, cut where it has more characters than `most`.
fn cut(text: &str, most: usize) -> String {
    crate::api::conditions::cut(text.to_owned(), most)
}

/// What a tenant may have written, so that Slack, and what is like it, takes it for plain words in one line.
fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // With nothing visible behind it, it begins no name that is pinged.
            '@' => safe.push_str("@\u{200b}"),
            // What turns the direction of a text around, and so hides what it says.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::notice::Reason;
    use crate::notifications::pending::tests::told;

    fn texts(message: &Value) -> Vec<String> {
        let blocks = message["blocks"].as_array().expect("blocks").iter();
        blocks.map(|block| block["text"]["text"].as_str().expect("a text").to_owned()).collect()
    }

    #[test]
    fn a_storm_is_one_message_that_says_how_many_more() {
        let mut pending = Pending::default();
        (0..500).for_each(|n| pending.add(told("FinService", &format!("s{n}"), Reason::Stalled, "no node")));
        pending.add(told("Failover", "move", Reason::Moved, "here"));
        let slack = message(Format::Slack, "aws", &pending);
        assert_eq!(slack["text"], "Banyan in aws: FinService Stalled × 500, Failover Moved × 1");
        let texts = texts(&slack);
        assert_eq!(texts.len(), 3);
        assert!(texts[1].contains("\n• pay/s0: no node\n") && texts[1].contains("and 495 more"), "{texts:?}");
        assert!(texts[2].ends_with("*Moved* of 1 Failover\n• pay/move: here"), "{texts:?}");
        let json = message(Format::Json, "aws", &pending);
        assert_eq!((&json["site"], &json["version"]), (&json!("aws"), &json!(1)));
        let group = &json["groups"][0];
        assert_eq!(
            (&group["count"], &group["severity"], &group["reason"], &group["kind"]),
            (&json!(500), &json!("Warning"), &json!("Stalled"), &json!("FinService"))
        );
        assert_eq!(group["objects"].as_array().map(Vec::len), Some(5));
        assert_eq!(
            group["objects"][0],
            json!({"namespace": "pay", "name": "s0", "at": "1970-01-01T00:00:00Z", "message": "no node"})
        );
    }

    #[test]
    fn what_a_tenant_writes_pings_nobody_links_nowhere_and_is_bounded() {
        let evil = "<!channel> <https://evil|click> @here &amp; \u{202e}x\n*Moved*";
        let mut pending = Pending::default();
        pending.add(told("FinService", "a", Reason::Stalled, evil));
        for _ in 0..9 {
            pending.add(told("FinService", &"n".repeat(253), Reason::Stalled, &"<".repeat(4000)));
        }
        let slack = message(Format::Slack, "aws", &pending);
        let texts = texts(&slack);
        let words = "&lt;!channel&gt; &lt;https://evil|click&gt; @\u{200b}here &amp;amp; x *Moved*";
        assert!(texts[1].contains(words), "{texts:?}");
        assert!(!slack.to_string().contains(['<', '>', '\u{202e}']), "{slack}");
        assert!(texts.iter().all(|text| text.chars().count() <= 3000), "{texts:?}");
        assert_eq!(slack["blocks"][1]["text"]["verbatim"], true);
        assert_eq!(slack["unfurl_links"], false);
        // The others are counted, also those for which there was no room.
        assert!(texts[1].contains("more: `kubectl get events"), "{texts:?}");
        let json = message(Format::Json, "aws", &pending).to_string();
        assert!(json.len() < 5000, "{}", json.len());
    }

    #[test]
    fn many_kinds_and_reasons_fit_into_fifty_blocks() {
        let mut pending = Pending::default();
        for reason in Reason::ALL {
            for kind in ["FinService", "CanaryRollout", "Failover"] {
                pending.add(told(kind, "a", reason, "why"));
            }
        }
        let texts = texts(&message(Format::Slack, "aws", &pending));
        assert!(texts.len() <= 50 && texts.last().is_some_and(|last| last.starts_with("and ")), "{texts:?}");
    }
}
