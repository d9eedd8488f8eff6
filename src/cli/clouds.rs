//! Where the clouds' own APIs are, where they are not in their usual places: private links, and ends on this machine.

use std::num::NonZeroU32;

use clap::Args;

use crate::clouds::Addresses;
use crate::failovergroup::sources::group::Ends;

/// The addresses of the clouds' own APIs.
#[derive(Clone, Debug, Default, Args)]
pub struct CloudArgs {
    /// The address of Amazon EKS for all regions [default: the one of each region]
    #[arg(long, env = "BANYAN_EKS_URL", value_name = "URL")]
    pub eks_url: Option<String>,
    /// The address of AWS STS for all regions, for roles; a Pod's own web identity goes where AWS_ENDPOINT_URL_STS says
    /// [default: the one of each region]
    #[arg(long, env = "BANYAN_STS_URL", value_name = "URL")]
    pub sts_url: Option<String>,
    /// The address of Google Kubernetes Engine [default: https://container.googleapis.com]
    #[arg(long, env = "BANYAN_GKE_URL", value_name = "URL")]
    pub gke_url: Option<String>,
    /// The address of Amazon EC2 for all regions [default: the one of each region]
    #[arg(long, env = "BANYAN_EC2_URL", value_name = "URL")]
    pub ec2_url: Option<String>,
    /// The address of Google's Compute Engine [default: https://compute.googleapis.com]
    #[arg(long, env = "BANYAN_COMPUTE_URL", value_name = "URL")]
    pub compute_url: Option<String>,
    /// The address of Cloudflare's API [default: https://api.cloudflare.com/client/v4]
    #[arg(long, env = "BANYAN_CLOUDFLARE_URL", value_name = "URL")]
    pub cloudflare_url: Option<String>,
    /// The address of Amazon Route 53 [default: https://route53.amazonaws.com]
    #[arg(long, env = "BANYAN_ROUTE53_URL", value_name = "URL")]
    pub route53_url: Option<String>,
    /// Ask stores, witness and provider so many times as often as usual: for tests
    #[arg(long, env = "BANYAN_ASK_FASTER", value_name = "TIMES", hide = true)]
    pub ask_faster: Option<NonZeroU32>,
}

impl CloudArgs {
    /// The same for those who ask there. An empty address counts as none, as an unset value of the chart is.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            eks: set(&self.eks_url),
            sts: set(&self.sts_url),
            gke: set(&self.gke_url),
            ec2: set(&self.ec2_url),
            compute: set(&self.compute_url),
        }
    }

    /// Those of traffic providers, in the same way.
    pub fn ends(&self) -> Ends {
        let (cloudflare, route53) = (set(&self.cloudflare_url), set(&self.route53_url));
        Ends { cloudflare, route53, faster: self.ask_faster }
    }
}

fn set(url: &Option<String>) -> Option<String> {
    url.as_deref().map(|url| url.trim_end_matches('/')).filter(|url| !url.is_empty()).map(str::to_owned)
}
