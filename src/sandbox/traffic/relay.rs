//! Doors into a network namespace, so that a kubectl outside reaches an API server inside.
//!
//! What cannot be crossed by an address can be crossed by a file: outside, a relay listens on a loopback port and
//! passes on to a Unix socket in the sandbox's folder; inside, another one passes on from there to the API server.
//! Each is a process of its own (`banyan relay`, which the sandbox starts): the one outside has to stay outside of the
//! namespace that this program enters. It ends when the socket does.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::process::{Spec, Supervisor};

/// The variable that takes doors into the namespace.
pub const DOORS: &str = "BANYAN_DOORS";
/// How often a relay looks whether the socket that it passes on to is still there.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait after a connection could not be taken, for want of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(10);

/// One end of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A TCP port that listens already and was handed over as standard input.
    Stdin,
    /// An address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for End {
    type Err = String;

    /// `stdin`, `unix:PATH` or `ADDRESS:PORT`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "stdin" {
            return Ok(Self::Stdin);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| format!("`{text}` is neither stdin, unix:PATH nor ADDRESS:PORT"))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("stdin"),
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// From where and where to.
#[derive(Debug, Clone, clap::Args)]
pub struct RelayArgs {
    /// Where connections come from: `stdin`, `unix:PATH` or `ADDRESS:PORT`
    #[arg(long)]
    pub from: End,
    /// Where they go: `unix:PATH` or `ADDRESS:PORT`
    #[arg(long)]
    pub to: End,
}

/// Passes connections on, for ever, or as long as there is the socket that they go to.
///
/// # Errors
/// When it cannot listen.
pub async fn run(args: RelayArgs) -> Result<()> {
    let parent = parent_id();
    tokio::select! {
        result = pass_on(args.from, args.to.clone()) => result,
        () = gone(&args.to, parent) => Ok(()),
    }
}

/// Waits for the end of a socket that was there, or of a parent who never made it.
async fn gone(to: &End, parent: u32) {
    let End::Unix(path) = to else { return std::future::pending().await };
    let mut seen = false;
    loop {
        let there = path.exists();
        seen |= there;
        if !there && (seen || parent_id() != parent) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn pass_on(from: End, to: End) -> Result<()> {
    let doing = || format!("listening on {from}");
    if let End::Unix(path) = &from {
        let listener = UnixListener::bind(path).context(doing)?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, to.clone()))),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
    let listener = match &from {
        End::Tcp(address) => TcpListener::bind(address).await.context(doing)?,
        _ => {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned().context(doing)?;
            let listener = StdListener::from(stdin);
            listener.set_nonblocking(true).context(doing)?;
            TcpListener::from_std(listener).context(doing)?
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, to.clone()))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Copies both ways until one of the two ends. Whatever goes wrong, both sides see the end of their connection.
async fn connection(mut stream: impl AsyncRead + AsyncWrite + Unpin, to: End) {
    match to {
        End::Unix(path) => {
            if let Ok(mut other) = UnixStream::connect(path).await {
                let _ = copy_bidirectional(&mut stream, &mut other).await;
            }
        }
        End::Tcp(address) => {
            if let Ok(mut other) = TcpStream::connect(address).await {
                let _ = copy_bidirectional(&mut stream, &mut other).await;
            }
        }
        End::Stdin => {}
    }
}

/// A way in for the clients of one cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// The cloud's name.
    pub name: String,
    /// The address outside.
    pub outside: SocketAddr,
    /// The socket between the two relays.
    pub socket: PathBuf,
}

