//! A response that a backend has given to the cache.
//!
//! Decides: what becomes of the backend's connection. May not know: what may be stored. Invariant: the body is received by
//! a task of its own, unless all of it is there: no client holds it up.

use super::caching::Caching;
use super::fill::{Reader, Writer};
use super::filling::Filling;
use super::lead::Judged;
use super::serve::Fetched;
use crate::attempt::Request;
use crate::conn::Busy;
use crate::decide::Way;
use crate::h1::body::Decoder;
use crate::h1::reuse::Next;
use crate::io::Io;
use crate::link::Link;
use crate::metrics::Reason;
use crate::receive::Kept;

/// The response goes into the cache, and from there to the client.
pub async fn stored<I: Io>(
    conn: &mut Busy<'_, I>,
    request: &Request<'_>,
    way: Way,
    link: Link<I::Stream>,
    kept: Kept,
) -> Next {
    let (shard, job) = (conn.shard, request.job);
    let fetched = match kept.judged {
        Judged::Stored => {
            let lead = job.cache.as_deref().and_then(Caching::hand_over);
            let led = lead.and_then(|lead| Some((lead.fill()?, lead)));
            let (fill, lead) = led.expect("what is stored has begun, by its leader");
            let reader = Reader::new(&fill);
            let paid = lead.cache().table.reserve(0);
            Filling {
                writer: Writer::new(&fill, shard.number),
                fill,
                lead,
                connection: link.connection,
                backend: way.backend,
                keep_alive: kept.backend_keep_alive,
                inbound: kept.inbound,
                decoder: Decoder::new(kept.framing),
                object_bytes_max: request
                    .route
                    .cache
                    .as_ref()
                    .map_or(0, |rules| rules.object_bytes_max),
                idle_ns: request.timeouts.backend_idle_ns,
                parts: paid.map(|paid| (Vec::new(), paid)),
                bytes: 0,
                deserted: shard.timers.now(),
            }
            .start(shard);
            Fetched::Arrives(reader.expect("nothing has come before"))
        }
        Judged::Holds(entry) => {
            if kept.backend_keep_alive && kept.inbound.is_empty() {
                shard.keep(way.backend, link.connection);
            }
            shard.give(kept.inbound);
            Fetched::Holds(entry)
        }
        // The rest of the error is not read.
        Judged::StandsIn | Judged::Passes(_) => Fetched::Failed(Reason::BackendClosed),
    };
    conn.fetched(job, fetched, request.record).await
}
