//! A network namespace for this program and all that it starts.
//!
//! Inside there is nothing but a loopback interface, and every address of [`PODS`] belongs to it. Nothing from
//! outside can be reached and nothing can be reached from outside, so whatever needs a registry is done before.
//! Files, processes and Unix sockets are shared with the outside as ever.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::tools::in_path;
use crate::sandbox::error::{Context, Error, Result};

/// The addresses of pods, all of them this machine's own inside the namespace.
pub const PODS: &str = "10.250.0.0/16";

/// Set inside, so that a program enters once.
const MARK: &str = "BANYAN_NETWORK_NAMESPACE";
/// Sets the namespace up and goes on as the program that its arguments name.
const SETUP: &str =
    "PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && ip route add local \"$0\" dev lo && exec \"$@\"";

/// Whether this process runs inside: it was started by [`enter`], and there is no interface but the loopback one.
pub fn inside() -> bool {
    let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    std::env::var_os(MARK).is_some() && only_loopback(&interfaces)
}

/// Whether a table like `/proc/net/dev`, two lines of head and a line for each interface, has but `lo`.
fn only_loopback(table: &str) -> bool {
    let mut names = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.next() == Some("lo") && names.next().is_none()
}

/// Whether requests may be sent there: the loopback addresses anywhere, those of pods inside alone.
pub fn harmless(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) if address.is_loopback() => true,
        IpAddr::V4(address) => is_pod(address) && inside(),
        IpAddr::V6(_) => false,
    }
}

/// Whether an address is one of [`PODS`].
pub fn is_pod(address: Ipv4Addr) -> bool {
    address.octets()[..2] == [10, 250]
}

/// Looks whether this machine lets us have a namespace.
///
/// # Errors
/// The reason why not, with what helps.
pub fn possible() -> Result<()> {
    if !cfg!(target_os = "linux") {
        return Err(Error::new("real traffic needs a network namespace, which only Linux has"));
    }
    for (program, package) in [("unshare", "util-linux"), ("ip", "iproute2")] {
        if in_path(program).is_none() {
            return Err(Error::new(format!(
                "real traffic needs the program `{program}`: install it (`apt-get install {package}`)"
            )));
        }
    }
    let output = unshare("true", &[])
        .stdin(Stdio::null())
        .output()
        .context(|| "making a network namespace with unshare")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "this machine does not let us have a network namespace, which real traffic needs: {}; become root, or allow \
         user namespaces (`sysctl kernel.unprivileged_userns_clone=1`; in a container, `--cap-add SYS_ADMIN`)",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// Starts this program anew inside a namespace, in the place of this process: it returns only where that fails.
/// Arguments, standard streams, working folder and process id stay the same; `env` is added to the environment.
///
/// # Errors
/// When this machine does not let us have one; the reason and what helps.
pub fn enter(env: &[(&str, String)]) -> Result<Infallible> {
    if inside() {
        return Err(Error::new("this program is inside its network namespace already"));
    }
    possible()?;
    let program = std::env::current_exe().context(|| "finding this program")?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut command = unshare(&program.display().to_string(), &args);
    command.env(MARK, "1").envs(env.iter().map(|(name, value)| (name, value)));
    let error = command.exec();
    Err(error).context(|| "entering a network namespace")
}

fn unshare(program: &str, args: &[String]) -> Command {
    let mut command = Command::new("unshare");
    // Root may have a namespace as it is; others become root of a user namespace of their own first.
    command.arg(if is_root() { "-n" } else { "-rn" });
    command.args(["--", "sh", "-c", SETUP, PODS, program]).args(args);
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // A process owns its own folder; asking the kernel outright would take unsafe code.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-|   Receive\n face |bytes\n";

    #[test]
    fn a_namespace_has_no_way_out() {
        assert!(only_loopback(&format!("{HEAD}    lo: 1 2 3\n")));
        assert!(!only_loopback(&format!("{HEAD}    lo: 1 2 3\n  eth0: 1 2 3\n")));
        assert!(!only_loopback(HEAD));
    }

    #[test]
    fn nothing_is_sent_to_others() {
        assert!(harmless([127, 3, 2, 1].into()));
        for address in ["10.251.0.1", "192.0.2.1", "::1"] {
            assert!(!harmless(address.parse().unwrap()), "{address}");
        }
        // Tests of the library run outside.
        assert!(!harmless([10, 250, 0, 1].into()));
        assert!(is_pod([10, 250, 200, 1].into()));
    }
}
