//! Many tenants at once, some of whom answer as much as they can.

use super::*;

#[test]
fn faults_4_1_a_source_that_changes_again_and_again_fills_no_memory() {
    let mut all = HashMap::new();
    let now = Instant::now();
    let mut make = |namespace: &str, number: usize| {
        keep_few(&mut all, namespace, now);
        let key = SourceKey::Prometheus { namespace: namespace.into(), spec: number.to_string() };
        let asked = now + Duration::from_secs(number as u64);
        all.insert(key, Known { made: Err(String::new()), at: now, asked });
        all.len()
    };
    make("other", 0);
    for number in 0..100 {
        make("greedy", number);
    }
    assert_eq!(make("greedy", 100), 1 + EACH);
    let left: Vec<&SourceKey> = all.keys().collect();
    assert!(left.contains(&&SourceKey::Prometheus { namespace: "other".into(), spec: "0".into() }));
    keep_few(&mut all, "third", now + Duration::from_secs(1000));
    assert!(all.is_empty(), "nobody asks them any more");
}
