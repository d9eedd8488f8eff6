//! Rollouts on a real API server, with a real operator: pods are played, and so is the Prometheus that counts.

use banyan::signals::{Answer, Arm, Counted, Prometheus, Subject, What};

use crate::played_prometheus::{Flow, Mood, Played};

/// The played Prometheus must answer as a real one does, or what is shown with it is not shown.
#[tokio::test]
async fn the_played_prometheus_understands_what_it_is_asked() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let played = Played::start().await;
    let prometheus = Prometheus::new(&played.url(), None, None).unwrap();
    let arm = |hash: &str| Arm {
        namespace: "pay".into(),
        service: format!("tx-{hash}"),
        port: 80,
        revision: hash.into(),
        pods: Vec::new(),
    };
    let named = |name: &str, what| Counted { name: name.into(), what };
    let own = What::Custom { bad: "own_bad".into(), total: "own_total".into() };
    let subject = Subject {
        namespace: "pay".into(),
        service: "tx".into(),
        arms: [arm("old"), arm("new")],
        metrics: vec![
            named("error-rate", What::Errors),
            named("latency", What::Slower(0.2)),
            named("own", own),
        ],
        ..Subject::default()
    };
    let ask = async || prometheus.ask(std::slice::from_ref(&subject)).await.remove(0);
    assert!(matches!(ask().await, Answer::Nothing(_)), "nobody counts yet");
    played.flow("pay", "tx", "old", Flow { requests: 1e6, failing: 10.0, slow: 20.0 });
    played.flow("pay", "tx", "new", Flow { requests: 1e6, failing: 50.0, slow: 0.0 });
    played.flow("other", "tx", "old", Flow { requests: 1e9, failing: 0.0, slow: 0.0 });
    played.answer("own_bad", &[(&[("revision", "new")], 3.0)]);
    played.answer("own_total", &[(&[("revision", "new")], 30.0), (&[("revision", "old")], 40.0)]);
    let before = played.asked();
    let answer = ask().await;
    let Answer::Readings { readings, comparable } = answer else { panic!("{answer:?}") };
    assert_eq!(
        played.asked() - before,
        2,
        "one question for the built-in metrics, one for the service's own"
    );
    assert!(comparable);
    for (metric, arm, share) in [(0, 0, 0.1), (0, 1, 0.5), (1, 0, 0.2), (1, 1, 0.0)] {
        let reading = readings.iter().find(|r| (r.metric, r.arm) == (metric, arm)).unwrap();
        assert!(reading.requests > 0.0 && reading.requests < 1e8, "{reading:?}");
        assert!((reading.bad / reading.requests - share).abs() < 0.01, "{reading:?}");
    }
    let own: Vec<_> = readings.iter().filter(|r| r.metric == 2).map(|r| (r.arm, r.requests, r.bad)).collect();
    assert_eq!(own, [(0, 40.0, 0.0), (1, 30.0, 3.0)]);

    for mood in [
        Mood::Status(500),
        Mood::Empty,
        Mood::NaN,
        Mood::Twice,
        Mood::Stale(120.0),
        Mood::CutOff,
        Mood::Warning,
    ] {
        played.mood(mood.clone());
        let answer = ask().await;
        assert!(matches!(answer, Answer::Nothing(_)), "{mood:?}: {answer:?}");
    }
    played.mood(Mood::Well);
    let requests = async || {
        let Answer::Readings { readings, .. } = ask().await else { panic!("no answer") };
        readings[0].requests
    };
    played.flow("pay", "tx", "old", Flow::default());
    let whole = requests().await;
    assert!(whole > 0.0, "what was counted stays");
    played.reset("pay");
    assert_eq!(requests().await, 0.0);
}
