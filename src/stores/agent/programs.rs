//! PostgreSQL's own programs, and the files beside them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::Source;

/// How long a server may take to start or stop.
const SETTLES: Duration = Duration::from_secs(120);
/// What `pg_rewind` says where it finds nothing to rewind by the timelines alone.
const SAME_TIMELINE: &str = "on the same timeline";
/// How long a source may take to its first checkpoint after a promotion: by default one is spread over four and a half minutes.
const CHECKPOINTS: Duration = Duration::from_secs(360);
/// How long lies between two tries.
const AGAIN: Duration = Duration::from_secs(2);
/// Of what a program says, so much is handed on, from the end.
const SAID: usize = 600;

/// Where all is.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The folder of PostgreSQL's programs.
    pub bin: PathBuf,
    /// The folder of the server's data.
    pub data: PathBuf,
    /// What the server is started with, such as `-p 5433`.
    pub options: String,
    /// A file with the words of a connection string by which this server replicates from another: all but host and port.
    pub replicate_as: PathBuf,
    /// The same for `pg_rewind`, which needs a role that may read files of the server. Where there is none, that of
    /// `replicate_as` is used.
    pub rewind_as: Option<PathBuf>,
}

/// What the control file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Such as `in production` or `shut down`.
    pub state: String,
    /// What tells its cluster from all others.
    pub system: Option<u64>,
    /// The timeline of its last checkpoint.
    pub timeline: Option<u32>,
}

/// What `pg_controldata` prints.
pub fn control(text: &str) -> Control {
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':').map(str::trim))
    };
    Control {
        state: field("Database cluster state").unwrap_or_default().to_owned(),
        system: field("Database system identifier").and_then(|text| text.parse().ok()),
        timeline: field("Latest checkpoint's TimeLineID").and_then(|text| text.parse().ok()),
    }
}

