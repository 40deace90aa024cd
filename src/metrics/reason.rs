//! Why we ended a request or a connection ourselves: one reason, one label, one status.
//!
//! Invariant: `index` numbers all reasons from 0 without a gap, and labels are unique.

use crate::h1::Reject;
use crate::policy::retry::Cause;

/// Why a request did not simply pass through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The client's message was refused.
    Protocol(Reject),
    /// No route for this host and path.
    NoRoute,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The request's body is longer than the route allows.
    BodyTooLarge,
    /// The client's head did not arrive in time.
    HeaderTimeout,
    /// The client's body stalled.
    BodyTimeout,
    /// The backend refused the connection, or could not be reached.
    ConnectFailed,
    /// The backend did not take the connection in time.
    ConnectTimeout,
    /// The backend closed or reset before its response was complete.
    BackendClosed,
    /// The backend's message was refused.
    BadResponse(Reject),
    /// The backend did not begin its response in time.
    FirstByteTimeout,
    /// The backend stalled within its response, or did not take the request.
    BackendIdleTimeout,
    /// The request as a whole took too long.
    RequestTimeout,
    /// The cluster has no backend that may be used.
    NoBackend,
    /// The process has as many client connections as it may have.
    ConnectionsMax,
    /// The route has as many requests in flight as it may have.
    RequestsMax,
    /// Every backend has its most connections, and so many requests wait already.
    QueueFull,
    /// No connection became free in time.
    QueueTimeout,
    /// The cluster has as many requests in flight as its latency shows that it carries.
    Overload,
    /// The client went away before its response was complete.
    ClientAbort,
    /// The client did not take its response.
    ClientWriteTimeout,
    /// Our own fault.
    Internal,
    /// The backend switched to a protocol that the client did not ask for.
    UpgradeRefused,
    /// Max-Forwards reached zero, so the answer is ours (RFC 9110 section 7.6.2).
    MaxForwards,
    /// The process is shutting down.
    Draining,
}

impl Reason {
    /// Number of different values of `index`.
    pub const COUNT: usize = Reject::ALL.len() + Reason::OURS.len();

    /// What is not the client's syntax. All of `BadResponse` count as one: which rule the backend broke stands
    /// in the access log, where it names the backend too.
    const OURS: [Reason; 24] = [
        Reason::NoRoute,
        Reason::MethodNotAllowed,
        Reason::BodyTooLarge,
        Reason::HeaderTimeout,
        Reason::BodyTimeout,
        Reason::ConnectFailed,
        Reason::ConnectTimeout,
        Reason::BackendClosed,
        Reason::BadResponse(Reject::BadStartLine),
        Reason::FirstByteTimeout,
        Reason::BackendIdleTimeout,
        Reason::RequestTimeout,
        Reason::NoBackend,
        Reason::ConnectionsMax,
        Reason::RequestsMax,
        Reason::QueueFull,
        Reason::QueueTimeout,
        Reason::Overload,
        Reason::ClientAbort,
        Reason::ClientWriteTimeout,
        Reason::Internal,
        Reason::UpgradeRefused,
        Reason::MaxForwards,
        Reason::Draining,
    ];

    /// One reason per index, in the order of the indexes.
    pub fn all() -> impl Iterator<Item = Reason> {
        let protocol = Reject::ALL.iter().map(|reject| Reason::Protocol(*reject));
        protocol.chain(Reason::OURS)
    }

