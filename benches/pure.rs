//! What the deciding modules cost, without a kernel: one group for each step of a request.
//!
//! `cargo bench` measures all of it in about a minute; `cargo bench -- head` one group. scripts/bench measures the
//! whole proxy.

#[path = "../tests/support/heads.rs"]
mod heads;
#[path = "../tests/support/policies.rs"]
mod policies;

use std::cell::LazyCell;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use bytes::Bytes;
use corelane::cache::entry::{Entry, Kind, Parts};
use corelane::cache::table::Table as Stored;
use corelane::config::plan::Format;
use corelane::h1::body::{Decoder, Sink};
use corelane::h1::forward::{self, Forward, Reply, reply_framing};
use corelane::h1::head::{Slots, parse_request, parse_response};
use corelane::h1::{Framing, Limits, Method, Version};
use corelane::log::{AccessLine, Clock, write_line};
use corelane::policy::balance::{Algorithm, Balance, SHARE_WHOLE, View};
use corelane::policy::cache::{Budget, Terms};
use corelane::policy::limit::{Decision, Fields, Hasher, Leases, Quota, Seed, Table, fields};
use corelane::policy::route::{Conditions, HostPattern, PathPattern, Router, Rule};
use corelane::policy::{BackendId, RouteId};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use heads::{BROWSER, RESPONSE, SMALL};
use policies::{Lru, Ours, Policy, Textbook, Zipf, hit_rate, scatter};

const REQUESTS: [(&str, &str); 2] = [("small", SMALL), ("browser", BROWSER)];

fn head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    for (name, text) in REQUESTS {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("request", name), |bencher| {
            bencher.iter(|| {
                let mut slots = Slots::new();
                let parsed =
                    parse_request(black_box(text.as_bytes()), &Limits::DEFAULT, &mut slots);
                parsed.map(|request| request.map(|request| request.head_len))
            });
        });
    }
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response", |bencher| {
        bencher.iter(|| {
            let mut slots = Slots::new();
            let bytes = black_box(RESPONSE.as_bytes());
            let parsed = parse_response(bytes, &Limits::DEFAULT, Method::Get, &mut slots);
            parsed.map(|response| response.map(|response| response.head_len))
        });
    });
    group.finish();
}

fn forwarding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    let mut out = Vec::with_capacity(16 * 1024);
    let with = Forward {
        client_ip: "192.0.2.1",
        trusted: false,
        proto: "http",
        port: "8080",
        host: None,
        via: "corelane",
        keep_expect: false,
        target: None,
        edit: None,
    };
    for (name, text) in REQUESTS {
        let mut slots = Slots::new();
        let request = parse_request(text.as_bytes(), &Limits::DEFAULT, &mut slots);
        let request = request.ok().flatten().expect("the request is good");
        group.bench_function(BenchmarkId::new("request", name), |bencher| {
            bencher.iter(|| {
                out.clear();
                forward::request(&mut out, black_box(&request), &with);
                out.len()
            });
        });
    }
    let mut slots = Slots::new();
    let response = parse_response(
        RESPONSE.as_bytes(),
        &Limits::DEFAULT,
        Method::Get,
        &mut slots,
    );
    let response = response.ok().flatten().expect("the response is good");
    let with = Reply {
        client_version: Version::Http11,
        keep_alive: true,
        framing: reply_framing(response.framing, Version::Http11, true),
        head_request: false,
        via: "corelane",
        date: "Fri, 20 Nov 2026 18:28:03 GMT",
        set_cookie: None,
        lines: b"",
        edit: None,
    };
    group.bench_function("response", |bencher| {
        bencher.iter(|| {
            out.clear();
            forward::response(&mut out, black_box(&response), &with);
            out.len()
        });
    });
    group.finish();
}

