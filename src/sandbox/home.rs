//! The sandbox's folder: kubeconfigs, logs and data, gone when the sandbox is.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Context, Error, Result};
use super::process;

/// Where the folder is when nothing else is said.
pub(super) const DEFAULT: &str = ".banyan/sandbox";
/// Marks the folder as ours, so that no other is ever removed; also the lock of the one who uses it.
const MARKER: &str = "sandbox.lock";
/// Says how a sandbox that was kept is ended.
const STOP: &str = "stop";
/// How long its processes may take for that.
const END: Duration = Duration::from_secs(30);

/// A folder that is ours alone as long as this value lives.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Takes a folder that is not there yet, is empty, or was left over by a sandbox.
    pub(super) fn claim(path: &Path) -> Result<Self> {
        let doing = || format!("making the folder {}", path.display());
        if path.join(STOP).exists() {
            return Err(Error::new(format!(
                "a sandbox that was kept still uses {}: end it with `banyan sandbox --stop --dir {0}`, \
                 or choose another folder with --dir",
                path.display()
            )));
        }
        require_ours(path)?;
        fs::create_dir_all(path).context(doing)?;
        let lock = File::create(path.join(MARKER)).context(doing)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(format!(
                    "another sandbox uses {}: end it, or choose another folder with --dir",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error).context(doing),
        }
        Ok(Self { path: path.canonicalize().context(doing)?, _lock: lock })
    }

    /// The folder, from the root on.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes how to end what goes on without us.
    pub(super) fn keep(&self, address: &str) -> Result<()> {
        fs::write(self.path.join(STOP), address).context(|| "noting how to stop the sandbox")
    }
}

/// Ends a sandbox that was kept, and removes its folder. Blocks this thread.
pub(super) fn stop(path: &Path) -> Result<()> {
    let address = fs::read_to_string(path.join(STOP)).map_err(|_| {
        Error::new(format!("no sandbox was kept in {}: there is nothing to stop", path.display()))
    })?;
    if !process::stop_detached(address.trim(), END) {
        // Its processes are gone already, with the machine's last start for example.
        require_ours(path)?;
    }
    if path.exists() {
        fs::remove_dir_all(path).context(|| format!("removing {}", path.display()))?;
    }
    tidy(path);
    Ok(())
}

/// Removes the folder that the default one is in, if it is empty.
pub(super) fn tidy(path: &Path) {
    if let Some(parent) = path.parent().filter(|parent| parent.ends_with(".banyan")) {
        // Somebody else's files may be there, and then it stays.
        let _ = fs::remove_dir(parent);
    }
}

/// Refuses a folder in which others have something.
fn require_ours(path: &Path) -> Result<()> {
    if !path.exists() || path.join(MARKER).exists() {
        return Ok(());
    }
    let doing = || format!("reading {}", path.display());
    match fs::read_dir(path).context(doing)?.next() {
        None => Ok(()),
        Some(_) => Err(Error::new(format!(
            "--dir {}: the folder has files in it, and the sandbox removes its folder at the end; choose one that is empty or not there yet",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        let error = Home::claim(dir.path()).unwrap_err().to_string();
        assert!(error.contains("has files in it"), "{error}");
        assert!(dir.path().join("letter.txt").exists());
    }

    #[test]
    fn one_that_is_in_use_is_refused_and_one_left_over_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".banyan/sandbox");
        let first = Home::claim(&path).unwrap();
        fs::write(path.join("log"), "").unwrap();
        let error = Home::claim(&path).unwrap_err().to_string();
        assert!(error.starts_with("another sandbox uses"), "{error}");
        drop(first);
        let second = Home::claim(&path).unwrap();
        second.keep("/nowhere/stop").unwrap();
        drop(second);
        let error = Home::claim(&path).unwrap_err().to_string();
        assert!(error.contains("banyan sandbox --stop --dir"), "{error}");
        // Nothing listens there any more, so only the folder is left to remove.
        stop(&path).unwrap();
        assert!(!dir.path().join(".banyan").exists());
        let error = stop(&path).unwrap_err().to_string();
        assert!(error.contains("nothing to stop"), "{error}");
    }
}
