//! Why we ended a request or a connection ourselves: one reason, one label, one status.
//!
//! Invariant: `index` numbers all reasons from 0 without a gap, and labels are unique.

use crate::h1::Reject;
use crate::policy::retry::Cause;

/// One line per reason: label, status of our answer, what it says of a backend.
macro_rules! reasons {
    ($($(#[$meta:meta])* $variant:ident $label:literal $status:literal $cause:expr;)+) => {
        /// Why a request did not simply pass through.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            /// The client's message was refused.
            Protocol(Reject),
            /// The backend's message was refused.
            BadResponse(Reject),
            $($(#[$meta])* $variant),+
        }

        /// `Reason` without what it carries: the indexes.
        #[derive(Clone, Copy)]
        enum Ours { BadResponse, $($variant),+ }

        impl Reason {
            /// What is not the client's syntax. All of `BadResponse` count as one: which rule the backend broke stands
            /// in the access log, where it names the backend too.
            const OURS: &'static [Reason] =
                &[Reason::BadResponse(Reject::BadStartLine), $(Reason::$variant),+];

            /// The reason as it stands in metrics and in the access log.
            pub fn label(self) -> &'static str {
                match self {
                    Reason::Protocol(reject) => reject.label(),
                    Reason::BadResponse(_) => "bad_response",
                    $(Reason::$variant => $label),+
                }
            }

            /// The status that the client gets, if its response has not begun. 499 is for the log only (nginx's habit).
            pub fn status(self) -> u16 {
                match self {
                    Reason::Protocol(reject) => reject.status(),
                    Reason::BadResponse(_) => 502,
                    $(Reason::$variant => $status),+
                }
            }

            /// What it says of the backend; `None` if it was not its doing.
            pub fn cause(self) -> Option<Cause> {
                match self {
                    Reason::Protocol(_) => None,
                    Reason::BadResponse(_) => Some(Cause::Invalid),
                    $(Reason::$variant => $cause),+
                }
            }

            /// Below `COUNT`.
            pub fn index(self) -> usize {
                let ours = match self {
                    Reason::Protocol(reject) => return reject as usize,
                    Reason::BadResponse(_) => Ours::BadResponse,
                    $(Reason::$variant => Ours::$variant),+
                };
                Reject::ALL.len() + ours as usize
            }
        }
    };
}

reasons! {
    /// No route for this host and path.
    NoRoute "no_route" 404 None;
    /// The route does not take this method.
    MethodNotAllowed "method_not_allowed" 405 None;
    /// The request's body is longer than the route allows.
    BodyTooLarge "body_too_large" 413 None;
    /// The request's body is longer than the route holds before it forwards.
    BufferFull "buffer_full" 413 None;
    /// The client's head did not arrive in time.
    HeaderTimeout "header_timeout" 408 None;
    /// The client's body stalled.
    BodyTimeout "body_timeout" 408 None;
    /// The backend refused the connection, or could not be reached.
    ConnectFailed "connect_failed" 502 Some(Cause::Connect);
    /// The backend did not take the connection in time.
    ConnectTimeout "connect_timeout" 504 Some(Cause::Connect);
    /// The backend closed or reset before its response was complete.
    BackendClosed "backend_closed" 502 Some(Cause::Closed);
    /// The backend did not begin its response in time.
    FirstByteTimeout "first_byte_timeout" 504 Some(Cause::Timeout);
    /// The backend stalled within its response, or did not take the request.
    BackendIdleTimeout "backend_idle_timeout" 504 Some(Cause::Timeout);
    /// The request as a whole took too long.
    RequestTimeout "request_timeout" 504 None;
    /// The cluster has no backend that may be used.
    NoBackend "no_backend" 503 None;
    /// The process has as many client connections as it may have.
    ConnectionsMax "connections_max" 503 None;
    /// The client's address has as many connections as it may have.
    ConnectionsPerIp "connections_per_ip" 429 None;
    /// The client's address has opened as many connections as it may in a second.
    AcceptsPerIp "accepts_per_ip" 429 None;
    /// The route has as many requests in flight as it may have.
    RequestsMax "requests_max" 503 None;
    /// The client has as many requests in flight as it may have.
    RequestsPerIp "requests_per_ip" 429 None;
    /// Every backend has its most connections, and so many requests wait already.
    QueueFull "queue_full" 503 None;
    /// No connection became free in time.
    QueueTimeout "queue_timeout" 503 None;
    /// The cluster has as many requests in flight as its latency shows that it carries, or the shard as many buffered
    /// bodies as it has memory for.
    Overload "overload" 503 None;
    /// The client's address may not ask.
    AddressDenied "address_denied" 403 None;
    /// Pages of this origin may not ask.
    OriginDenied "origin_denied" 403 None;
    /// More requests than the limit allows.
    RateLimited "rate_limited" 429 None;
    /// The limit's table has no room for another key.
    RateLimitFull "rate_limit_full" 429 None;
    /// What a limit counts by is too long.
    KeyTooLong "key_too_long" 400 None;
    /// The route wants to know who asks.
    CredentialsMissing "credentials_missing" 401 None;
    /// The credentials are malformed.
    CredentialsBad "credentials_bad" 401 None;
    /// No such user, password or key.
    CredentialsWrong "credentials_wrong" 401 None;
    /// The token is none, or not genuine.
    TokenBad "token_bad" 401 None;
    /// The token's time is over, or has not come.
    TokenExpired "token_expired" 401 None;
    /// The token is of another issuer, or for another audience.
    TokenClaims "token_claims" 403 None;
    /// Too many passwords wait to be verified.
    AccessBusy "access_busy" 503 None;
    /// The auth server has refused.
    AuthDenied "auth_denied" 403 None;
    /// The auth server gave no answer.
    AuthUnavailable "auth_unavailable" 503 None;
    /// The client wants a stored response, and there is none.
    OnlyIfCached "only_if_cached" 504 None;
    /// The client went away before its response was complete.
    ClientAbort "client_abort" 499 None;
    /// The client did not take its response.
    ClientWriteTimeout "client_write_timeout" 499 None;
    /// Our own fault.
    Internal "internal" 500 None;
    /// The backend switched to a protocol that the client did not ask for.
    UpgradeRefused "upgrade_refused" 502 Some(Cause::Invalid);
    /// Max-Forwards reached zero, so the answer is ours (RFC 9110 section 7.6.2).
    MaxForwards "max_forwards" 200 None;
    /// The process is shutting down.
    Draining "draining" 503 None;
}

impl Reason {
    /// Number of different values of `index`.
    pub const COUNT: usize = Reject::ALL.len() + Reason::OURS.len();

    /// One reason per index, in the order of the indexes.
    pub fn all() -> impl Iterator<Item = Reason> {
        let protocol = Reject::ALL.iter().map(|reject| Reason::Protocol(*reject));
        protocol.chain(Reason::OURS.iter().copied())
    }

    /// The finest name of what was wrong, for `error.type` in the access log.
    pub fn error_type(self) -> &'static str {
        if let Reason::BadResponse(reject) = self {
            reject.label()
        } else {
            self.label()
        }
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
