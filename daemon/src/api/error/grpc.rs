//! Errors as statuses of gRPC.
//!
//! | HTTP | gRPC |
//! |---|---|
//! | 400 | INVALID_ARGUMENT, ALREADY_EXISTS |
//! | 401, 403 | UNAUTHENTICATED, PERMISSION_DENIED |
//! | 404 | NOT_FOUND, UNIMPLEMENTED for an unknown call |
//! | 405, 415, 501 | UNIMPLEMENTED |
//! | 408, 504 | DEADLINE_EXCEEDED |
//! | 409 | ABORTED |
//! | 413, 429 | RESOURCE_EXHAUSTED |
//! | 503 | UNAVAILABLE |
//! | 500 | INTERNAL |

use hyper::StatusCode;
use tonic::{Code, Status};

use super::ApiError;

/// A status travels as a header, written in percent, and clients take some thousand bytes of headers.
const MOST_MESSAGE: usize = 1200;

impl ApiError {
    /// The status, with `retry-after` where the call may succeed later.
    pub(crate) fn grpc(&self) -> Status {
        let mut end = self.message.len().min(MOST_MESSAGE);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        let message = self.message.get(..end).unwrap_or_default();
        let mut status = Status::new(self.grpc_code(), message);
        if let Some(seconds) = self.retry_after {
            status.metadata_mut().insert("retry-after", seconds.into());
        }
        status
    }

    fn grpc_code(&self) -> Code {
        match self.status {
            StatusCode::BAD_REQUEST if self.error_code == "RESOURCE_ALREADY_EXISTS" => {
                Code::AlreadyExists
            }
            StatusCode::BAD_REQUEST => Code::InvalidArgument,
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND if self.error_code != "ENDPOINT_NOT_FOUND" => Code::NotFound,
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
            StatusCode::CONFLICT => Code::Aborted,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => {
                Code::ResourceExhausted
            }
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            _ => Code::Internal,
        }
    }
}
