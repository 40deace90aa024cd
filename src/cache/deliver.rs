//! The body of a response on its way from the cache to a client.
//!
//! Decides: in which pieces it goes. May not know: heads, who fetches. Invariant: a body that was cut never looks complete.

use std::ops::Range;

use bytes::{Buf as _, Bytes};

use super::fill::{Ended, Reader};
use super::serve::Waited;
use crate::buf::Buf;
use crate::codec::Lent;
use crate::conn::Busy;
use crate::h1::Framing;
use crate::h1::body::{LAST_CHUNK, write_chunk_head};
use crate::io::{Io, Stream};
use crate::metrics::Reason;
use crate::record::Record;
use crate::relay::{self, Cut, Patience};
use crate::throttle::Throttle;
use crate::wait::closed;

/// Bodies up to this length go out with their head, copied behind it: one operation, and cheaper than two.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// With a rate to keep, a body goes out in pieces of this length.
const PIECE_BYTES: usize = 16 * 1024;

/// Why the client did not get all.
pub enum Stopped {
    Client(Cut),
    Backend(Reason),
}

/// One response on its way to one client.
pub struct Delivery<'c, 'b, I: Io> {
    pub conn: &'c Busy<'b, I>,
    pub record: &'c Record,
    pub patience: Patience,
    pub throttle: Throttle,
    /// For a body that arrives.
    pub lent: Option<Lent<'c>>,
    /// What is to be sent next.
    pub out: Buf,
}

impl<I: Io> Delivery<'_, '_, I> {
    /// Sends the head and a part of a body that is there.
    pub async fn whole(&mut self, body: &Bytes, wanted: Range<u64>) -> Result<(), Stopped> {
        let length = body.len() as u64;
        let range = wanted.start.min(length) as usize..wanted.end.min(length) as usize;
        self.record.body(range.len() as u64);
        if range.len() <= COPIED_BYTES_MAX && !self.throttle.is_on() {
            self.out.append().extend_from_slice(&body[range]);
            return self.flush().await;
        }
        let pushed = self.conn.client.push([self.out.pending(), &[]], true);
        self.record.sent(pushed as u64);
        self.out.consume(pushed);
        if !self.out.is_empty() {
            self.flush().await?;
        }
        // Boxed: long bodies only.
        Box::pin(self.shared(body.slice(range))).await
    }

    /// Sends bytes that others read too.
    async fn shared(&mut self, mut body: Bytes) -> Result<(), Stopped> {
        while !body.is_empty() {
            let mut piece = match self.throttle.is_on() {
                true => {
                    self.paced().await?;
                    body.split_to(body.len().min(PIECE_BYTES))
                }
                false => std::mem::take(&mut body),
            };
            self.throttle.count(piece.len() as u64);
            while !piece.is_empty() {
                let deadline = self.patience.write(&self.conn.shard.timers);
                let writing = self.conn.client.write_shared(piece);
                let Ok((written, back)) = self.conn.timer.at(deadline, writing).await else {
                    return Err(Stopped::Client(Cut::ToStalled));
                };
                piece = back;
                match written {
                    Ok(0) | Err(_) => return Err(Stopped::Client(Cut::To)),
                    Ok(n) => {
                        self.record.sent(n as u64);
                        piece.advance(n);
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits as the route's rate wants it.
    async fn paced(&self) -> Result<(), Stopped> {
        let (conn, until) = (self.conn, self.patience.until);
        match self
            .throttle
            .wait(conn.shard, until, closed(conn.client))
            .await
        {
            true => Ok(()),
            false => Err(Stopped::Client(Cut::To)),
        }
    }

    /// Sends what is in `out`.
    async fn flush(&mut self) -> Result<(), Stopped> {
        let conn = self.conn;
        let (bytes, out) = (self.out.len(), std::mem::take(&mut self.out));
        let timers = &conn.shard.timers;
        let sending = relay::send(conn.client, out, bytes, conn.timer, timers, &self.patience);
        let (sent, out) = sending.await;
        self.out = out;
        sent.map_err(Stopped::Client)?;
        self.record.sent(bytes as u64);
        Ok(())
    }

    /// Sends a body while it comes.
    pub async fn arriving(
        &mut self,
        mut reader: Reader,
        framing: Framing,
        wanted: Range<u64>,
    ) -> Result<(), Stopped> {
        let mut at = 0;
        loop {
            // In this order: what came before the change, and before the end, is seen.
            let version = reader.fill.version();
            let is_over = at >= wanted.end;
            let ended = reader.fill.ended().cloned();
            while let Some(piece) = (!is_over).then(|| reader.piece()).flatten() {
                let length = piece.len() as u64;
                let clip = |place: u64| place.clamp(at, at + length) - at;
                let part = clip(wanted.start) as usize..clip(wanted.end) as usize;
                at += length;
                self.piece(piece.slice(part), framing).await?;
            }
            if reader.is_behind() {
                return Err(Stopped::Client(Cut::ToStalled));
            }
            match ended {
                _ if at >= wanted.end => return self.flush().await,
                None => {}
                Some(Ended::Whole(_) | Ended::Unstored) => {
                    if let Some(mut lent) = self.lent.take() {
                        let mut coded = Vec::new();
                        lent.encoder().finish(&mut coded);
                        self.append(&coded, framing);
                    }
                    if framing == Framing::Chunked {
                        self.out.append().extend_from_slice(LAST_CHUNK);
                    }
                    return self.flush().await;
                }
                Some(Ended::Cut(reason)) => {
                    self.flush().await?;
                    return Err(Stopped::Backend(reason));
                }
                Some(Ended::Failed(_) | Ended::Passed | Ended::Erred | Ended::Released) => {
                    return Err(Stopped::Backend(Reason::BackendClosed));
                }
            }
            self.release(framing);
            self.flush().await?;
            match self
                .conn
                .watch(&reader.fill, version, self.patience.until)
                .await
            {
                Waited::Changed => {}
                Waited::ClientGone => return Err(Stopped::Client(Cut::To)),
                Waited::Late => return Err(Stopped::Backend(Reason::RequestTimeout)),
            }
        }
    }

    /// Sends a piece, at the latest with the next.
    async fn piece(&mut self, piece: Bytes, framing: Framing) -> Result<(), Stopped> {
        if piece.is_empty() {
            return Ok(());
        }
        if self.throttle.is_on() {
            self.paced().await?;
            self.throttle.count(piece.len() as u64);
        }
        match &mut self.lent {
            None => self.append(&piece, framing),
            Some(lent) => {
                let mut coded = Vec::new();
                lent.encoder().push(&piece, &mut coded);
                self.append(&coded, framing);
            }
        }
        match self.out.len() < COPIED_BYTES_MAX {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    /// Nothing more has come, so that the client gets what the encoder holds: the next piece may be long in coming.
    fn release(&mut self, framing: Framing) {
        let Some(lent) = &mut self.lent else {
            return;
        };
        if lent.encoder().holds() {
            let mut coded = Vec::new();
            lent.encoder().flush(&mut coded);
            self.append(&coded, framing);
        }
    }

    /// Puts a part of the body behind what is to be sent.
    fn append(&mut self, part: &[u8], framing: Framing) {
        if part.is_empty() {
            return;
        }
        self.record.body(part.len() as u64);
        let out = self.out.append();
        if framing == Framing::Chunked {
            write_chunk_head(out, part.len());
        }
        out.extend_from_slice(part);
        if framing == Framing::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }
}
