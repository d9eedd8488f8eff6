//! `banyan sandbox`: two clouds on one machine.

use std::error::Error;

use crate::sandbox::flow;
use crate::sandbox::payload::Payload;

pub use crate::sandbox::flow::SandboxArgs as SandboxOptions;

/// Runs the sandbox.
///
/// # Errors
/// Whatever stands in the way, as one sentence with the remedy.
pub async fn main(options: SandboxOptions) -> Result<(), Box<dyn Error + Send + Sync>> {
    Ok(flow::run(options, Payload::embedded()?).await?)
}
