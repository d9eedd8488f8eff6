use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::failover::record::line::{Last, Of, lines};

/// A record of some moves, as it is stored.
fn stored(moves: &[u8]) -> Vec<String> {
    let (mut last, mut all) = (Last::none(), Vec::new());
    for (place, entries) in moves.iter().enumerate() {
        let (name, uid) = (format!("move-{place}"), format!("uid-{place}"));
        let of = Of { group: "payments", site: "gcp", failover: &name, uid: &uid };
        let pending: Vec<String> = (1..=*entries)
            .map(|number| {
                json!({"number": number, "at": format!("2026-01-01T00:00:{number:02}.000Z"), "event": "StepBegan",
                    "step": "fence", "words": "\"né\n"})
                .to_string()
            })
            .collect();
        all.extend(lines(&mut last, &of, &pending));
    }
    all
}

fn document(lines: &[String]) -> Document {
    Document::of("payments", &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_whole_record_says_what_it_has() {
    let lines = stored(&[3, 2]);
    let whole = verify(&document(&lines), None).unwrap();
    assert_eq!((whole.entries, whole.moves, whole.site.as_deref()), (5, 2, Some("gcp")));
    let head = whole.head.unwrap();
    assert_eq!(Last::of(&[lines[4].as_str()]).head, head);
    assert!(verify(&document(&lines), Some(&head)).is_ok());
    let empty = verify(&document(&[]), None).unwrap();
    assert_eq!((empty.entries, empty.head), (0, None));
}

#[test]
fn the_first_broken_entry_is_named_in_plain_words() {
    let lines = stored(&[3, 2]);
    let why = |lines: &[String]| {
        let broken = verify(&document(lines), None).unwrap_err();
        format!("{}: {}", broken.entry, broken.why)
    };
    let mut changed = lines.clone();
    changed[1] = changed[1].replace("fence", "claim");
    assert_eq!(why(&changed), "2: it was changed: what it says does not give its hash");
    let mut removed = lines.clone();
    removed.remove(1);
    assert!(why(&removed).starts_with("2: it is entry 3 of the record and stands in place 2"));
    let mut moved = lines.clone();
    moved.swap(0, 1);
    assert!(why(&moved).starts_with("1: it is entry 2"));
    let mut spoilt = lines.clone();
    spoilt[4] = "{".to_owned();
    assert!(why(&spoilt).starts_with("5: it is no entry"));
    let mut other = document(&lines);
    other.group = "ledger".to_owned();
    assert_eq!(verify(&other, None).unwrap_err().why, "it is of another group: payments");
}

#[test]
fn who_hashes_a_changed_entry_anew_breaks_the_next_one() {
    let mut lines = stored(&[3]);
    let mut entry: Map<String, Value> = serde_json::from_str(&lines[1]).unwrap();
    entry.insert("step".to_owned(), "claim".into());
    let hash = hash_of(&entry);
    entry.insert(HASH.to_owned(), hash.into());
    lines[1] = Value::Object(entry).to_string();
    let broken = verify(&document(&lines), None).unwrap_err();
    assert_eq!(broken.entry, 3, "{}", broken.why);
}

#[test]
fn what_is_cut_off_at_the_end_is_found_by_who_kept_a_head() {
    let lines = stored(&[3, 2]);
    let head = |count: usize| verify(&document(&lines[..count]), None).unwrap().head.unwrap();
    assert!(verify(&document(&lines), Some(&head(3))).is_ok(), "it has only grown since");
    let cut = &lines[..3];
    assert!(verify(&document(cut), None).is_ok(), "by itself it does not show");
    let broken = verify(&document(cut), Some(&head(5))).unwrap_err();
    assert!(broken.entry == 0 && broken.why.contains("cut off"), "{}", broken.why);
}

#[test]
fn an_entry_that_is_missing_of_a_move_is_found_though_the_hashes_fit() {
    let of = Of { group: "payments", site: "gcp", failover: "move", uid: "u" };
    let pending = [1, 3].map(|number| json!({"number": number, "at": "t", "event": "E"}).to_string());
    let lines = lines(&mut Last::none(), &of, &pending);
    let broken = verify(&document(&lines), None).unwrap_err();
    assert!(broken.entry == 2 && broken.why.contains("number 3 of Failover move"), "{}", broken.why);
}

proptest! {
    /// Any byte of the exported text is set to any other one: it is found, or it says the very same.
    #[test]
    fn no_byte_can_be_changed_unseen(moves in prop::collection::vec(1u8..5, 1..4), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let before = document(&stored(&moves));
        let mut bytes = before.text().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let read = String::from_utf8(bytes).ok().and_then(|text| Document::read(&text).ok());
        if let Some(read) = read {
            prop_assert!(read == before || verify(&read, None).is_err());
        }
    }

    /// Entries are removed, doubled or moved about: it is found, but for a cut at the end, which the head finds.
    #[test]
    fn no_entry_can_be_removed_doubled_or_moved_unseen(
        moves in prop::collection::vec(1u8..5, 1..4),
        picked in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let lines = stored(&moves);
        let head = verify(&document(&lines), None).unwrap().head;
        let picked: Vec<usize> = picked.iter().map(|index| index.index(lines.len())).collect();
        let other: Vec<String> = picked.iter().map(|place| lines[*place].clone()).collect();
        let beginning = picked.iter().enumerate().all(|(place, from)| place == *from);
        prop_assert_eq!(verify(&document(&other), None).is_ok(), beginning);
        prop_assert_eq!(verify(&document(&other), head.as_deref()).is_ok(), other == lines);
    }
}

/// The page for auditors has a program that needs no Banyan: it finds the same.
#[test]
fn the_program_in_the_documentation_finds_the_same() {
    let page = include_str!("../../../docs/audit.md");
    let program =
        page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program");
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        std::process::Command::new("python3").arg("-c").arg(program).arg(&file).output()
    };
    let whole = document(&stored(&[3, 2]));
    let output = match run("whole.json", &whole.text()) {
        Ok(output) => output,
        Err(error) if std::env::var_os("CI").is_none() => return eprintln!("skipped: python3: {error}"),
        Err(error) => panic!("python3: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let head = verify(&whole, None).unwrap().head.unwrap();
    assert_eq!(said.trim(), format!("whole; head {head}"), "{}", String::from_utf8_lossy(&output.stderr));
    let changed = run("changed.json", &whole.text().replacen("fence", "claim", 1)).unwrap();
    assert!(String::from_utf8_lossy(&changed.stderr).contains("entry 1 was changed"));
}
