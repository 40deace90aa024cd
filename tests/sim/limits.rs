//! Limits of connections, of warm slots and of requests per connection.

use std::cell::Cell;
use std::rc::Rc;

use corelane::metrics::{Counter, Gauge};
use corelane::shard::WARM_MAX;

use crate::backend::{Manner, Reply, Shape};
use crate::client::{Ending, Script, Seen};
use crate::model::Ask;
use crate::net::{Door, Weather};
use crate::stage::{PLAN, Stage, plan};
use crate::world::{MS, SECOND};

fn stage(text: &str) -> Stage {
    let stage = Stage::new(3, Weather::STILL, &plan(text), 1, true);
    for number in 0..3 {
        let reply = |_: &Ask| Reply::plain(Shape::Length, 100);
        stage.backend(number, || Door::Accept, Manner::plain(reply));
    }
    stage
}

#[test]
fn connections_beyond_the_limit_are_not_taken() {
    let stage = stage(&PLAN.replace("[limits]", "[limits]\nconnections = 2"));
    let (first, second) = (stage.connect(0), stage.connect(0));
    assert!(first.is_some() && second.is_some());
    assert!(stage.connect(0).is_none());
    assert_eq!(stage.counter(Counter::ClientConnections), 2);
    drop(first);
    stage.run_for(SECOND);
    let third = stage.connect(0);
    assert!(third.is_some(), "the first has made room");
    assert!(stage.connect(0).is_none());
    drop((second, third));
    stage.finish();
}

/// More idle connections than warm slots: the others wait without a buffer, and are served as well.
#[test]
fn more_idle_connections_than_warm_slots() {
    let stage = stage(PLAN);
    let most = Rc::new(Cell::new(0));
    let (shard, world, seen_most) = (
        Rc::clone(&stage.shards[0]),
        stage.world.clone(),
        Rc::clone(&most),
    );
    stage.world.spawn(async move {
        while world.now() < 10 * SECOND {
            seen_most.set(seen_most.get().max(shard.warm.get()));
            world.sleep(MS).await;
        }
    });
    let mut script = Script::of(vec![Ask::get(), Ask::get()]);
    script.pause_ns = 900 * MS;
    script.ending = Ending::Wait;
    let clients = WARM_MAX as usize + 50;
    let seens: Vec<_> = (0..clients).map(|_| stage.client(script.clone())).collect();
    stage.run_for(200 * MS);
    assert_eq!(stage.gauge(Gauge::ClientConnections), clients as u64);
    stage.run_clients();
    assert_eq!(most.get(), WARM_MAX);
    for seen in &seens {
        assert_eq!(*seen.borrow(), [Seen::Answer(200); 2]);
    }
    stage.finish();
}

#[test]
fn a_connection_carries_so_many_requests() {
    for pipelined in [false, true] {
        let stage = stage(&PLAN.replace("[limits]", "[limits]\nconnection_requests = 4"));
        let mut script = Script::of(vec![Ask::get(); 6]);
        script.pipelined = pipelined;
        let seens = stage.client(script);
        stage.run_clients();
        assert_eq!(*seens.borrow(), [Seen::Answer(200); 4]);
        stage.finish();
    }
}
