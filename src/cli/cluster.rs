//! Which cluster a command speaks to.

use std::path::PathBuf;

use clap::Args;

use crate::runtime::client::Target;

/// The cluster, as a kubeconfig names it.
#[derive(Clone, Debug, Default, Args)]
pub struct ClusterArgs {
    /// A kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the Pod's service account]
    #[arg(long, global = true, env = "BANYAN_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig [default: its current context]
    #[arg(long, global = true, env = "BANYAN_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
}

/// A cluster, and the namespace in it that the operator has.
#[derive(Clone, Debug, Args)]
pub(super) struct OperatorArgs {
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
    /// The operator's namespace, with the FailoverGroups
    #[arg(
        short,
        long,
        global = true,
        env = "BANYAN_NAMESPACE",
        default_value = "banyan-system",
        value_name = "NS"
    )]
    pub(super) namespace: String,
}

impl ClusterArgs {
    /// What a client is made from.
    pub fn target(&self) -> Target {
        Target { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }
}
