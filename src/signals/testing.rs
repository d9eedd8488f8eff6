//! A web server on this machine that answers as a test tells it to, also badly.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How a server answers a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With 200 and this text.
    Text(String),
    /// With this status and text.
    Status(u16, String),
    /// With 200 and this text, but saying that there is more to come, which never comes.
    CutOff(String),
    /// With 200 and text without end.
    Endless,
    /// With another address.
    Elsewhere(String),
    /// Not at all, while the connection stays open.
    Silence,
    /// This long after it was asked.
    After(Duration, Box<Reply>),
}

/// What a server was asked: the first line and the headers, and the body.
pub type Asked = (String, String);

/// A server, until it is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// A server that gives these replies one after the other, and the last of them for ever.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::at("127.0.0.1:0", replies).await
    }

    /// The same at a certain address.
    pub async fn at(address: &str, replies: impl IntoIterator<Item = Reply>) -> Self {
        // Clients want a provider, which main installs in the program.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(replies.into_iter().collect()));
        let (log, script) = (asked.clone(), replies.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, script) = (log.clone(), script.clone());
                tokio::spawn(async move { serve(stream, &log, &script).await });
            }
        });
        Self { address, asked, replies, task }
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// From here on it gives these replies.
    pub fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        *self.replies.lock().unwrap() = replies.into_iter().collect();
    }
}

/// Answers one request; every connection is for one.
async fn serve(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, script: &Mutex<VecDeque<Reply>>) {
    let Some(asked) = request(&mut stream).await else { return };
    log.lock().unwrap().push(asked);
    let mut reply = {
        let mut script = script.lock().unwrap();
        if script.len() > 1 { script.pop_front() } else { script.front().cloned() }.unwrap()
    };
    while let Reply::After(wait, next) = reply {
        tokio::time::sleep(wait).await;
        reply = *next;
    }
    let head = |status: u16, more: &str, length: usize| {
        format!("HTTP/1.1 {status} Any\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n")
    };
    // A client that went away is no matter of the server's.
    let _ = match reply {
        Reply::Text(text) => stream.write_all((head(200, "", text.len()) + &text).as_bytes()).await,
        Reply::Status(status, text) => {
            stream.write_all((head(status, "", text.len()) + &text).as_bytes()).await
        }
        Reply::CutOff(text) => stream.write_all((head(200, "", text.len() + 100) + &text).as_bytes()).await,
        Reply::Elsewhere(address) => {
            stream.write_all(head(302, &format!("location: {address}\r\n"), 0).as_bytes()).await
        }
        Reply::Endless => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
            while sent.is_ok() {
                sent = stream.write_all(&[b'\n'; 4096]).await;
            }
            sent
        }
        Reply::Silence => std::future::pending().await,
        Reply::After(..) => unreachable!("the wait is over"),
    };
}

async fn request(stream: &mut TcpStream) -> Option<Asked> {
    let mut read = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => read.extend_from_slice(&chunk[..length]),
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}
