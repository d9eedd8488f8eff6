//! Writes `docs/evidence.md`: what the sequential tests keep and cost, by simulation.
//!
//! `cargo run --release --example evidence` writes the whole; `-- --quick` prints it from few runs, for a first look;
//! `-- --seed N` takes another seed.

use std::process::ExitCode;

use banyan::evidence;

#[path = "simulation.rs"]
#[allow(dead_code, reason = "the document uses most of it, the library's tests the rest")]
mod simulation;

use simulation::{Size, everything};

fn main() -> ExitCode {
    let mut size = Size::FULL;
    let mut arguments = std::env::args().skip(1);
    let mut quick = false;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--seed" => match arguments.next().map(|seed| seed.parse()) {
                Some(Ok(seed)) => size.seed = seed,
                _ => {
                    eprintln!("--seed needs a whole number");
                    return ExitCode::from(2);
                }
            },
            other => {
                eprintln!("{other}: unknown; known are --quick and --seed N");
                return ExitCode::from(2);
            }
        }
    }
    if quick {
        size = Size { seed: size.seed, ..Size::QUICK };
    }
    eprintln!("seed {}", size.seed);
    let (text, missed) = everything(size);
    if quick {
        print!("{text}");
    } else if let Err(error) = std::fs::write("docs/evidence.md", &text) {
        eprintln!("docs/evidence.md: {error}; run this from the root of the repository");
        return ExitCode::FAILURE;
    }
    for target in &missed {
        eprintln!("missed: {target}");
    }
    ExitCode::SUCCESS
}