/// 64 KiB of payload, checked, and written anew for a receiver of chunks.
fn body(criterion: &mut Criterion) {
    const PAYLOAD_BYTES: usize = 64 * 1024;
    let mut group = criterion.benchmark_group("body");
    group.throughput(Throughput::Bytes(PAYLOAD_BYTES as u64));
    for count in [1, 16, 1024] {
        let data = vec![b'x'; PAYLOAD_BYTES / count];
        let mut wire = Vec::new();
        for _ in 0..count {
            wire.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            wire.extend_from_slice(&data);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        group.bench_function(BenchmarkId::new("check", count), |bencher| {
            bencher.iter(|| Decoder::new(Framing::Chunked).step(black_box(&wire), Sink::Check));
        });
        let mut out = Vec::with_capacity(2 * PAYLOAD_BYTES);
        group.bench_function(BenchmarkId::new("encode", count), |bencher| {
            bencher.iter(|| {
                out.clear();
                let sink = Sink::Chunked(&mut out);
                Decoder::new(Framing::Chunked).step(black_box(&wire), sink)
            });
        });
    }
    group.finish();
}

/// Ten prefixes a host, the last of them asked for; with one route the catch-all.
fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for count in [1_u32, 100, 10_000] {
        let rules = (0..count).map(|number| Rule {
            hosts: match count {
                1 => Vec::new(),
                _ => vec![HostPattern::Exact(
                    format!("host-{}.example.org", number / 10).into(),
                )],
            },
            path: PathPattern::Prefix(match count {
                1 => "/".into(),
                _ => format!("/service-{}", number % 10).into(),
            }),
            methods: Vec::new(),
            conditions: Conditions::default(),
            priority: 0,
            route: RouteId(number),
        });
        let router = Router::build(rules.collect());
        let host = format!("host-{}.example.org:8080", count.saturating_sub(1) / 10);
        let text = format!("GET /service-9/items/12345 HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut slots = Slots::new();
        let request = parse_request(text.as_bytes(), &Limits::DEFAULT, &mut slots);
        let request = request.ok().flatten().expect("the request is good");
        let client_ip = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(router.lookup(&request, client_ip), Ok(RouteId(count - 1)));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| router.lookup(black_box(&request), black_box(client_ip)));
        });
    }
    group.finish();
}

/// What shards see of a cluster: a word of health and a count of requests in flight for each backend, written by
/// others while they read.
struct Live {
    words: Vec<AtomicU64>,
    loads: Vec<AtomicU32>,
}

impl Live {
    /// All in service, with 1 to 3 requests in flight and latencies of 1 to 2 ms.
    fn new(count: u32) -> Live {
        let scattered = |number: u32| u64::from(number.wrapping_mul(2_654_435_761) >> 8);
        Live {
            words: (0..count)
                .map(|number| AtomicU64::new((1_000_000 + scattered(number) % 1_000_000) << 1))
                .collect(),
            loads: (0..count)
                .map(|number| AtomicU32::new(1 + scattered(number) as u32 % 3))
                .collect(),
        }
    }
}

impl View for Live {
    fn usable(&self, id: BackendId) -> bool {
        self.words[id.0 as usize].load(Relaxed) & 1 == 0
    }

    fn load(&self, id: BackendId) -> u32 {
        self.loads[id.0 as usize].load(Relaxed)
    }

    fn total_load(&self) -> u32 {
        self.loads.len() as u32 * 2
    }

    fn share(&self, id: BackendId) -> u32 {
        match self.words[id.0 as usize].load(Relaxed) >> 63 {
            0 => SHARE_WHOLE,
            _ => 1,
        }
    }

    fn latency_ns(&self, id: BackendId) -> u64 {
        self.words[id.0 as usize].load(Relaxed) >> 1
    }
}

fn balance(criterion: &mut Criterion) {
    const fn hash(bound_percent: Option<u32>) -> Algorithm {
        Algorithm::ConsistentHash { bound_percent }
    }
    // Weights from 1 to the last number.
    const POLICIES: [(&str, Algorithm, u32); 9] = [
        ("round_robin", Algorithm::RoundRobin, 1),
        ("weighted_round_robin", Algorithm::RoundRobin, 3),
        ("least_connections", Algorithm::LeastConnections, 1),
        ("weighted_least_connections", Algorithm::LeastConnections, 3),
        ("power_of_two", Algorithm::PowerOfTwo, 1),
        ("random", Algorithm::Random, 1),
        ("consistent_hash", hash(None), 1),
        ("bounded_hash", hash(Some(125)), 1),
        ("peak_ewma", Algorithm::PeakEwma, 1),
    ];
    let mut group = criterion.benchmark_group("balance");
    for (name, algorithm, weights) in POLICIES {
        for count in [10_u32, 1_000] {
            let names: Vec<String> = (0..count)
                .map(|number| format!("http://10.0.{}.{}:8080", number / 256, number % 256))
                .collect();
            let backends: Vec<(BackendId, &str, u32)> = (0..count)
                .zip(&names)
                .map(|(number, name)| (BackendId(number), name.as_str(), 1 + number % weights))
                .collect();
            let balance = Balance::new(algorithm, &backends).expect("there are backends");
            let (view, mut turn, mut key) = (Live::new(count), balance.start(0, 1, 1), 0);
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    key += 1;
                    balance.pick(&mut turn, key, black_box(&view))
                });
            });
        }
    }
    group.finish();
}

