//! How each half ended → keep, close, linger.
//!
//! Decides: whether a connection may carry another message. May not know: sockets, pools, why a
//! half ended as it did. Invariant: a connection on which either side may still count bytes of the
//! old exchange is never used again.

/// How one exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The whole request was read from the client.
    pub request_read: bool,
    /// The whole request was written to the backend.
    pub request_sent: bool,
    /// The whole response was read from the backend and written to the client (or we answered
    /// ourselves).
    pub response_complete: bool,
    /// The client may send another request, and we did not announce `close`.
    pub client_keep_alive: bool,
    /// The backend's response lets its connection live on.
    pub backend_keep_alive: bool,
    /// Bytes followed the response on the backend's connection.
    pub backend_leftover: bool,
    /// The exchange became a tunnel.
    pub tunnel: bool,
    /// The process is stopping.
    pub draining: bool,
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read the next request.
    KeepAlive,
    /// Half-close, then read and discard for a while: closing at once with bytes unread resets the
    /// connection, and the client may lose the response (RFC 9112 section 9.6).
    Linger,
    Close,
}

impl Ended {
    pub fn client(&self) -> Next {
        // A response that broke off must look broken: closing is the only sign that we can give.
        if self.tunnel || !self.response_complete {
            Next::Close
        } else if !self.request_read {
            Next::Linger
        } else if self.client_keep_alive && !self.draining {
            Next::KeepAlive
        } else {
            Next::Close
        }
    }

    /// Whether the backend's connection may go to the pool. Draining does not matter: requests on
    /// other client connections still want backend connections until the end.
    pub fn backend(&self) -> bool {
        self.request_sent
            && self.response_complete
            && self.backend_keep_alive
            && !self.backend_leftover
            && !self.tunnel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 256 cases, against the rules written the other way round: as what forbids an outcome.
    #[test]
    fn the_whole_truth_table() {
        let mut seen = [0_u32; 4];
        for bits in 0..=u8::MAX {
            let bit = |n: u8| bits >> n & 1 == 1;
            let ended = Ended {
                request_read: bit(0),
                request_sent: bit(1),
                response_complete: bit(2),
                client_keep_alive: bit(3),
                backend_keep_alive: bit(4),
                backend_leftover: bit(5),
                tunnel: bit(6),
                draining: bit(7),
            };
            let expected = match (bit(6), bit(2), bit(0), bit(3), bit(7)) {
                (false, true, true, true, false) => Next::KeepAlive,
                (false, true, false, _, _) => Next::Linger,
                (true, _, _, _, _)
                | (false, false, _, _, _)
                | (false, true, true, false, _)
                | (false, true, true, true, true) => Next::Close,
            };
            assert_eq!(ended.client(), expected, "{ended:?}");
            let reusable = bits & 0b0111_0110 == 0b0001_0110;
            assert_eq!(ended.backend(), reusable, "{ended:?}");
            seen[expected as usize] += 1;
            seen[3] += u32::from(reusable);
        }
        assert_eq!(seen, [8, 32, 216, 8]);
    }
}