/// A value of a connection string.
fn value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A value of a configuration file.
fn setting(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

impl Programs {
    async fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let failed = |why: String| format!("{program}: {why}");
        let output = Command::new(self.bin.join(program))
            .args(arguments)
            .env("LC_ALL", "C")
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            // What `pg_rewind` says stands in the one or the other, by its version.
            let said = [output.stdout, output.stderr].concat();
            return Ok(String::from_utf8_lossy(&said).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let begin = said.char_indices().rev().nth(SAID).map_or(0, |(at, _)| at);
        Err(failed(format!("{}: {}", output.status, &said[begin..])))
    }

    /// What the control file says.
    pub async fn control(&self) -> Result<Control, String> {
        let data = self.data.display().to_string();
        Ok(control(&self.run("pg_controldata", &["-D", &data]).await?))
    }

    /// Whether the server runs.
    pub async fn runs(&self) -> bool {
        let data = self.data.display().to_string();
        self.run("pg_ctl", &["-D", &data, "status"]).await.is_ok()
    }

    /// Stops it, if it runs.
    pub async fn stop(&self) -> Result<(), String> {
        if !self.runs().await {
            return Ok(());
        }
        let (data, limit) = (self.data.display().to_string(), SETTLES.as_secs().to_string());
        self.run("pg_ctl", &["-D", &data, "stop", "-m", "fast", "-w", "-s", "-t", &limit]).await.map(drop)
    }

    /// Starts it, if it does not run, and waits until it accepts sessions.
    pub async fn start(&self) -> Result<(), String> {
        if self.runs().await {
            return Ok(());
        }
        let (data, limit) = (self.data.display().to_string(), SETTLES.as_secs().to_string());
        let log = self.beside("log").display().to_string();
        let options = ["-D", &data, "start", "-w", "-s", "-t", &limit, "-l", &log, "-o", &self.options];
        self.run("pg_ctl", &options).await.map(drop)
    }

    /// A path beside the folder of the data, which is not part of what is copied.
    pub fn beside(&self, what: &str) -> PathBuf {
        let name = self.data.file_name().unwrap_or_default().to_string_lossy();
        self.data.with_file_name(format!("{name}.banyan-{what}"))
    }

    fn conninfo(&self, file: &Path, source: &Source) -> Result<String, String> {
        let words =
            std::fs::read_to_string(file).map_err(|error| format!("reading {}: {error}", file.display()))?;
        Ok(format!("host={} port={} {}", value(&source.host), source.port, words.trim()))
    }

    /// Rewinds a server that is stopped. It waits for the first checkpoint of a source that was promoted just now: until then
    /// `pg_rewind` of PostgreSQL 15 and before takes both for the same timeline, and says that nothing is to be rewound.
    pub async fn rewind(&self, source: &Source) -> Result<(), String> {
        let begin = tokio::time::Instant::now();
        while self.rewind_now(source).await?.contains(SAME_TIMELINE) {
            let own = self.control().await?.timeline;
            if source.timeline.is_none() || own == source.timeline {
                return Ok(());
            }
            if begin.elapsed() > CHECKPOINTS {
                return Err(
                    "the source has made no checkpoint since it was promoted: type `checkpoint` there"
                        .to_owned(),
                );
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    /// Its own configuration stays: `pg_rewind` would bring that of the source. Returns what it says.
    async fn rewind_now(&self, source: &Source) -> Result<String, String> {
        let words = self.rewind_as.as_deref().unwrap_or(&self.replicate_as);
        let from = format!("{} dbname=postgres", self.conninfo(words, source)?);
        let data = self.data.display().to_string();
        let own = self.configuration()?;
        let rewound = self.run("pg_rewind", &["-D", &data, "--source-server", &from]).await;
        for (name, text) in own {
            write(&self.data.join(name), &text)?;
        }
        rewound
    }

    /// The files of the configuration that lie in the folder of the data.
    fn configuration(&self) -> Result<Vec<(&'static str, Vec<u8>)>, String> {
        let names = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"];
        let there = names.into_iter().filter(|name| self.data.join(name).is_file());
        there
            .map(|name| {
                let file = self.data.join(name);
                let text =
                    std::fs::read(&file).map_err(|error| format!("reading {}: {error}", file.display()))?;
                Ok((name, text))
            })
            .collect()
    }

    /// Copies the source in place of a server that is stopped, whose data is put aside under a name with the ballot. It is
    /// never removed: it may hold what the source never had.
    pub async fn copy(&self, source: &Source, ballot: i64) -> Result<(), String> {
        let own = if self.data.is_dir() { self.configuration()? } else { Vec::new() };
        let fresh = self.beside("copy");
        if fresh.exists() {
            // Left over from a copy that was broken off; nothing ever ran on it.
            std::fs::remove_dir_all(&fresh)
                .map_err(|error| format!("removing {}: {error}", fresh.display()))?;
        }
        let from = self.conninfo(&self.replicate_as, source)?;
        let target = fresh.display().to_string();
        self.run("pg_basebackup", &["-D", &target, "-d", &from, "-c", "fast", "-X", "stream"]).await?;
        for (name, text) in own {
            write(&fresh.join(name), &text)?;
        }
        if self.data.exists() {
            let mut aside = self.beside(&format!("before-{ballot}"));
            let mut number = 1;
            while aside.exists() {
                number += 1;
                aside = self.beside(&format!("before-{ballot}-{number}"));
            }
            std::fs::rename(&self.data, &aside)
                .map_err(|error| format!("putting {} aside: {error}", self.data.display()))?;
        }
        std::fs::rename(&fresh, &self.data).map_err(|error| format!("putting the copy in place: {error}"))
    }

    /// Has a server that is stopped follow the source once it is started.
    pub fn follow(&self, source: &Source) -> Result<(), String> {
        let conninfo = format!(
            "{} application_name={}",
            self.conninfo(&self.replicate_as, source)?,
            value(&source.application_name)
        );
        let file = self.data.join("postgresql.auto.conf");
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        let kept: String = before
            .lines()
            .filter(|line| {
                !["primary_conninfo", "synchronous_standby_names"]
                    .iter()
                    .any(|name| line.trim_start().starts_with(name))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        write(&file, format!("{kept}primary_conninfo = {}\n", setting(&conninfo)).as_bytes())?;
        write(&self.data.join("standby.signal"), b"")
    }
}

/// Writes a file whole or not at all, readable by its owner alone.
pub(super) fn write(path: &Path, text: &[u8]) -> Result<(), String> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error: std::io::Error| format!("writing {}: {error}", path.display());
    let mut name = path.as_os_str().to_owned();
    name.push(".banyan-new");
    let fresh = PathBuf::from(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(failed)?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_is_read() {
        let text = "pg_control version number:            1300\n\
                    Database system identifier:           7713359079808621261\n\
                    Database cluster state:               in archive recovery\n\
                    Latest checkpoint's TimeLineID:       2\n\
                    Latest checkpoint's PrevTimeLineID:   1\n";
        let expected = Control {
            state: "in archive recovery".to_owned(),
            system: Some(7_713_359_079_808_621_261),
            timeline: Some(2),
        };
        assert_eq!(control(text), expected);
        assert_eq!(control("nothing"), Control::default());
    }

    #[test]
    fn a_standby_follows_by_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let words = dir.path().join("words");
        std::fs::write(&words, "user=replicator password='it''s'\n").unwrap();
        let auto = data.join("postgresql.auto.conf");
        std::fs::write(&auto, "# by hand\nprimary_conninfo = 'host=old'\nwork_mem = '5MB'\n").unwrap();
        let programs = Programs {
            bin: "/nowhere".into(),
            data: data.clone(),
            options: String::new(),
            replicate_as: words,
            rewind_as: None,
        };
        let source = Source {
            host: "db'b".to_owned(),
            port: 5433,
            application_name: "aws".to_owned(),
            timeline: None,
        };
        for _ in 0..2 {
            programs.follow(&source).unwrap();
            let text = std::fs::read_to_string(&auto).unwrap();
            assert_eq!(
                text,
                "# by hand\nwork_mem = '5MB'\nprimary_conninfo = 'host=''db\\\\''b'' port=5433 user=replicator \
                 password=''it''''s'' application_name=''aws'''\n"
            );
        }
        assert!(data.join("standby.signal").is_file());
    }
}