const fn quota(interval_ns: u64, burst: u32) -> Quota {
    Quota {
        interval_ns,
        burst,
        period_ns: 1_000_000_000,
        requests: 1,
    }
}

/// The key of a client's address.
fn client(number: u32) -> u64 {
    let ip = IpAddr::V4(Ipv4Addr::from_bits(black_box(number)));
    Hasher::new(Seed(1, 2)).ip(ip).finish()
}

/// A check is the hash of an address and a request taken. Clients come in an order that no cache foresees.
fn limit(criterion: &mut Criterion) {
    const LAVISH: Quota = quota(1_000, 1_000_000);
    const MEAN: Quota = quota(1_000_000_000_000, 1);
    let mut group = criterion.benchmark_group("limit");
    let (mut number, mut now) = (0_u32, 0_u64);
    group.bench_function("key", |bencher| {
        bencher.iter(|| {
            number += 1;
            client(number)
        });
    });
    for (name, quota) in [("admitted", LAVISH), ("limited", MEAN)] {
        for count in [1, 1_u32 << 20] {
            let table = Table::new(&quota, count as usize, 1);
            for number in 0..count {
                let _ = table.take(client(number), 0);
            }
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    number = number.wrapping_mul(0x9E37_79B1).wrapping_add(1);
                    now += 100;
                    table.take(client(number & (count - 1)), now)
                });
            });
        }
    }
    // What was inserted is soon forgotten, or never.
    for (name, quota) in [("new", LAVISH), ("full", MEAN)] {
        let table = Table::new(&quota, 1 << 16, 1);
        for number in 0..1 << 20 {
            let _ = table.take(client(number), now);
        }
        number = 1 << 20;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number += 1;
                now += 1_000_000;
                table.take(client(number), now)
            });
        });
    }
    let table = Table::new(&LAVISH, 1 << 16, 1);
    let mut leases = Leases::new(&table, 8, 1);
    group.bench_function("leased", |bencher| {
        bencher.iter(|| {
            now += 100;
            leases.take(&table, client(1), now)
        });
    });
    group.bench_function("sweep", |bencher| {
        bencher.iter(|| {
            now += 20_000_000;
            table.sweep(now);
        });
    });
    let decision = Decision::Admitted {
        remaining: 9,
        full_ns: 1_000_000,
        wait_ns: 0,
    };
    let lines = fields::Lines::new(Fields::Draft, "default", &LAVISH);
    let mut out = Vec::with_capacity(1024);
    group.bench_function("fields", |bencher| {
        bencher.iter(|| {
            out.clear();
            lines.write(&mut out, black_box(&decision));
            out.len()
        });
    });
    group.finish();
}

const KEY_BYTES: usize = 47;

fn key(number: u32) -> String {
    format!("http://www.example.org/articles/{number:08}/a-page")
}

/// One after the other, and around.
fn next<'l, T>(list: &'l [T], at: &mut usize) -> &'l T {
    *at = if *at + 1 < list.len() { *at + 1 } else { 0 };
    &list[*at]
}

fn store(table: &Stored, key: &[u8], body: &Bytes) -> bool {
    let charge = table.reserve(Entry::cost_bytes(key.len(), 0, body.len()));
    let parts = Parts {
        hash: table.hash(key),
        key,
        head: b"",
        body: body.clone(),
        kind: Kind::Response,
        status: 200,
        terms: Terms {
            at: 0,
            age_s: 0,
            lifetime_s: 0,
            stale_while_revalidate_s: 0,
            stale_if_error_s: 0,
            must_revalidate: false,
            no_cache: false,
        },
    };
    let entry = charge.map(|charge| table.put(Entry::new(parts, charge)));
    entry.is_some()
}

/// A full table, and the keys in it in an order that no processor foresees.
fn stored(count: u32) -> (Stored, Vec<String>) {
    let budget = Budget {
        bytes_max: 1 << 40,
        entries_max: count.max(16),
    };
    let table = Stored::new(budget, &[7; 32]);
    for number in 0..count {
        store(&table, key(number).as_bytes(), &Bytes::new());
    }
    let mut keys: Vec<String> = (0..count).map(key).collect();
    keys.retain(|key| table.get(table.hash(key.as_bytes())).is_some());
    keys.sort_by_cached_key(|key| scatter(table.hash(key.as_bytes()) as u64));
    (table, keys)
}

