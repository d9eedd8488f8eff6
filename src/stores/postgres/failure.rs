//! What an error of PostgreSQL means.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::sql;
use crate::runtime::remote::RemoteError;
use crate::stores::StoreError;

/// What an error means. No text of ours that could hold a secret is part of it: the server's words quote no password.
pub(super) fn of(error: &Error) -> StoreError {
    if let Some(answer) = error.as_db_error() {
        return of_answer(answer);
    }
    if error.is_closed() {
        return RemoteError::Unreachable("the connection was closed".to_owned()).into();
    }
    match error.source() {
        Some(source) => RemoteError::of_connection(source).into(),
        // What has no cause is the driver's own: it could not speak with what answers there.
        None => RemoteError::Unreachable(error.to_string()).into(),
    }
}

fn of_answer(answer: &DbError) -> StoreError {
    let code = answer.code();
    let detail = answer.detail().and_then(|detail| detail.parse().ok());
    match code.code() {
        sql::GREATER | sql::WITHDRAWN => {
            return StoreError::Refused { asked: 0, known: detail.unwrap_or_default() };
        }
        sql::OPENED => {
            return StoreError::OpenedSince { asked: 0, follows: 0, opened: detail.unwrap_or_default() };
        }
        sql::STANDBY => return StoreError::IsStandby,
        sql::OTHER_ROW => return StoreError::OtherRow { expected: None, found: detail },
        _ => {}
    }
    let remote =
        if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
            RemoteError::Unauthorized
        } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            RemoteError::Forbidden
        } else if *code == SqlState::INVALID_CATALOG_NAME {
            RemoteError::NotFound
        } else if *code == SqlState::TOO_MANY_CONNECTIONS {
            RemoteError::Busy { after: None }
        } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            return StoreError::IsStandby;
        } else if *code == SqlState::CANNOT_CONNECT_NOW {
            return StoreError::Starting;
        } else if *code == SqlState::LOCK_NOT_AVAILABLE
            || *code == SqlState::T_R_DEADLOCK_DETECTED
            || *code == SqlState::UNIQUE_VIOLATION
            || *code == SqlState::T_R_SERIALIZATION_FAILURE
        {
            // Two that make the tables at once meet on a unique index of the catalogue.
            return StoreError::Locked;
        } else if *code == SqlState::ADMIN_SHUTDOWN || *code == SqlState::CRASH_SHUTDOWN {
            RemoteError::Unreachable("the session was ended by the server".to_owned())
        } else if *code == SqlState::QUERY_CANCELED {
            RemoteError::Unreachable("the server took too long and gave up".to_owned())
        } else {
            let words: String = answer.message().chars().take(200).collect();
            RemoteError::Unreachable(format!("the server says {}: {words}", code.code()))
        };
    remote.into()
}

/// The same error with the numbers that the caller knows.
pub(super) fn asked(error: StoreError, ballot: i64, claim_follows: i64) -> StoreError {
    match error {
        StoreError::Refused { known, .. } => StoreError::Refused { asked: ballot, known },
        StoreError::OpenedSince { opened, .. } => {
            StoreError::OpenedSince { asked: ballot, follows: claim_follows, opened }
        }
        other => other,
    }
}
