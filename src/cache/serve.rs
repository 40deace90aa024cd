//! Responses out of the cache.
//!
//! Decides: which head goes before which part of a body. May not know: who fetches. Invariant: head and body are of one
//! response.

use std::pin::pin;
use std::sync::Arc;

use super::coded;
use super::consult::{Serving, Source};
use super::deliver::{Delivery, Stopped};
use super::entry::Entry;
use super::fill::{Ended, Fill, Reader};
use super::note::{Did, Forwarded, Note};
use super::refresh;
use super::render::{self, Changes, Client, Stored, Want};
use super::watch::changed;
use crate::buf::Buf;
use crate::config::plan::{Nanos, Route};
use crate::conn::Busy;
use crate::decide::Job;
use crate::edits::ToClient;
use crate::h1::head::{Request, Slots, parse_request};
use crate::h1::reuse::Next;
use crate::h1::{Framing, Method, Version};
use crate::io::{Io, Stream};
use crate::metrics::Reason;
use crate::policy::cache::Terms;
use crate::policy::filter::compress::Compress;
use crate::record::{End, Record};
use crate::relay::{Cut, Patience, WATCH_NS};
use crate::throttle::Throttle;
use crate::timer::Elapsed;
use crate::wait::{Race, closed, race};

/// What a fetch came to.
pub enum Fetched {
    /// The response, while it comes.
    Arrives(Reader),
    /// What was stored still holds.
    Holds(Arc<Entry>),
    /// No response, or an error that what is stored may stand in for.
    Failed(Reason),
}

/// How a wait for a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    Changed,
    ClientGone,
    Late,
}

impl Source {
    /// Head, status and times of the response, and the length of its body if it is known. `None`: it has not begun.
    fn view(&self) -> Option<(&[u8], u16, Terms, Option<u64>)> {
        match self {
            Source::Entry(entry) => {
                let length = Some(entry.body.len() as u64);
                Some((entry.head(), entry.status, entry.terms(), length))
            }
            Source::Fill(reader) => {
                let begun = reader.fill.begun()?;
                Some((&begun.head, begun.status, begun.terms, begun.length))
            }
        }
    }

    /// What the request wants of it.
    pub fn wanted(&self, request: &Request<'_, '_>) -> Want {
        self.view()
            .map_or(Want::Whole, |(head, status, _, length)| {
                render::wanted(request, status, head, length)
            })
    }
}