/// Of a million objects, ten million requests. Returns ours as it is then, and what may follow.
fn print_hit_rates(room: usize) -> (Ours, Zipf) {
    const OBJECTS: u32 = 1_000_000;
    let rate = |policy: &mut dyn Policy| {
        let mut zipf = Zipf::new(OBJECTS, 0.9, 1);
        let rate = hit_rate(policy, (0..10_000_000).map(|_| zipf.next()));
        (rate, zipf)
    };
    let mut ours = Ours::new(OBJECTS, room);
    let (found, zipf) = rate(&mut ours);
    let (book, _) = rate(&mut Textbook::new(OBJECTS, room));
    let (lru, _) = rate(&mut Lru::new(OBJECTS, room));
    println!("room for {room}: {found:.4}, the book {book:.4}, LRU {lru:.4}");
    (ours, zipf)
}

/// What a request asks the table of stored responses; `hit_rate` is one request to S3-FIFO alone.
fn cache(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cache");
    for count in [1, 1_u32 << 20] {
        let made = LazyCell::new(|| {
            let (table, keys) = stored(count);
            let hashes: Vec<u128> = keys.iter().map(|key| table.hash(key.as_bytes())).collect();
            let keys: Vec<[u8; KEY_BYTES]> = keys
                .iter()
                .map(|key| *key.as_bytes().first_chunk().expect("keys have one length"))
                .collect();
            (table, keys, hashes)
        });
        let mut at = 0;
        group.bench_function(BenchmarkId::new("hash", count), |bencher| {
            let (table, keys, _) = &*made;
            bencher.iter(|| table.hash(next::<[u8; KEY_BYTES]>(keys, &mut at)));
        });
        group.bench_function(BenchmarkId::new("get", count), |bencher| {
            let (table, _, hashes) = &*made;
            bencher.iter(|| table.get(*next(hashes, &mut at)).map(|entry| entry.touch()));
        });
        group.bench_function(BenchmarkId::new("hash_and_get", count), |bencher| {
            let (table, keys, _) = &*made;
            bencher.iter(|| {
                let hash = table.hash(next::<[u8; KEY_BYTES]>(keys, &mut at));
                table.get(hash).map(|entry| entry.touch())
            });
        });
        group.bench_function(BenchmarkId::new("miss", count), |bencher| {
            let (table, _, hashes) = &*made;
            bencher.iter(|| table.get(!next(hashes, &mut at)).is_none());
        });
    }
    let body = Bytes::from(vec![b'x'; 4_096]);
    let budget = Budget {
        bytes_max: 64 << 20,
        entries_max: 65_536,
    };
    let (table, mut number) = (Stored::new(budget, &[7; 32]), 0);
    group.bench_function("put_and_evict", |bencher| {
        bencher.iter(|| {
            number += 1;
            store(&table, key(number).as_bytes(), &body)
        });
    });
    for room in [10_000, 100_000] {
        let mut made = None;
        group.bench_function(BenchmarkId::new("hit_rate", room), |bencher| {
            let (ours, zipf) = made.get_or_insert_with(|| print_hit_rates(room));
            bencher.iter(|| ours.request(zipf.next()));
        });
    }
    group.finish();
}

fn access_line(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access_line");
    let line = AccessLine {
        unix_ms: 1_795_200_483_123,
        client: "192.0.2.1",
        method: "GET",
        path: "/articles/2026/11/a-page",
        query: "utm_source=newsletter",
        version: Version::Http11,
        status: 200,
        request_body_bytes: 0,
        response_body_bytes: 4096,
        host: "www.example.org",
        cache: "",
        user_agent:
            b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/143.0.0.0 Safari/537.36",
        referer: b"https://www.example.org/articles",
        duration_ns: 1_234_567,
        connect_ns: None,
        first_byte_ns: Some(1_034_567),
        backend: "127.0.0.1:3001",
        backend_reused: true,
        retries: 0,
        attempts: &[],
        route: "default",
        shard: 0,
        reason: "",
        error_type: "",
        end: "complete",
        user: "",
        request_id: "",
        trace_id: "",
        limit: "",
    };
    let (mut out, mut clock) = (Vec::with_capacity(4096), Clock::new());
    for (name, format) in [("json", Format::Json), ("combined", Format::Combined)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                write_line(&mut out, black_box(&line), format, &mut clock);
                out.len()
            });
        });
    }
    group.finish();
}

/// Short, since the figures are compared by eye: half a percent more or less is for scripts/bench.
fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
}

criterion_group! {
    name = pure;
    config = quick();
    targets = head, forwarding, body, route, balance, limit, cache, access_line
}
criterion_main!(pure);
