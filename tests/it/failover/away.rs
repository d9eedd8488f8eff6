//! The operator of the active site is away: who answers load balancers does so by itself, and no request notices.

use std::time::{Duration, Instant};

use banyan::sandbox::Part;
use banyan::sandbox::process::Signal;

use super::stage::{AWS, GCP, HOST, Stage};
use crate::peers::until;

/// How long; `BANYAN_AWAY_SECONDS` instead, where that is set.
const AWAY: Duration = Duration::from_secs(5);

pub async fn the_authority_deployment_answers_alone(stage: &mut Stage) {
    let http = reqwest::Client::new();
    let ask = async |url: &str, path: &str| {
        let answer = http.get(format!("{url}{path}")).header("host", HOST).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    };
    let says = async |place: usize, code: u16| {
        until("it says who has authority", async || {
            let answer = ask(stage.answers[place].url(), "/authority/payments").await;
            answer.filter(|(status, _)| *status == code)
        })
        .await
        .1
    };
    assert!(says(AWS, 200).await.contains("this site has authority in epoch 16"));
    assert!(says(GCP, 503).await.contains("aws-us-east-1 has authority in epoch 16"));
    let other = ask(stage.answers[AWS].url(), "/authority/other").await;
    assert_eq!(other.map(|(status, _)| status), Some(404));
    let edge = stage.cloudflare.edge.url();
    until("the load balancer sends users there", async || {
        ask(&edge, "/authority/payments").await.filter(|(status, _)| *status == 200)
    })
    .await;

    // Users send requests through the load balancer, which asks both sites all the while.
    stage.two.operators[AWS].signal(Signal::Stop).unwrap();
    stage.two.pair.aws.signal(Part::ApiServer, Signal::Stop).unwrap();
    let seconds = super::number("BANYAN_AWAY_SECONDS");
    let (until, before) =
        (Instant::now() + seconds.map_or(AWAY, Duration::from_secs), stage.cloudflare.counts());
    let mut sent = 0u32;
    while Instant::now() < until {
        let (status, text) = ask(&edge, "/authority/payments").await.expect("an answer");
        assert!(status == 200 && text.contains("aws-us-east-1"), "after {sent} requests: {status} {text}");
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.two.pair.aws.signal(Part::ApiServer, Signal::Cont).unwrap();
    // It has lost its Lease meanwhile, and would end: a Deployment starts it anew.
    stage.two.operators[AWS].signal(Signal::Kill).unwrap();
    let after = stage.cloudflare.counts();
    let moved: Vec<_> = after.iter().filter(|(pool, count)| before.get(*pool) != Some(count)).collect();
    println!("{sent} requests while the operator of the active site was away, by pool: {moved:?}");
    stage.start_again(AWS).await;
    assert!(sent > 50 && moved.len() == 1, "all went to one pool: {before:?} {after:?}");
}
