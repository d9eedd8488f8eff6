//! What a Pod is given as its own identity stands in variables of its process. Nobody may set those of a process with
//! threads, so a test of it runs once more as a process of its own.

use std::path::Path;

/// Tells the test that it is the one inside.
const INSIDE: &str = "BANYAN_TEST_INSIDE_POD";
/// What a line begins with that the one inside says to the one outside.
const SAYS: &str = "inside: ";

/// Whether this process is the Pod.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A variable of the Pod.
pub fn variable(name: &str) -> String {
    std::env::var(name).expect("the Pod has it")
}

/// Says something to the one outside.
pub fn say(words: &str) {
    println!("\n{SAYS}{words}");
}

/// Runs the test of that path as a Pod with these variables, and no other that a cloud's library reads. Answers what it
/// said.
pub async fn in_pod(test: &str, home: &Path, variables: &[(&str, &str)]) -> Vec<String> {
    let mut command = tokio::process::Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "yes").env("HOME", home);
    let of_clouds =
        |name: &String| ["AWS_", "GCE_", "GOOGLE_", "AZURE_"].iter().any(|begin| name.starts_with(begin));
    for (name, _) in std::env::vars().filter(|(name, _)| of_clouds(name)) {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).kill_on_drop(true).output().await.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said: Vec<String> =
        text.lines().filter_map(|line| Some(line.strip_prefix(SAYS)?.to_owned())).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.is_empty(), "{test}: {text}{errors}");
    said
}
