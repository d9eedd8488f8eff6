//! Many tenants at once, some of whom answer as much as they can.

use super::*;

#[test]
fn faults_4_1_a_source_that_changes_again_and_again_fills_no_memory() {
    let mut all = HashMap::new();
    let now = Instant::now();
    let mut make = |namespace: &str, number: usize| {
        keep_few(&mut all, namespace, now);
        let asked = now + Duration::from_secs(number as u64);
        all.insert((namespace.into(), number.to_string()), Known { made: (), at: now, asked });
        all.len()
    };
    make("other", 0);
    for number in 0..100 {
        make("greedy", number);
    }
    assert_eq!(make("greedy", 100), 1 + EACH);
    assert!(all.contains_key(&("other".into(), "0".into())));
    keep_few(&mut all, "third", now + Duration::from_secs(1000));
    assert!(all.is_empty(), "nobody asks them any more");
}
