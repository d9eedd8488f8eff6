//! What an API server says, in words for whoever typed a command.

use crate::runtime::fetch::innermost;

/// What went wrong, and what to look at.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "the API server does not accept the credentials of this kubeconfig; log in again, or name another one with --kubeconfig"
                .to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        error => format!(
            "the API server does not answer: {}; see whether the kubeconfig names the cluster that is meant: kubectl cluster-info",
            innermost(error)
        ),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::words;

    #[test]
    fn nobody_reads_what_a_program_is_made_of() {
        let unauthorized = Status::failure("Unauthorized", "Unauthorized").with_code(401).boxed();
        assert!(words(&kube::Error::Api(unauthorized)).contains("log in again"));
        let refused = Status::failure("spec.reason: reason must say why", "Invalid").with_code(422).boxed();
        assert_eq!(words(&kube::Error::Api(refused)), "spec.reason: reason must say why");
        let away = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let said = words(&kube::Error::Service(Box::new(away)));
        assert!(said.contains("does not answer: connection refused; see whether"), "{said}");
    }
}
