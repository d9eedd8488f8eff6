//! How ends ask a site whether it is well, as the providers' own checkers do.

use std::time::Duration;

/// What asks.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    http: reqwest::Client,
}

impl Prober {
    /// One whose questions are given up after that long.
    pub(super) fn new(patience: Duration) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // A checker opens a connection for each question: one that is kept would say nothing about new ones.
            .pool_max_idle_per_host(0)
            .timeout(patience)
            .build()?;
        Ok(Self { http })
    }

    /// The status of the answer, or why there is none.
    pub(super) async fn ask(&self, address: &str, path: &str, host: Option<&str>) -> Result<u16, String> {
        let mut request = self.http.get(format!("http://{address}{path}"));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        match request.send().await {
            Ok(answer) => Ok(answer.status().as_u16()),
            Err(error) if error.is_timeout() => Err("HTTP timeout occurred".to_owned()),
            Err(_) => Err("TCP connection failed".to_owned()),
        }
    }
}

/// The verdict on one thing, which changes only after several answers in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// What holds; nothing before the first answer.
    pub well: Option<bool>,
    /// Why not.
    pub reason: String,
    against: u32,
}

impl Verdict {
    /// Takes one answer into account. The first one counts at once.
    pub(super) fn hear(&mut self, answer: Result<(), String>, threshold: u32) {
        let well = answer.is_ok();
        if self.well == Some(well) {
            self.against = 0;
        } else {
            self.against += 1;
            if self.well.is_none() || self.against >= threshold {
                (self.well, self.against) = (Some(well), 0);
            }
        }
        if let Err(reason) = answer {
            self.reason = reason;
        }
    }
}
