//! Where PostgreSQL's programs come from, and as whom they run.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::process::Supervisor;
use crate::sandbox::tools::{Source, Tool, obtain};
use crate::terminal::progress::Progress;

/// Where the server lies in the package.
const PACKED: &str = "pgserver/pginstall/bin/postgres";

/// A whole PostgreSQL in a Python package, for machines whose distribution has none.
pub const POSTGRES: Tool = Tool {
    name: "postgres",
    version: "0.1.4",
    source: Source::WholeWheel { package: "pgserver", file: PACKED },
    packages: 0,
};

/// The variable that names a folder with PostgreSQL's programs, which is then used instead of any other.
pub const FOLDER: &str = "BANYAN_POSTGRES_BIN";

/// Where Debian keeps them, a folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The programs that are needed.
const NEEDED: [&str; 6] = ["postgres", "initdb", "pg_ctl", "pg_basebackup", "pg_rewind", "pg_controldata"];

/// An ordinary user and group that every Linux has: nobody's. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

/// PostgreSQL's programs.
#[derive(Debug, Clone)]
pub struct PostgresTools {
    bin: PathBuf,
}

impl PostgresTools {
    /// Finds or downloads them: the folder that [`FOLDER`] names, else Debian's, else a Python package. Blocks this
    /// thread.
    ///
    /// # Errors
    /// When there are none and there is no pip either, or when the folder that was named lacks a program.
    pub fn obtain(supervisor: &Supervisor, progress: &Progress) -> Result<Self> {
        let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if is_root() && !has_nobody(&users) {
            return Err(Error::new(
                "PostgreSQL does not run as root, and this user namespace has nobody else: become root before, or do \
                 without --traffic",
            ));
        }
        if let Some(folder) = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty()) {
            return Self::at(Path::new(&folder));
        }
        if let Some(bin) = of_debian(Path::new(DEBIAN)) {
            return Self::at(&bin);
        }
        Self::packaged(supervisor, progress)
    }

    /// Those of the Python package, whatever else the machine has. Blocks this thread.
    ///
    /// # Errors
    /// When there is no pip, or another system than Linux.
    pub fn packaged(supervisor: &Supervisor, progress: &Progress) -> Result<Self> {
        let program = obtain(&POSTGRES, supervisor, progress)?;
        let whole = Path::new(PACKED).components().count();
        let home = program.ancestors().nth(whole).ok_or_else(|| Error::new("a program lies in no folder"))?;
        if !is_root() || program.ancestors().all(is_open_to_all) {
            return Self::at(&program.with_file_name(""));
        }
        // What lies in root's own cache is for root alone, as whom PostgreSQL does not run.
        let copy = std::env::temp_dir().join(format!("banyan-postgres-{}", std::process::id()));
        supervisor.remove_at_end(&copy)?;
        copy_all(home, &copy).context(|| format!("copying PostgreSQL to {}", copy.display()))?;
        Self::at(&copy.join(PACKED).with_file_name(""))
    }

    fn at(bin: &Path) -> Result<Self> {
        if let Some(missing) = NEEDED.iter().find(|name| !bin.join(name).is_file()) {
            return Err(Error::new(format!(
                "{} has no {missing}: unset {FOLDER}, or have it name the folder of PostgreSQL's server programs",
                bin.display()
            )));
        }
        Ok(Self { bin: bin.to_owned() })
    }

    /// The folder of the programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The command line of one of the programs, as a user that it accepts.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let program = self.bin.join(program).display().to_string();
        self.as_user(
            std::iter::once(program).chain(arguments.iter().map(|text| (*text).to_owned())).collect(),
        )
    }

    /// A command line as that user. `pdeathsig`: the kernel forgets that it is to end a process with its parent when the
    /// user changes, unless it is told again.
    pub(super) fn as_user(&self, command: Vec<String>) -> Vec<String> {
        if !is_root() {
            return command;
        }
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        let mut argv = vec!["setpriv".to_owned(), user, group];
        argv.extend(["--clear-groups", "--pdeathsig=keep"].map(String::from));
        argv.extend(command);
        argv
    }

    /// Gives a folder to the user as whom the programs run.
    ///
    /// # Errors
    /// When that is not allowed.
    pub(super) fn give(&self, folder: &Path) -> Result<()> {
        if !is_root() {
            return Ok(());
        }
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY))
            .context(|| format!("giving {} to another user", folder.display()))
    }
}

/// Whether we are root, by whom our own process belongs to.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Whether a table like `/proc/self/uid_map` (first user inside, first user outside, how many) has [`NOBODY`]. An empty
/// one is no Linux's.
fn has_nobody(table: &str) -> bool {
    let mut ranges = table.lines().filter_map(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        Some((*numbers.first()?, *numbers.get(2)?))
    });
    let nobody = u64::from(NOBODY);
    table.is_empty() || ranges.any(|(first, count)| first <= nobody && nobody < first.saturating_add(count))
}

/// Whether everybody may look into a folder, or run a program.
fn is_open_to_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 != 0)
}

/// Copies a folder with all that is in it.
fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The newest of Debian's that is whole.
fn of_debian(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root).ok()?.flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            NEEDED.iter().all(|name| bin.join(name).is_file()).then_some((version, bin))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_of_root_alone_has_nobody() {
        assert!(has_nobody("         0          0 4294967295\n"));
        assert!(has_nobody("0 1000 1\n1 100000 65536\n"));
        assert!(!has_nobody("         0       1000          1\n"));
    }

    #[test]
    fn the_newest_that_is_whole_is_taken() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "16"] {
            let bin = root.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            for name in NEEDED.iter().filter(|name| version != "16" || **name != "initdb") {
                std::fs::write(bin.join(name), "").unwrap();
            }
        }
        let found = of_debian(root.path()).unwrap();
        assert_eq!(found, root.path().join("15/bin"));
        let error = PostgresTools::at(&root.path().join("16/bin")).unwrap_err().to_string();
        assert!(error.contains("has no initdb: unset BANYAN_POSTGRES_BIN"), "{error}");
        let command = PostgresTools::at(&found).unwrap().command("initdb", &["-k"]);
        assert!(command.ends_with(&[found.join("initdb").display().to_string(), "-k".to_owned()]));
    }
}