    /// The reason as it stands in metrics and in the access log.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Protocol(reject) => reject.label(),
            Reason::NoRoute => "no_route",
            Reason::MethodNotAllowed => "method_not_allowed",
            Reason::BodyTooLarge => "body_too_large",
            Reason::HeaderTimeout => "header_timeout",
            Reason::BodyTimeout => "body_timeout",
            Reason::ConnectFailed => "connect_failed",
            Reason::ConnectTimeout => "connect_timeout",
            Reason::BackendClosed => "backend_closed",
            Reason::BadResponse(_) => "bad_response",
            Reason::FirstByteTimeout => "first_byte_timeout",
            Reason::BackendIdleTimeout => "backend_idle_timeout",
            Reason::RequestTimeout => "request_timeout",
            Reason::NoBackend => "no_backend",
            Reason::ConnectionsMax => "connections_max",
            Reason::RequestsMax => "requests_max",
            Reason::QueueFull => "queue_full",
            Reason::QueueTimeout => "queue_timeout",
            Reason::Overload => "overload",
            Reason::ClientAbort => "client_abort",
            Reason::ClientWriteTimeout => "client_write_timeout",
            Reason::Internal => "internal",
            Reason::UpgradeRefused => "upgrade_refused",
            Reason::MaxForwards => "max_forwards",
            Reason::Draining => "draining",
        }
    }

    /// The finest name of what was wrong, for `error.type` in the access log.
    pub fn error_type(self) -> &'static str {
        match self {
            Reason::BadResponse(reject) => reject.label(),
            Reason::Protocol(_)
            | Reason::NoRoute
            | Reason::MethodNotAllowed
            | Reason::BodyTooLarge
            | Reason::HeaderTimeout
            | Reason::BodyTimeout
            | Reason::ConnectFailed
            | Reason::ConnectTimeout
            | Reason::BackendClosed
            | Reason::FirstByteTimeout
            | Reason::BackendIdleTimeout
            | Reason::RequestTimeout
            | Reason::NoBackend
            | Reason::ConnectionsMax
            | Reason::RequestsMax
            | Reason::QueueFull
            | Reason::QueueTimeout
            | Reason::Overload
            | Reason::ClientAbort
            | Reason::ClientWriteTimeout
            | Reason::Internal
            | Reason::UpgradeRefused
            | Reason::MaxForwards
            | Reason::Draining => self.label(),
        }
    }

    /// The status that the client gets, if its response has not begun. 499 is for the log only (nginx's habit).
    pub fn status(self) -> u16 {
        match self {
            Reason::Protocol(reject) => reject.status(),
            Reason::MaxForwards => 200,
            Reason::NoRoute => 404,
            Reason::MethodNotAllowed => 405,
            Reason::HeaderTimeout | Reason::BodyTimeout => 408,
            Reason::BodyTooLarge => 413,
            Reason::ClientAbort | Reason::ClientWriteTimeout => 499,
            Reason::Internal => 500,
            Reason::ConnectFailed
            | Reason::BackendClosed
            | Reason::BadResponse(_)
            | Reason::UpgradeRefused => 502,
            Reason::NoBackend
            | Reason::ConnectionsMax
            | Reason::RequestsMax
            | Reason::QueueFull
            | Reason::QueueTimeout
            | Reason::Overload
            | Reason::Draining => 503,
            Reason::ConnectTimeout
            | Reason::FirstByteTimeout
            | Reason::BackendIdleTimeout
            | Reason::RequestTimeout => 504,
        }
    }

    /// What it says of the backend; `None` if it was not its doing.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Reason::ConnectFailed | Reason::ConnectTimeout => Some(Cause::Connect),
            Reason::BackendClosed => Some(Cause::Closed),
            Reason::FirstByteTimeout | Reason::BackendIdleTimeout => Some(Cause::Timeout),
            Reason::BadResponse(_) | Reason::UpgradeRefused => Some(Cause::Invalid),
            Reason::Protocol(_)
            | Reason::NoRoute
            | Reason::MethodNotAllowed
            | Reason::BodyTooLarge
            | Reason::HeaderTimeout
            | Reason::BodyTimeout
            | Reason::RequestTimeout
            | Reason::NoBackend
            | Reason::ConnectionsMax
            | Reason::RequestsMax
            | Reason::QueueFull
            | Reason::QueueTimeout
            | Reason::Overload
            | Reason::ClientAbort
            | Reason::ClientWriteTimeout
            | Reason::Internal
            | Reason::MaxForwards
            | Reason::Draining => None,
        }
    }

    /// Below `COUNT`.
    pub fn index(self) -> usize {
        let ours = match self {
            Reason::Protocol(reject) => return reject as usize,
            Reason::NoRoute => 0,
            Reason::MethodNotAllowed => 1,
            Reason::BodyTooLarge => 2,
            Reason::HeaderTimeout => 3,
            Reason::BodyTimeout => 4,
            Reason::ConnectFailed => 5,
            Reason::ConnectTimeout => 6,
            Reason::BackendClosed => 7,
            Reason::BadResponse(_) => 8,
            Reason::FirstByteTimeout => 9,
            Reason::BackendIdleTimeout => 10,
            Reason::RequestTimeout => 11,
            Reason::NoBackend => 12,
            Reason::ConnectionsMax => 13,
            Reason::RequestsMax => 14,
            Reason::QueueFull => 15,
            Reason::QueueTimeout => 16,
            Reason::Overload => 17,
            Reason::ClientAbort => 18,
            Reason::ClientWriteTimeout => 19,
            Reason::Internal => 20,
            Reason::UpgradeRefused => 21,
            Reason::MaxForwards => 22,
            Reason::Draining => 23,
        };
        Reject::ALL.len() + ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_have_no_gap_and_follow_the_list() {
        let indexes: Vec<usize> = Reason::all().map(Reason::index).collect();
        assert_eq!(indexes, (0..Reason::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn labels_are_unique_and_plain() {
        let mut labels: Vec<&str> = Reason::all().map(Reason::label).collect();
        for label in &labels {
            assert!(
                label
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')),
                "{label}"
            );
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::COUNT);
    }

    #[test]
    fn a_bad_response_counts_as_one_and_names_its_rule() {
        for reject in Reject::ALL {
            let reason = Reason::BadResponse(*reject);
            assert_eq!((reason.label(), reason.status()), ("bad_response", 502));
            assert_eq!(reason.index(), Reason::BadResponse(Reject::BareLf).index());
            assert_eq!(reason.error_type(), reject.label());
        }
    }

    #[test]
    fn every_refusal_has_an_error_status() {
        for reason in Reason::all().filter(|reason| *reason != Reason::MaxForwards) {
            assert!((400..=599).contains(&reason.status()), "{reason:?}");
        }
    }
}
