//! Stored responses in a coding.
//!
//! Decides: nothing; what is worth a coding is the filter's to say. May not know: sockets. Invariant: a coded form is made
//! once, is stored beside what it was made of, and is not found when that is gone.

use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Entry, Kind, Parts};
use super::lead::STORED;
use crate::codec::Lent;
use crate::conn::Busy;
use crate::decide::Job;
use crate::h1::head::{Response, Slots, parse_response};
use crate::h1::{Framing, Method};
use crate::io::Io;
use crate::policy::Nanos;
use crate::policy::filter::compress::{Choice, Compress, Treatment};
use crate::shard::Shard;

/// Encoding so much holds up the shard for about a millisecond; then others have their turn.
const TURN_BYTES: usize = 64 * 1024;

/// The shortest that the runtime can wait.
const PAUSE_NS: Nanos = 1_000_000;

/// A stored response as it is, with the length of its body. `None`: it is none.
pub fn parse<'h, 'b>(
    head: &'b [u8],
    length: Option<u64>,
    slots: &'h mut Slots<'b>,
) -> Option<Response<'h, 'b>> {
    let parsed = parse_response(head, &STORED, Method::Get, slots);
    let Ok(Some(mut response)) = parsed else {
        debug_assert!(false, "what is stored was a head when it came");
        return None;
    };
    response.content_length = length;
    response.framing = match length {
        Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    Some(response)
}

/// What becomes of a stored response for a client that takes `choice`, if the filter would make a coded form of it.
fn treated(compress: &Compress, entry: &Entry, choice: Choice) -> Option<Treatment> {
    let mut slots = Slots::new();
    let response = parse(entry.head(), Some(entry.body.len() as u64), &mut slots)?;
    let treatment = compress.treat(&response, Method::Get, Some(choice));
    treatment.encodes().then_some(treatment)
}

/// An encoder for a response that is still arriving, if the filter would make a coded form of it.
pub fn lend<'s, I: Io>(
    shard: &'s Shard<I>,
    job: &Job,
    head: &[u8],
    length: Option<u64>,
) -> Option<Lent<'s>> {
    let compress = Compress::of(&shard.plan.routes[job.route?.0 as usize].filters)?;
    let choice = job.found.as_deref()?.coding;
    let mut slots = Slots::new();
    let response = parse(head, length, &mut slots)?;
    match compress.treat(&response, job.method, choice) {
        Treatment::Encodes { coding, level, .. } => shard.encoders.lend(coding, level, length),
        Treatment::None | Treatment::Varies | Treatment::Confirms => None,
    }
}

impl<I: Io> Busy<'_, I> {
    /// The entry in the coding that the client likes best. `None`: as it is.
    pub async fn coded(&self, job: &Job, entry: &Arc<Entry>) -> Option<Arc<Entry>> {
        let shard = self.shard;
        let route = &shard.plan.routes[job.route?.0 as usize];
        let compress = Compress::of(&route.filters)?;
        let choice = job.found.as_deref()?.coding?;
        let table = &shard.shared.cache.as_ref()?.table;
        // Of this very entry: one that replaces it has come at another time.
        let form = [choice.coding.name().as_bytes(), &[choice.level]].concat();
        let hash = table.hash_variant(entry.hash(), entry.terms().at, &form);
        if let Some(coded) = table.get(hash) {
            coded.touch();
            return Some(coded);
        }
        let treatment = treated(compress, entry, choice)?;
        let length = Some(entry.body.len() as u64);
        let lent = shard.encoders.lend(choice.coding, choice.level, length)?;
        let body = self.encode(lent, &entry.body).await;
        let head = coded_head(entry, treatment)?;
        let cost = Entry::cost_bytes(entry.key().len(), head.len(), body.len());
        let charge = table.reserve(cost)?;
        let parts = Parts {
            hash,
            key: entry.key(),
            head: &head,
            body: Bytes::from(body.into_boxed_slice()),
            kind: Kind::Response,
            status: entry.status,
            terms: entry.terms(),
        };
        Some(table.put(Entry::new(parts, charge)))
    }

    async fn encode(&self, mut lent: Lent<'_>, body: &[u8]) -> Vec<u8> {
        let encoder = lent.encoder();
        let mut coded = Vec::new();
        for (turn, piece) in body.chunks(TURN_BYTES).enumerate() {
            if turn > 0 {
                self.shard.io.sleep(PAUSE_NS).await;
            }
            encoder.push(piece, &mut coded);
        }
        encoder.finish(&mut coded);
        coded
    }
}

fn coded_head(entry: &Entry, treatment: Treatment) -> Option<Vec<u8>> {
    let mut slots = Slots::new();
    let response = parse(entry.head(), Some(entry.body.len() as u64), &mut slots)?;
    let mut head = Vec::with_capacity(entry.head().len() + 64);
    let end = entry.head().iter().position(|byte| *byte == b'\n')?;
    head.extend_from_slice(&entry.head()[..=end]);
    let dropped = treatment.drops();
    for field in response.headers {
        let is_dropped = dropped
            .iter()
            .any(|name| field.name.eq_ignore_ascii_case(name));
        if !is_dropped {
            head.extend_from_slice(field.name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(field.value);
            head.extend_from_slice(b"\r\n");
        }
    }
    treatment.lines(&response, &mut head);
    head.extend_from_slice(b"\r\n");
    Some(head)
}
