//! The programs and API definitions that the sandbox stands on: where each comes from, at which version.
//!
//! No registry ships an API server, but each of these is a Go module, so all that a
//! machine needs is Go. What is built is kept in the cache folder, by version.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::build;
pub use super::build::{Source, Tool};
use super::error::{Context, Error, Result};
use super::install;
use super::process::Supervisor;
use crate::terminal::progress::Progress;

/// The version of Kubernetes that the control planes run, as in `tests/controlplane/go.mod`.
pub const KUBERNETES: &str = "v1.36.3";

/// Keeps processes, and outlives nobody; see [`super::process`].
pub const SUPERVISE: Tool = Tool {
    name: "supervise",
    version: "v1",
    source: Source::Embedded {
        files: &[
            ("go.mod", include_str!("../../tests/controlplane/supervise/go.mod")),
            ("main.go", include_str!("../../tests/controlplane/supervise/main.go")),
            ("attributes_linux.go", include_str!("../../tests/controlplane/supervise/attributes_linux.go")),
            ("adopted_linux.go", include_str!("../../tests/controlplane/supervise/adopted_linux.go")),
            ("attributes_other.go", include_str!("../../tests/controlplane/supervise/attributes_other.go")),
            ("adopted_other.go", include_str!("../../tests/controlplane/supervise/adopted_other.go")),
        ],
        ldflags: "-s -w",
    },
    packages: 70,
};

/// etcd and three of Kubernetes' own programs in one binary.
pub const CONTROL_PLANE: Tool = Tool {
    name: "controlplane",
    version: KUBERNETES,
    source: Source::Embedded {
        files: &[
            ("go.mod", include_str!("../../tests/controlplane/go.mod")),
            ("go.sum", include_str!("../../tests/controlplane/go.sum")),
            ("main.go", include_str!("../../tests/controlplane/main.go")),
        ],
        // Clients cannot parse the version of an API server that was linked without one.
        ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
                  -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36",
    },
    packages: 2520,
};

/// Plays the nodes and their kubelets.
pub const KWOK: Tool = Tool {
    name: "kwok",
    version: "v0.8.0",
    source: Source::Install { package: "sigs.k8s.io/kwok/cmd/kwok" },
    packages: 975,
};

/// Renders the chart; only tests need it.
pub const HELM: Tool = Tool {
    name: "helm",
    version: "v3.21.3",
    source: Source::Install { package: "helm.sh/helm/v3/cmd/helm" },
    packages: 910,
};

/// The definitions of Istio's API.
pub const ISTIO_CRDS: Tool = Tool {
    name: "istio-crds",
    version: "v1.29.0",
    source: Source::Files {
        module: "istio.io/api",
        paths: &["kubernetes/customresourcedefinitions.gen.yaml"],
    },
    packages: 0,
};

/// The definitions of Gateway API, the experimental channel, which holds the standard one.
pub const GATEWAY_CRDS: Tool = Tool {
    name: "gateway-api-crds",
    version: "v1.3.0",
    source: Source::Files { module: "sigs.k8s.io/gateway-api", paths: &["config/crd/experimental"] },
    packages: 0,
};

/// The definitions of the Prometheus operator that FinServices use.
pub const PROMETHEUS_CRDS: Tool = Tool {
    name: "prometheus-operator-crds",
    version: "v0.85.0",
    source: Source::Files {
        module: "github.com/prometheus-operator/prometheus-operator",
        paths: &[
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        ],
    },
    packages: 0,
};

/// Strimzi's KafkaTopic and KafkaUser, after their published schema: no registry of Go modules has them.
pub const STRIMZI_CRDS: &str = include_str!("crds/strimzi.yaml");

/// The four programs of a control plane, each with the arguments that choose it.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// The store.
    pub etcd: Vec<String>,
    /// The API server.
    pub apiserver: Vec<String>,
    /// Its controllers.
    pub controller_manager: Vec<String>,
    /// Its scheduler.
    pub scheduler: Vec<String>,
}

/// All that a pair of clouds needs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The control plane's programs.
    pub control_plane: ControlPlane,
    /// kwok's program.
    pub kwok: PathBuf,
    /// Files with the definitions of the optional APIs that come from modules.
    optional_apis: Vec<PathBuf>,
}

/// The cache folder: `$BANYAN_CACHE`, else `banyan` in the user's cache folder.
///
/// # Errors
/// When neither `BANYAN_CACHE`, `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("BANYAN_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("banyan")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/banyan")))
        .ok_or_else(|| Error::new("there is no place to keep what is built: set BANYAN_CACHE to a folder"))
}

/// Finds or builds the supervisor. Blocks this thread.
///
/// # Errors
/// When there is no Go and none was built before, or when it does not build.
pub fn supervise(progress: &Progress) -> Result<PathBuf> {
    build::obtain(&SUPERVISE, &cache_dir()?, None, progress)
}

/// Finds or builds one tool. Blocks this thread.
///
/// # Errors
/// When it can be neither found nor built; the end of the build's log is in the error.
pub fn obtain(tool: &Tool, supervisor: &Supervisor, progress: &Progress) -> Result<PathBuf> {
    build::obtain(tool, &cache_dir()?, Some(supervisor), progress)
}

