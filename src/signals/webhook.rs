//! A web server as a gate: whoever answers with 2xx opens it.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url};

use super::ask::GateReply;
use crate::runtime::fetch;
use crate::runtime::shares::Turn;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many bytes of an answer are read. None is kept; the status is the answer.
const BYTES: usize = 1 << 20;

/// Posts `body`, with the token if there is one, and says what the status means: 2xx is yes, any other is no. Redirects are not followed.
pub async fn ask(
    client: &Client,
    url: Url,
    bearer: Option<&str>,
    body: &serde_json::Value,
    turn: &Turn,
) -> GateReply {
    let asked = client.post(url).json(body);
    let asked = match bearer {
        Some(bearer) => asked.bearer_auth(bearer),
        None => asked,
    };
    ask_within(asked, turn, DEADLINE).await
}

async fn ask_within(asked: RequestBuilder, turn: &Turn, deadline: Duration) -> GateReply {
    match fetch::pieces(asked, deadline, BYTES, Some(turn), |_, _| Ok(())).await {
        Ok(status) if status.is_success() => GateReply::Yes,
        Ok(status) => GateReply::No(fetch::status_words(status)),
        Err(why) => GateReply::Nobody(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Reply, Server};
    use super::*;
    use crate::runtime::shares::Shares;

    async fn turn() -> Turn {
        Shares::default().turn("pay").await
    }

    #[tokio::test]
    async fn the_status_is_the_answer() {
        let server = Server::start([
            Reply::Text("ok".into()),
            Reply::Status(204, String::new()),
            Reply::Status(403, "not today".into()),
            Reply::Elsewhere("http://example.com/".into()),
            Reply::CutOff("yes".into()),
        ])
        .await;
        let client = fetch::builder().build().unwrap();
        let url = Url::parse(&format!("http://{}/ok?release=1", server.address)).unwrap();
        let body = json!({"release": "pay/transaction:1.4.2"});
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(ask(&client, url.clone(), None, &body, &turn().await).await);
        }
        let no = |words: &str| GateReply::No(words.to_owned());
        assert_eq!(
            answers,
            [GateReply::Yes, GateReply::Yes, no("status 403 (Forbidden)"), no("status 302 (Found)")]
        );
        let (head, sent) = server.asked().swap_remove(0);
        assert!(head.starts_with("POST /ok?release=1 HTTP/1.1"), "{head}");
        assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
        assert_eq!(sent, body.to_string());
        assert!(
            matches!(ask(&client, url.clone(), None, &body, &turn().await).await, GateReply::Nobody(_)),
            "half an answer is none"
        );
    }

    #[tokio::test]
    async fn faults_6_14_a_token_is_presented() {
        let server = Server::start([Reply::Status(401, String::new()), Reply::Text("ok".into())]).await;
        let client = fetch::builder().build().unwrap();
        let url = Url::parse(&format!("http://{}/", server.address)).unwrap();
        let refused = ask(&client, url.clone(), None, &json!({}), &turn().await).await;
        assert_eq!(refused, GateReply::No("status 401 (Unauthorized)".into()));
        assert_eq!(ask(&client, url, Some("s3cret"), &json!({}), &turn().await).await, GateReply::Yes);
        let heads: Vec<String> = server.asked().into_iter().map(|(head, _)| head.to_lowercase()).collect();
        assert!(
            !heads[0].contains("authorization") && heads[1].contains("authorization: bearer s3cret"),
            "{heads:?}"
        );
    }

    #[tokio::test]
    async fn nobody_answers_in_time_or_at_all() {
        let server = Server::start([Reply::Silence]).await;
        let client = fetch::builder().build().unwrap();
        let url = Url::parse(&format!("http://{}/", server.address)).unwrap();
        let late =
            ask_within(client.post(url).json(&json!({})), &turn().await, Duration::from_millis(200)).await;
        assert_eq!(late, GateReply::Nobody("no answer within 200ms".into()));
        // Nobody listens there.
        let nowhere = Url::parse("http://127.0.0.9:9/").unwrap();
        let refused = ask(&client, nowhere, None, &json!({}), &turn().await).await;
        assert!(matches!(&refused, GateReply::Nobody(why) if why.contains("refused")), "{refused:?}");
    }
}
