//! A network that misbehaves: a relay of TCP connections that cuts, refuses, swallows, delays and breaks off, in each
//! direction by itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::super::error::{Context, Result};

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the one who connects to the one behind the proxy.
    There,
    /// From the one behind the proxy to the one who connected.
    Back,
}

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// They arrive.
    None,
    /// They vanish. The connection stays, until [`Proxy::heal`] cuts it: what was lost does not come back.
    Swallow,
    /// They arrive so much later.
    Delay(Duration),
    /// So many of them arrive, of all connections together; then the connection over which the next came is cut.
    BreakAfter(usize),
}

/// How new connections are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    /// They are closed at once.
    Refuses,
}

struct State {
    door: Door,
    trouble: [Trouble; 2],
    /// Bytes that were let through and that vanished, in each direction.
    passed: [u64; 2],
    swallowed: [u64; 2],
    accepted: u64,
    /// Raised to cut all connections.
    cuts: u64,
}

#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    cuts: watch::Sender<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // What is guarded is whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A relay at a port of loopback. Dropping it cuts all.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Shared,
    task: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// A relay to that port of loopback.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context(|| "binding a port of 127.0.0.1")?;
        let address = listener.local_addr().context(|| "reading the address of a listener")?;
        let state = State {
            door: Door::Open,
            trouble: [Trouble::None; 2],
            passed: [0; 2],
            swallowed: [0; 2],
            accepted: 0,
            cuts: 0,
        };
        let shared = Shared { state: Arc::new(Mutex::new(state)), cuts: watch::Sender::new(0) };
        let task = tokio::spawn(accept(listener, port, shared.clone())).abort_handle();
        Ok(Self { address, shared, task })
    }

    /// The port at which it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts all connections that stand.
    pub fn cut(&self) {
        self.shared.state().cuts += 1;
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts all, and closes whatever connects from now on.
    pub fn refuse(&self) {
        self.shared.state().door = Door::Refuses;
        self.cut();
    }

    /// From now on this happens to bytes that go that way, of old and of new connections.
    pub fn trouble(&self, way: Way, trouble: Trouble) {
        self.shared.state().trouble[way as usize] = trouble;
    }

    /// Both ways are silent: connections stand and nothing arrives.
    pub fn silence(&self) {
        self.trouble(Way::There, Trouble::Swallow);
        self.trouble(Way::Back, Trouble::Swallow);
    }

    /// All is well again. Connections that stood are cut where something of theirs was lost.
    pub fn heal(&self) {
        let lost = {
            let mut state = self.shared.state();
            state.door = Door::Open;
            state.trouble = [Trouble::None; 2];
            std::mem::take(&mut state.swallowed) != [0, 0]
        };
        if lost {
            self.cut();
        }
    }

    /// How many bytes were let through that way.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.state().passed[way as usize]
    }

    /// How many connections were made.
    pub fn accepted(&self) -> u64 {
        self.shared.state().accepted
    }
}

async fn accept(listener: TcpListener, port: u16, shared: Shared) {
    // Connections end with the proxy.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Ok((client, _)) = accepted else { continue };
        let (refuses, mut cuts) = {
            let mut state = shared.state();
            state.accepted += 1;
            (state.door == Door::Refuses, shared.cuts.subscribe())
        };
        if refuses {
            continue;
        }
        let shared = shared.clone();
        cuts.mark_unchanged();
        connections.spawn(async move {
            tokio::select! {
                _ = relay(client, port, shared) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

/// Carries bytes both ways until one of them ends.
async fn relay(client: TcpStream, port: u16, shared: Shared) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        () = carry(client_in, server_out, Way::There, &shared) => {}
        () = carry(server_in, client_out, Way::Back, &shared) => {}
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    way: Way,
    shared: &Shared,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(read) if read > 0 => read,
            _ => {
                // Whoever swallows, swallows the end of the connection too.
                if shared.state().trouble[way as usize] == Trouble::Swallow {
                    std::future::pending::<()>().await;
                }
                return;
            }
        };
        let (goes_on, delay, breaks) = {
            let mut state = shared.state();
            let (goes_on, delay, breaks) = match state.trouble[way as usize] {
                Trouble::None => (read, Duration::ZERO, false),
                Trouble::Swallow => (0, Duration::ZERO, false),
                Trouble::Delay(delay) => (read, delay, false),
                Trouble::BreakAfter(left) => {
                    state.trouble[way as usize] = Trouble::BreakAfter(left.saturating_sub(read));
                    (read.min(left), Duration::ZERO, read > left)
                }
            };
            state.passed[way as usize] += goes_on as u64;
            if !breaks {
                state.swallowed[way as usize] += (read - goes_on) as u64;
            }
            (goes_on, delay, breaks)
        };
        tokio::time::sleep(delay).await;
        if to.write_all(&buffer[..goes_on]).await.is_err() || breaks {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each byte with itself.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        port
    }

    async fn ask(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; text.len()];
        let read = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut answer)).await;
        read.map_err(std::io::Error::other)??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    #[tokio::test]
    async fn each_trouble_is_what_it_says() {
        let proxy = Proxy::to(echo().await).await.expect("a proxy");
        let connect = async || TcpStream::connect(proxy.address).await.expect("a connection");
        let mut stream = connect().await;
        assert_eq!(ask(&mut stream, "hello").await.expect("an answer"), "hello");
        assert_eq!((proxy.passed(Way::There), proxy.passed(Way::Back)), (5, 5));

        proxy.trouble(Way::Back, Trouble::Swallow);
        ask(&mut stream, "lost").await.expect_err("no answer");
        assert_eq!((proxy.passed(Way::There), proxy.passed(Way::Back)), (9, 5));
        proxy.heal();
        ask(&mut stream, "gone").await.expect_err("it was cut");

        let mut stream = connect().await;
        proxy.trouble(Way::Back, Trouble::BreakAfter(2));
        stream.write_all(b"abcd").await.expect("written");
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read).await;
        assert_eq!(read, b"ab");
        proxy.heal();

        proxy.trouble(Way::There, Trouble::Delay(Duration::from_millis(100)));
        let begin = std::time::Instant::now();
        assert_eq!(ask(&mut connect().await, "late").await.expect("an answer"), "late");
        assert!(begin.elapsed() >= Duration::from_millis(100));
        proxy.heal();

        let mut stream = connect().await;
        assert_eq!(ask(&mut stream, "x").await.expect("an answer"), "x");
        proxy.refuse();
        ask(&mut stream, "cut").await.expect_err("it was cut");
        ask(&mut connect().await, "refused").await.expect_err("it is refused");
        proxy.heal();
        assert_eq!(ask(&mut connect().await, "again").await.expect("an answer"), "again");
    }
}