/// Finds or builds several, side by side, and returns them in the same order. Blocks this thread.
///
/// # Errors
/// When one of them can be neither found nor built.
pub fn obtain_all(tools: &[Tool], supervisor: &Supervisor, progress: &Progress) -> Result<Vec<PathBuf>> {
    let cache = cache_dir()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = tools
            .iter()
            .map(|tool| scope.spawn(|| build::obtain(tool, &cache, Some(supervisor), progress)))
            .collect();
        // All to their end before the first error is told.
        let found: Vec<Result<PathBuf>> = threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    Err(Error::new("building a tool panicked: this is a defect of Banyan"))
                })
            })
            .collect();
        found.into_iter().collect()
    })
}

impl Tools {
    /// Finds or builds all, side by side. Blocks this thread, for about ten minutes
    /// on two cores when nothing is there yet, for a moment when all is.
    ///
    /// # Errors
    /// When one of them can be neither found nor built.
    pub fn obtain(supervisor: &Supervisor, progress: &Progress) -> Result<Self> {
        let assets = Assets::from_env()?;
        let mut wanted = vec![KWOK, ISTIO_CRDS, GATEWAY_CRDS, PROMETHEUS_CRDS];
        if !assets.as_ref().is_some_and(Assets::complete) {
            // First, because it takes longest.
            wanted.insert(0, CONTROL_PLANE);
        }
        let found = obtain_all(&wanted, supervisor, progress)?;
        let paths: HashMap<&str, PathBuf> = wanted.iter().map(|tool| tool.name).zip(found).collect();
        let built = paths.get(CONTROL_PLANE.name);
        let program = |name: &str| -> Result<Vec<String>> {
            if let Some(path) = assets.as_ref().and_then(|assets| assets.program(name)) {
                return Ok(vec![path.display().to_string()]);
            }
            built
                .map(|path| vec![path.display().to_string(), name.into()])
                .ok_or_else(|| Error::new(format!("there is no {name}")))
        };
        let optional = [ISTIO_CRDS, GATEWAY_CRDS, PROMETHEUS_CRDS];
        Ok(Self {
            control_plane: ControlPlane {
                etcd: program("etcd")?,
                apiserver: program("kube-apiserver")?,
                controller_manager: program("kube-controller-manager")?,
                scheduler: program("kube-scheduler")?,
            },
            kwok: paths[KWOK.name].clone(),
            optional_apis: optional.iter().map(|tool| paths[tool.name].clone()).collect(),
        })
    }

    /// The definitions of the optional APIs: Istio, Gateway API, Prometheus operator, Strimzi.
    ///
    /// # Errors
    /// When the cache was changed by somebody else.
    pub fn optional_definitions(&self) -> Result<Vec<Value>> {
        let mut all = install::documents("Strimzi's definitions", STRIMZI_CRDS)?;
        for file in &self.optional_apis {
            let doing = || format!("reading {}", file.display());
            let text = std::fs::read_to_string(file).context(doing)?;
            let some: Vec<Value> = serde_json::from_str(&text).context(doing)?;
            all.extend(some);
        }
        Ok(all)
    }
}

/// Programs that somebody else built: the folder that `KUBEBUILDER_ASSETS` names.
#[derive(Debug)]
struct Assets(PathBuf);

impl Assets {
    const REQUIRED: [&str; 2] = ["etcd", "kube-apiserver"];
    const REST: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

    fn from_env() -> Result<Option<Self>> {
        match std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()) {
            Some(dir) => Self::at(Path::new(&dir)).map(Some),
            None => Ok(None),
        }
    }

    fn at(dir: &Path) -> Result<Self> {
        let assets = Self(dir.to_owned());
        for name in Self::REQUIRED {
            if assets.program(name).is_none() {
                return Err(Error::new(format!(
                    "KUBEBUILDER_ASSETS is {}, which has no {name}: unset it, or fill the folder with `setup-envtest use`",
                    dir.display()
                )));
            }
        }
        Ok(assets)
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let path = self.0.join(name);
        path.is_file().then_some(path)
    }

    /// Whether nothing has to be built.
    fn complete(&self) -> bool {
        Self::REST.iter().all(|name| self.program(name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_assets_folder_is_named_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("etcd"), "").unwrap();
        let error = Assets::at(dir.path()).unwrap_err().to_string();
        assert!(error.contains("has no kube-apiserver: unset it"), "{error}");
        std::fs::write(dir.path().join("kube-apiserver"), "").unwrap();
        assert!(!Assets::at(dir.path()).unwrap().complete());
        std::fs::write(dir.path().join("kube-controller-manager"), "").unwrap();
        std::fs::write(dir.path().join("kube-scheduler"), "").unwrap();
        assert!(Assets::at(dir.path()).unwrap().complete());
    }

    #[test]
    fn the_control_plane_is_linked_with_the_version_of_its_module() {
        let Source::Embedded { files, ldflags } = CONTROL_PLANE.source else {
            panic!("the control plane is built from source");
        };
        assert!(ldflags.contains(&format!("gitVersion={KUBERNETES}")));
        assert!(files[0].1.contains(&format!("k8s.io/kubernetes {KUBERNETES}")));
    }
}
