//! The `banyan` command: see `banyan --help`.

use std::process::ExitCode;

use banyan::cli::{self, Cli};
use clap::Parser;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Threads for asynchronous work. An operator waits more than it computes: on a node with many cores, a thread
/// for each would cost memory and gain nothing.
const MOST_THREADS: usize = 4;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One provider for every TLS connection of the process. It can only be installed already by a library that
    // ran before us, and none does.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return failed("another TLS provider is installed in this process; this is a bug, please report it");
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    match runtime {
        Ok(runtime) => match runtime.block_on(cli::main(cli)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                failed(&error);
                ExitCode::from(cli::exit_code(&*error))
            }
        },
        Err(error) => {
            failed(format_args!("cannot start {threads} threads: {error}; raise the process limit"))
        }
    }
}

fn failed(why: impl std::fmt::Display) -> ExitCode {
    eprintln!("banyan: {why}");
    ExitCode::FAILURE
}
