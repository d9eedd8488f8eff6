//! The played S3 beside moto's, answer by answer, and the witness on moto's.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::tests::{at_url, keeps_what_was_first, opposing};
use crate::sandbox::ends::objects::{Maker, Objects};

/// moto's server, for as long as a test takes.
struct Moto {
    child: Child,
    url: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    /// Starts it, with one bucket; or says why there is none.
    async fn start() -> Result<Self, String> {
        let known = Command::new("python3").args(["-c", "import moto.server, flask"]).output();
        if !known.is_ok_and(|known| known.status.success()) {
            return Err("python3 knows no moto server: pip install 'moto[server,s3]'".to_owned());
        }
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
            listener.local_addr().map_err(|error| error.to_string())?.port()
        };
        let child = Command::new("python3")
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let moto = Self { child, url: format!("http://127.0.0.1:{port}") };
        let begin = Instant::now();
        let bucket = format!("{}/witness", moto.url);
        while begin.elapsed() < Duration::from_secs(60) {
            match reqwest::Client::new().put(&bucket).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(moto),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        Err("moto's server has not come up within a minute".to_owned())
    }
}

/// The status and the code of each answer to the same questions.
async fn answers(url: &str) -> Vec<(u16, String)> {
    let client = reqwest::Client::new();
    let mut answers = Vec::new();
    // Who asks is judged by the name alone at ours, and not at all at moto's.
    let who = "AWS4-HMAC-SHA256 Credential=AKIAPLAYED/20261128/us-east-2/s3/aws4_request, SignedHeaders=host, Signature=0";
    let mut ask = async |method: reqwest::Method, path: &str, only_new: bool| {
        let mut request = client.request(method, format!("{url}/{path}")).header("authorization", who);
        if only_new {
            request = request.header("if-none-match", "*").body("{}");
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a text");
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once('<'));
        answers.push((status, code.map_or(String::new(), |(code, _)| code.to_owned())));
        text
    };
    ask(reqwest::Method::GET, "witness/compared/0", false).await;
    ask(reqwest::Method::PUT, "witness/compared/0", true).await;
    ask(reqwest::Method::PUT, "witness/compared/0", true).await;
    ask(reqwest::Method::GET, "witness/compared/0", false).await;
    let list = ask(reqwest::Method::GET, "witness?list-type=2&prefix=compared/", false).await;
    assert!(list.contains("<Key>compared/0</Key>"), "{list}");
    ask(reqwest::Method::DELETE, "witness/compared/0", false).await;
    ask(reqwest::Method::PUT, "witness/compared/0", true).await;
    ask(reqwest::Method::GET, "missing/compared/0", false).await;
    answers
}

#[tokio::test]
async fn the_played_store_answers_as_moto_does_and_the_witness_stands_on_both() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let moto = match Moto::start().await {
        Ok(moto) => moto,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let played = Objects::serve(Maker::Amazon, "witness", "AKIAPLAYED", 3).await.expect("a store");
    let ours = answers(&played.end.url()).await;
    assert_eq!(ours, answers(&moto.url).await);
    assert_eq!(ours[2], (412, "PreconditionFailed".to_owned()));
    let (here, there) = (at_url(&moto.url), at_url(&moto.url));
    keeps_what_was_first(&here).await;
    let mut won = [0, 0];
    for epoch in 100..120 {
        opposing(&here, &there, 16 * epoch, &mut won).await;
    }
    assert_eq!(won[0] + won[1], 20);
}
