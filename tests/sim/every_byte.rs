//! Typical exchanges, each broken once at every byte of each way.
//!
//! Decides: the exchanges and what may come of them. The checks are those of the ends and of the stage.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use corelane::config::plan::Plan;

use crate::backend::{Manner, Reply, Shape};
use crate::client::{Ending, Script, Seen};
use crate::model::{Ask, Load};
use crate::net::{Break, Door, How, Weather};
use crate::stage::{Stage, plan};
use crate::world::{MS, SECOND};

/// One backend, and deadlines that make a run short.
const PLAN: &str = r#"
backends = ["http://10.0.0.1:80"]
[timeouts]
client_header = "200ms"
client_body = "200ms"
client_write = "200ms"
keepalive = "200ms"
connect = "200ms"
first_byte = "200ms"
backend_idle = "200ms"
tunnel = "200ms"
[pool]
idle_timeout = "200ms"
"#;

/// Which way of which link breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    FromClient,
    ToClient,
    ToBackend,
    FromBackend,
}

struct Exchange {
    name: &'static str,
    asks: Vec<Ask>,
    reply: Reply,
    trickle: bool,
}

fn exchanges() -> Vec<Exchange> {
    let of = |name, asks, reply, trickle| Exchange {
        name,
        asks,
        reply,
        trickle,
    };
    let length = Reply::plain(Shape::Length, 40);
    let chunked = Reply::plain(Shape::Chunked, 40);
    let upgrade = Ask {
        upgrade: true,
        ..Ask::get()
    };
    let streamed = |load| vec![Ask::post(load), Ask::get()];
    vec![
        of(
            "GET, length",
            vec![Ask::get(), Ask::get()],
            length.clone(),
            false,
        ),
        of(
            "GET, chunked",
            vec![Ask::get(), Ask::get()],
            chunked.clone(),
            false,
        ),
        of("POST, length", streamed(Load::Length(50)), length, true),
        of(
            "POST, chunked",
            streamed(Load::Chunked(50)),
            chunked.clone(),
            true,
        ),
        of("upgrade", vec![upgrade], chunked, false),
    ]
}

fn run(plan: &Arc<Plan>, exchange: &Exchange, broken: Where, breaks: Break) -> Vec<Seen> {
    let stage = Stage::new(breaks.at, Weather::STILL, plan, 1, false);
    let first = Rc::new(Cell::new(true));
    let reply = exchange.reply.clone();
    let mut manner = Manner::plain(move |_| reply.clone());
    manner.breaks = Rc::new(move || match (first.replace(false), broken) {
        (true, Where::ToBackend) => [Some(breaks), None],
        (true, Where::FromBackend) => [None, Some(breaks)],
        (true, Where::FromClient | Where::ToClient) | (false, _) => [None, None],
    });
    stage.backend(0, || Door::Accept, manner);
    let mut script = Script::of(exchange.asks.clone());
    script.ending = Ending::Wait;
    script.trickle_ns = if exchange.trickle { MS } else { 0 };
    match broken {
        Where::FromClient => script.breaks = [Some(breaks), None],
        Where::ToClient => script.breaks = [None, Some(breaks)],
        Where::ToBackend | Where::FromBackend => {}
    }
    let seens = stage.client(script);
    stage.finish_within(2 * SECOND);
    seens.take()
}

/// Every way breaks at every byte, by an end where that is a thing to see, and by a reset. Past the last byte
/// nothing may be amiss.
fn break_everywhere(broken: Where, hows: &[How]) {
    let plan = plan(PLAN);
    for exchange in exchanges() {
        for how in hows {
            let mut at = 0;
            loop {
                let breaks = Break { at, how: *how };
                let seen = run(&plan, &exchange, broken, breaks);
                let answered = |seen: &Seen| matches!(seen, Seen::Answer(200 | 101));
                let all = seen.iter().filter(|one| answered(one)).count();
                if all == exchange.asks.len() && at > 600 {
                    break;
                }
                assert!(
                    at < 4000,
                    "{}: {broken:?} {breaks:?}: {seen:?}",
                    exchange.name
                );
                // A tunnel is long and the same everywhere.
                at += if at > 500 { 97 } else { 1 };
            }
        }
    }
}

#[test]
fn client_breaks_at_every_byte_of_its_request() {
    break_everywhere(Where::FromClient, &[How::Fin, How::Reset]);
}

#[test]
fn client_resets_at_every_byte_of_its_response() {
    break_everywhere(Where::ToClient, &[How::Reset]);
}

#[test]
fn backend_resets_at_every_byte_of_its_request() {
    break_everywhere(Where::ToBackend, &[How::Reset]);
}

#[test]
fn backend_breaks_at_every_byte_of_its_response() {
    break_everywhere(Where::FromBackend, &[How::Fin, How::Reset]);
}
