//! What each fault of a cloud's end must be called, whichever cloud it is.

use std::time::Duration;

use super::CloudError;
use crate::runtime::remote::{DEADLINE, RemoteError};
use crate::sandbox::ends::server::Fault;

fn expected(fault: &Fault) -> RemoteError {
    match fault {
        Fault::Status(401, _) => RemoteError::Unauthorized,
        Fault::Status(403, _) => RemoteError::Forbidden,
        Fault::Status(404, _) => RemoteError::NotFound,
        Fault::Status(code @ 409, _) => RemoteError::Conflict(*code),
        Fault::Status(code, _) => RemoteError::Failing(*code),
        Fault::RetryAfter(_) => RemoteError::Busy { after: Some(Duration::from_secs(1)) },
        Fault::Silence => RemoteError::NoAnswer(DEADLINE),
        Fault::HalfAnswer | Fault::AnswerLost => RemoteError::Unreachable(String::new()),
    }
}

pub fn assert_is(fault: &Fault, error: CloudError) {
    let CloudError::Remote { error, .. } = error else { panic!("{fault:?}: {error}") };
    match expected(fault) {
        RemoteError::Unreachable(_) => {
            let unknown = matches!(error, RemoteError::Unreachable(_) | RemoteError::Unreadable(_));
            assert!(unknown && error.may_be_done(), "{fault:?}: {error:?}");
        }
        expected => assert_eq!(error, expected, "{fault:?}"),
    }
}