impl<I: Io> Busy<'_, I> {
    /// Answers the request that fetched.
    pub async fn fetched(&mut self, job: &Job, fetched: Fetched, record: &Record) -> Next {
        let caching = job.cache.as_deref();
        let forwarded = caching.map_or(Forwarded::Bypass, |caching| caching.forwarded);
        let mut note = Note::of(Did::Forwarded(forwarded));
        let (from, note) = match fetched {
            Fetched::Arrives(reader) => match reader.fill.ended().cloned() {
                // The client has seen nothing of it.
                Some(Ended::Cut(reason)) => return self.refuse(reason, Some(job), record).await,
                Some(Ended::Whole(entry)) => {
                    note.stored = true;
                    (Source::Entry(entry), note)
                }
                ended => {
                    let length = reader.fill.begun().and_then(|begun| begun.length);
                    note.stored = ended.is_none() && length.is_some();
                    (Source::Fill(reader), note)
                }
            },
            Fetched::Holds(entry) => {
                note.did = Did::Revalidated(forwarded);
                (Source::Entry(entry), note)
            }
            Fetched::Failed(reason) => {
                let now = self.shard.timers.now();
                match caching.and_then(|caching| caching.stands_in(now)) {
                    Some((entry, note)) => (Source::Entry(entry), note),
                    None => return self.refuse(reason, Some(job), record).await,
                }
            }
        };
        let mut slots = Slots::new();
        let parsed = parse_request(self.input.pending(), &self.shard.plan.limits, &mut slots);
        let want = match parsed {
            Ok(Some(request)) => from.wanted(&request),
            Ok(None) | Err(_) => Want::Whole,
        };
        let serving = Serving {
            from,
            want,
            note,
            refresh: None,
        };
        self.serve(job, serving, record).await
    }

    /// Sends what the cache has, or what is being fetched while it comes.
    pub async fn serve(&mut self, job: &Job, mut serving: Serving, record: &Record) -> Next {
        let shard = self.shard;
        if let Some(refresh) = serving.refresh.take() {
            refresh::start(self, job, *refresh);
        }
        let (result, counter) = serving.note.result();
        shard.metrics.add(counter, 1);
        record.cache.set(result);
        if let (Source::Entry(entry), Want::Whole, Some(_)) =
            (&serving.from, serving.want, &job.found)
        {
            // Boxed: few clients have to wait for it.
            if let Some(coded) = Box::pin(self.coded(job, entry)).await {
                serving.from = Source::Entry(coded);
            }
        }
        let lent = match (&serving.from, serving.want, job.method) {
            (Source::Fill(reader), Want::Whole, Method::Get) => reader
                .fill
                .begun()
                .and_then(|begun| coded::lend(shard, job, &begun.head, begun.length)),
            (_, _, _) => None,
        };
        let mut out = shard.buf();
        let route = job.route.map(|id| &shard.plan.routes[id.0 as usize]);
        let headed = route.and_then(|route| {
            Some((
                route,
                self.head(job, route, &serving, lent.is_some(), &mut out)?,
            ))
        });
        let Some((route, (status, framing, keep))) = headed else {
            debug_assert!(false, "what is served has a head and a route");
            shard.give(out);
            return self.refuse(Reason::Internal, Some(job), record).await;
        };
        match serving.note.did {
            Did::Hit => record.answered(status),
            Did::Forwarded(_) | Did::Revalidated(_) => record.status.set(status),
        }
        let wanted = match serving.want {
            Want::NotModified | Want::Unsatisfiable => 0..0,
            Want::Whole | Want::Part { .. } if job.method == Method::Head => 0..0,
            Want::Whole => 0..u64::MAX,
            Want::Part { from, to } => from..to,
        };
        let mut delivery = Delivery {
            conn: &*self,
            record,
            patience: Patience {
                read_ns: 0,
                write_ns: route.timeouts.client_write_ns,
                until: shard.timers.after(route.timeouts.request_ns),
            },
            throttle: Throttle::new(route.response_rate_max),
            lent,
            out,
        };
        let sent = match serving.from {
            Source::Entry(entry) => pin!(delivery.whole(&entry.body, wanted)).await,
            // Boxed: rare.
            Source::Fill(reader) => Box::pin(delivery.arriving(reader, framing, wanted)).await,
        };
        let out = std::mem::take(&mut delivery.out);
        drop(delivery);
        shard.give(out);
        match sent {
            Ok(()) => {
                self.input.consume(job.whole_len());
                if keep { Next::KeepAlive } else { Next::Linger }
            }
            Err(stopped) => self.stopped(job, record, stopped),
        }
    }

    /// Appends the head; says its status, how the body is framed, and whether the connection lives on.
    fn head(
        &self,
        job: &Job,
        route: &Route,
        serving: &Serving,
        encodes: bool,
        out: &mut Buf,
    ) -> Option<(u16, Framing, bool)> {
        let shard = self.shard;
        let rules = route.cache.as_ref()?;
        let (head, status, terms, length) = serving.from.view()?;
        let age_s = terms.age_s(shard.timers.now());
        let stored = Stored {
            head,
            status,
            length,
            age_s,
            ttl_s: i64::from(terms.lifetime_s) - i64::from(age_s),
            is_aged: serving.note.did == Did::Hit || age_s > 0,
        };
        let framing = match (length, job.version) {
            _ if job.method == Method::Head => Framing::None,
            _ if encodes => Framing::Chunked,
            (Some(0), _) => Framing::None,
            (Some(length), _) => Framing::Length(length),
            (None, Version::Http11) => Framing::Chunked,
            (None, Version::Http10) => Framing::UntilClose,
        };
        let stays = !shard.is_draining() && framing != Framing::UntilClose;
        let keep = stays && job.keep_alive && job.held.is_some();
        let changes = job.found.as_deref().map(|found| Changes {
            edits: ToClient::of(&shard.plan, job, ""),
            compress: Compress::of(&route.filters),
            choice: found.coding,
            encodes,
        });
        let via = &*shard.plan.forwarding.via;
        let client = Client {
            version: job.version,
            keep_alive: keep,
            want: serving.want,
            note: serving.note,
            status_name: rules.status_field.then_some(via),
            via,
            changes,
            framing,
        };
        let status = render::head(out.append(), &stored, &client);
        Some((status, framing, keep))
    }

    fn stopped(&self, job: &Job, record: &Record, stopped: Stopped) -> Next {
        match stopped {
            Stopped::Client(Cut::ToStalled) => {
                record.end.set(End::ClientStalled);
                record.reason.set(Some(Reason::ClientWriteTimeout));
            }
            Stopped::Client(Cut::To | Cut::From | Cut::FromStalled | Cut::Unable) => {
                record.client_gone();
            }
            Stopped::Backend(reason) => {
                record.end.set(End::BackendCut);
                record.reason.set(Some(reason));
            }
        }
        // To HTTP/1.0 a body ends with the connection: only a reset says that it was cut.
        if job.version == Version::Http10 {
            self.client.reset_on_close();
            return Next::Close;
        }
        Next::Linger
    }

    /// Waits until the fill has changed since `version`. A client that goes away is noticed after some silence.
    pub async fn watch(&self, fill: &Arc<Fill>, version: u32, until: Nanos) -> Waited {
        let timers = &self.shard.timers;
        let mut change = pin!(changed(self.shard, fill, version));
        let quiet = timers.after(WATCH_NS).min(until);
        match self.timer.at(quiet, change.as_mut()).await {
            Ok(()) => return Waited::Changed,
            Err(Elapsed) if quiet == until => return Waited::Late,
            Err(Elapsed) => {}
        }
        let either = Box::pin(race(change, closed(self.client)));
        match self.timer.at(until, either).await {
            Ok(Race::First(())) => Waited::Changed,
            Ok(Race::Second(())) => Waited::ClientGone,
            Err(Elapsed) => Waited::Late,
        }
    }
}
