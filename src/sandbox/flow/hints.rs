//! What is said about how to go on from here.

use std::path::Path;

use super::super::traffic::namespace;
use super::super::traffic::session::Traffic;
use super::{Session, Site};

impl Session {
    /// How to ask more about FailoverGroups, a line for each cloud.
    pub(super) fn more(&self) -> String {
        let banyan = program("banyan");
        let line = |site: &Site| {
            format!("  {banyan} failover ready payments --kubeconfig {}\n", short(&self.kubeconfig(site)))
        };
        // The first one has authority to begin with.
        let moves = |site: &Site| {
            let path = short(&self.kubeconfig(site));
            format!(
                "  {banyan} failover start payments --reason 'a drill' --wait --kubeconfig {path}    # moves it there\n"
            )
        };
        match self.args.examples {
            None => self.sites.iter().map(line).chain(self.sites.last().map(moves)).collect(),
            Some(_) => String::new(),
        }
    }

    /// How to use what runs.
    pub(super) fn how_to(&self, end: &str) -> String {
        let mut text = String::from("\nIn another terminal:\n");
        for site in &self.sites {
            let path = short(&self.kubeconfig(site));
            text.push_str(&format!("  kubectl --kubeconfig {path} get finservices --all-namespaces\n"));
        }
        text.push_str(&self.more());
        text.push_str(&self.traffic.as_ref().map(Traffic::how_to).unwrap_or_default());
        if let Some(failover) = self.failover.as_ref().filter(|_| !namespace::inside()) {
            text.push_str(&failover.how_to());
        }
        let plugin = program("kubectl-banyan");
        if plugin != "kubectl-banyan" {
            text.push_str(&format!("Where it says `kubectl banyan`, type {plugin}, or link that to kubectl-banyan in your PATH.\n"));
        }
        text.push_str("A service of your own, and releases that fail: docs/first-service.md.\n");
        text.push_str(&format!("{end}. Logs are in {}.\n", short(self.home.path())));
        text
    }
}

/// How this program is called from the working folder: by that name where a shell finds it, else by its path.
pub(super) fn program(name: &str) -> String {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    match std::env::current_exe() {
        Ok(path) if !std::env::split_paths(&dirs).any(|dir| dir.join(name).is_file()) => short(&path),
        _ => name.to_owned(),
    }
}

/// A path as it is called from the working folder.
pub(super) fn short(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