impl Door {
    /// Makes the outer half of a door and starts its relay, which is the child of this process also after
    /// [`super::namespace::enter`]. `program` is `banyan`; `dir` takes the socket.
    ///
    /// # Errors
    /// When there is no free port, or the relay cannot be started.
    pub fn make(name: &str, program: &Path, dir: &Path) -> Result<Self> {
        let doing = || format!("making a door to {name}");
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).context(doing)?;
        let outside = listener.local_addr().context(doing)?;
        // With the process id, which stays the same inside: another sandbox's socket is never meant.
        let file = format!("{name}-{}.sock", std::process::id());
        let door = Self { name: name.to_owned(), outside, socket: short(dir, &file) };
        Command::new(program)
            .args(["relay", "--from", "stdin", "--to", &End::Unix(door.socket.clone()).to_string()])
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C on the terminal is for the sandbox, whose end it follows.
            .process_group(0)
            .spawn()
            .context(doing)?;
        Ok(door)
    }

    /// Makes the inner half, inside: from the socket to a server, such as `https://127.0.0.1:40123`.
    ///
    /// # Errors
    /// When the server has no such address, or the relay cannot be started.
    pub fn open(&self, server: &str, program: &Path, dir: &Path, supervisor: &Supervisor) -> Result<()> {
        let to: SocketAddr = server
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .parse()
            .context(|| format!("opening a door to {}: {server} is no address", self.name))?;
        let from = End::Unix(self.socket.clone());
        let argv =
            [&program.display().to_string(), "relay", "--from", &from.to_string(), "--to", &to.to_string()];
        let spec = Spec {
            name: format!("{}/relay", self.name),
            argv: argv.map(str::to_owned).into(),
            env: Vec::new(),
            dir: None,
            log: dir.join(format!("{}-relay.log", self.name)),
            stage: 3,
            grace: Duration::ZERO,
        };
        supervisor.spawn(&spec).map(drop)
    }

    /// Doors as the text of [`DOORS`].
    pub fn write(doors: &[Self]) -> String {
        let one = |door: &Self| format!("{} {} {}", door.name, door.outside, door.socket.display());
        doors.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    /// The doors that were made before this process came inside; none where there are none.
    ///
    /// # Errors
    /// When somebody else wrote the variable.
    pub fn inherited() -> Result<Vec<Self>> {
        Self::read(&std::env::var(DOORS).unwrap_or_default())
    }

    fn read(text: &str) -> Result<Vec<Self>> {
        let one = |line: &str| {
            let mut parts = line.splitn(3, ' ');
            let (name, outside, socket) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Self { name: name.to_owned(), outside: outside.parse().ok()?, socket: socket.into() })
        };
        let doors =
            text.lines().map(|line| one(line).ok_or_else(|| Error::new(format!("{DOORS}: `{line}`"))));
        doors.collect()
    }
}

/// A path in a folder, or in the system's temporary one: that of a socket has at most 107 bytes.
pub(super) fn short(dir: &Path, file: &str) -> PathBuf {
    let path = dir.join(file);
    if path.as_os_str().len() <= 107 { path } else { std::env::temp_dir().join(format!("banyan-{file}")) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn ends_and_doors_are_read_as_they_are_written() {
        for text in ["stdin", "unix:/a b/c.sock", "127.0.0.1:6443"] {
            assert_eq!(text.parse::<End>().unwrap().to_string(), text);
        }
        assert!("localhost:1".parse::<End>().unwrap_err().contains("neither stdin"));
        let door = |name: &str, path: &str| Door {
            name: name.into(),
            outside: "127.0.0.1:40001".parse().unwrap(),
            socket: path.into(),
        };
        let doors = [door("aws", "/a b/c"), door("gcp", "/d")];
        assert_eq!(Door::read(&Door::write(&doors)).unwrap(), doors);
        assert_eq!(Door::read("").unwrap(), []);
        assert!(Door::read("aws nowhere").is_err());
    }

    #[test]
    fn a_socket_has_a_path_that_the_kernel_takes() {
        assert_eq!(short(Path::new("/short"), "a.sock"), Path::new("/short/a.sock"));
        let deep = PathBuf::from(format!("/{}", "a".repeat(200)));
        assert!(short(&deep, "a.sock").as_os_str().len() <= 107);
    }

    #[tokio::test]
    async fn what_goes_in_comes_out_and_back_until_the_socket_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("a.sock");
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = RelayArgs { from: End::Unix(socket.clone()), to: End::Tcp(server.local_addr().unwrap()) };
        tokio::spawn(run(inner));
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let outer = tokio::spawn(run(RelayArgs { from: End::Tcp(free), to: End::Unix(socket.clone()) }));
        let mut client = loop {
            match TcpStream::connect(free).await {
                // Until both listen.
                Ok(client) if socket.exists() => break client,
                _ => tokio::time::sleep(PAUSE).await,
            }
        };
        client.write_all(b"ping").await.unwrap();
        // A connection from before the inner one listened was closed and never comes here.
        let (mut accepted, _) = server.accept().await.unwrap();
        let mut bytes = [0; 4];
        accepted.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
        accepted.write_all(b"pong").await.unwrap();
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"pong");
        std::fs::remove_file(&socket).unwrap();
        outer.await.unwrap().unwrap();
    }
}
