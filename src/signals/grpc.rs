//! What tells of gRPC calls. A call that fails mostly has the HTTP status 200: what became of it stands in a trailer,
//! so that counters of HTTP show nothing. Pure.

use crate::api::workload::Protocol;

/// Statuses that are the server's fault, by number and by name: those that OpenTelemetry counts as errors of a
/// server ([semantic conventions for gRPC](https://opentelemetry.io/docs/specs/semconv/rpc/grpc/)).
const FAULTS: [(&str, &str); 6] = [
    ("2", "UNKNOWN"),
    ("4", "DEADLINE_EXCEEDED"),
    ("12", "UNIMPLEMENTED"),
    ("13", "INTERNAL"),
    ("14", "UNAVAILABLE"),
    ("15", "DATA_LOSS"),
];
/// Statuses that are the caller's fault: those that stand for a 4xx of HTTP
/// ([google.rpc.Code](https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto)), but for CANCELLED, which
/// says that nobody waited.
const REFUSALS: [(&str, &str); 9] = [
    ("3", "INVALID_ARGUMENT"),
    ("5", "NOT_FOUND"),
    ("6", "ALREADY_EXISTS"),
    ("7", "PERMISSION_DENIED"),
    ("8", "RESOURCE_EXHAUSTED"),
    ("9", "FAILED_PRECONDITION"),
    ("10", "ABORTED"),
    ("11", "OUT_OF_RANGE"),
    ("16", "UNAUTHENTICATED"),
];
/// The service that probes ask ([health checking](https://github.com/grpc/grpc/blob/master/doc/health-checking.md)).
const HEALTH: &str = "grpc.health.v1.Health";

/// A histogram of the durations of calls that a server has answered, as exporters for Prometheus name it.
#[derive(Debug)]
pub struct Family {
    /// Its name, without `_count` and `_bucket`.
    pub name: &'static str,
    /// The label that holds the status.
    pub status: &'static str,
    /// The label that holds the service that was called, alone or with the method.
    pub called: &'static str,
    /// How many of its units are a second.
    pub to_a_second: f64,
}

/// The histograms that are known. Where a pod tells more than one, they speak of the same calls, and the first counts.
pub const FAMILIES: [Family; 3] = [
    // OpenTelemetry's `rpc.server.call.duration`, since version 1.39 of its conventions.
    Family {
        name: "rpc_server_call_duration_seconds",
        status: "rpc_response_status_code",
        called: "rpc_method",
        to_a_second: 1.0,
    },
    // gRPC's own `grpc.server.call.duration` (proposal A66).
    Family {
        name: "grpc_server_call_duration_seconds",
        status: "grpc_status",
        called: "grpc_method",
        to_a_second: 1.0,
    },
    // OpenTelemetry's `rpc.server.duration`, before.
    Family {
        name: "rpc_server_duration_milliseconds",
        status: "rpc_grpc_status_code",
        called: "rpc_service",
        to_a_second: 1000.0,
    },
];

/// What is spoken at the ports of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Speaks {
    /// HTTP.
    #[default]
    Http,
    /// gRPC and nothing else. Its calls are counted; where nothing counts those, its HTTP requests.
    Grpc,
    /// Both. Both are counted; pods that count a call as a request as well count it twice.
    Both,
}

impl Speaks {
    /// What is spoken where there are ports for these.
    pub fn of(protocols: impl IntoIterator<Item = Protocol>) -> Self {
        let (mut grpc, mut http) = (false, false);
        for protocol in protocols {
            grpc |= protocol == Protocol::GRPC;
            http |= matches!(protocol, Protocol::HTTP | Protocol::HTTP2);
        }
        match (grpc, http) {
            (false, _) => Speaks::Http,
            (true, false) => Speaks::Grpc,
            (true, true) => Speaks::Both,
        }
    }
}

/// Whether a status, by number or by name, is the server's fault.
pub fn is_failure(status: &str) -> bool {
    FAULTS.iter().any(|(number, name)| *number == status || *name == status)
}

/// Whether a status, by number or by name, is the caller's fault.
pub fn is_refusal(status: &str) -> bool {
    REFUSALS.iter().any(|(number, name)| *number == status || *name == status)
}

/// Whether a value of [`Family::called`] is that of probes.
pub fn is_probe(called: &str) -> bool {
    called.strip_prefix(HEALTH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The statuses that are the server's fault, as a regular expression of their numbers.
pub fn faults() -> String {
    FAULTS.map(|(number, _)| number).join("|")
}

/// Those that are the caller's fault.
pub fn refusals() -> String {
    REFUSALS.map(|(number, _)| number).join("|")
}

/// What `query` says of the first family that there is, as PromQL.
pub fn first_of(query: impl Fn(&Family) -> String) -> String {
    FAMILIES.each_ref().map(query).join(" or ")
}

impl Family {
    /// The selector of its calls but probes, of what `labels` select, as PromQL. `suffix` is `_count` or `_bucket`.
    pub fn calls(&self, suffix: &str, labels: &str) -> String {
        let probes = HEALTH.replace('.', "[.]");
        format!(r#"{}{suffix}{{{labels},{}!~"{probes}(/.*)?"}}"#, self.name, self.called)
    }

    /// The selector of those of them that failed.
    pub fn failures(&self, labels: &str) -> String {
        self.ended(labels, &FAULTS)
    }

    /// The selector of those of them that were refused.
    pub fn refused(&self, labels: &str) -> String {
        self.ended(labels, &REFUSALS)
    }

    fn ended(&self, labels: &str, how: &[(&str, &str)]) -> String {
        let statuses: Vec<String> = how.iter().map(|(number, name)| format!("{number}|{name}")).collect();
        self.calls("_count", &format!(r#"{labels},{}=~"{}""#, self.status, statuses.join("|")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_known_by_number_and_by_name() {
        for status in ["2", "14", "UNAVAILABLE", "DATA_LOSS"] {
            assert!(is_failure(status), "{status}");
        }
        for status in ["", "0", "OK", "5", "NOT_FOUND", "16", "UNAUTHENTICATED", "1", "4x"] {
            assert!(!is_failure(status), "{status}");
        }
        for status in ["5", "NOT_FOUND", "16"] {
            assert!(is_refusal(status), "{status}");
        }
        for status in ["", "0", "OK", "1", "CANCELLED", "14", "UNAVAILABLE"] {
            assert!(!is_refusal(status), "{status}");
        }
    }

    #[test]
    fn probes_are_known_with_and_without_the_method() {
        assert!(is_probe("grpc.health.v1.Health") && is_probe("grpc.health.v1.Health/Check"));
        assert!(
            !is_probe("grpc.health.v1.Healthy/Check") && !is_probe("pay.v1.Ledger/Post") && !is_probe("")
        );
    }

    #[test]
    fn what_is_spoken_is_what_the_ports_say() {
        let of = |protocols: &[Protocol]| Speaks::of(protocols.iter().copied());
        assert_eq!(of(&[]), Speaks::Http);
        assert_eq!(of(&[Protocol::HTTP, Protocol::TCP]), Speaks::Http);
        assert_eq!(of(&[Protocol::GRPC, Protocol::TCP]), Speaks::Grpc);
        assert_eq!(of(&[Protocol::GRPC, Protocol::HTTP2]), Speaks::Both);
    }
}
