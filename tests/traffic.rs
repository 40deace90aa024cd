//! Limits, access and mirroring under load, with the real binary: what clients and backends count must agree with what
//! was promised.
//!
//! The real binary three times over: proxy, backend, load generator. One test runs at a time, because each wants the
//! whole machine. `TRAFFIC_SECONDS=60` makes the longest load longer.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use corelane::io::unix_ms;
use support::load::{Load, Logged, Mock, Report, until};
use support::peer::Peer;
use support::site::{Site, ask, connect};
use support::{TempDir, free_address};

/// Of the longest load.
const SECONDS: u64 = 20;
/// Per second, and as many at once.
const RATE: u64 = 400;
const BURST: u64 = 100;

fn seconds() -> u64 {
    let seconds = std::env::var("TRAFFIC_SECONDS").ok();
    seconds.map_or(SECONDS, |text| text.parse().unwrap())
}

/// Nothing but what passed and what was limited.
fn check_no_errors(report: &Report) {
    assert_eq!(report.number("errors"), 0, "{}", report.summary());
}

/// Five times the rate of a limit, from one address over 64 connections; `more` is added to the bound.
fn check_a_limit(keys: &str, seconds: u64, more: u64) {
    let site = Site::start(&format!(
        "backends = [\"http://{{backend}}\"]\nlog.access = false\n\
         [rate_limit]\nrequests_per_second = {RATE}\nburst = {BURST}\n{keys}"
    ));
    let (rate, duration) = ((5 * RATE).to_string(), format!("{seconds}s"));
    let report = site.run(
        "/status/200",
        &[
            &["--rate", &rate, "--connections", "64"][..],
            &["--duration", &duration],
        ]
        .concat(),
    );
    let summary = report.summary();
    check_no_errors(&report);
    // All of them came, in all of the time.
    assert_eq!(report.number("requests"), 5 * RATE * seconds, "{summary}");
    assert_eq!(report.number("connects"), 64, "{summary}");
    let shards = site.shard_requests();
    let answered: u64 = shards.iter().sum();
    assert_eq!(answered, report.number("requests"), "{shards:?}");
    assert!(shards.iter().all(|count| *count > 5 * RATE), "{shards:?}");

    // From before the first request to the last answer.
    let window_ns = u128::from(report.number("elapsed_ns"));
    let rated = u64::try_from(window_ns * u128::from(RATE) / 1_000_000_000).unwrap();
    let (admitted, most) = (report.status(200), BURST + rated + more);
    assert!(admitted <= most, "{admitted} of {most}: {summary}");
    let least = (BURST + RATE * seconds) * 98 / 100;
    assert!(admitted >= least, "{admitted} of {least}: {summary}");
    assert_eq!(report.status(429), report.number("requests") - admitted);

    assert_eq!(site.mock.count("requests"), admitted);
    assert_eq!(site.limit_metric("rate_limit", "admitted"), admitted);
    assert_eq!(
        site.limit_metric("rate_limit", "limited"),
        report.status(429)
    );
    assert_eq!(site.rejected("rate_limited"), report.status(429));
    site.stop();
}

#[test]
fn a_limit_holds_over_shards() {
    check_a_limit("mode = \"exact\"", seconds(), 0);
}

#[test]
fn a_leased_limit_holds_but_for_what_shards_hold() {
    check_a_limit("mode = \"leased\"\nlease = 8", 5, 2 * 8);
}

#[test]
fn clients_do_not_spend_each_others_quota() {
    const RATE: u64 = 100;
    const SECONDS: u64 = 4;
    let site = Site::start(&format!(
        "backends = [\"http://{{backend}}\"]\nlog.access = false\n\
         [rate_limit]\nrequests_per_second = {RATE}\nburst = {RATE}"
    ));
    let duration = format!("{SECONDS}s");
    // From 127.0.0.1.
    let greedy = site.load(
        "/status/200?greedy",
        &[
            "--rate",
            "1000",
            "--connections",
            "16",
            "--duration",
            &duration,
        ],
    );
    // Each of them from an address of its own, and slower than the rate, since it thinks.
    let modest = site.load(
        "/status/200?modest",
        &[
            &["--users", "4", "--clients", "4", "--think", "15ms"][..],
            &["--duration", &duration],
        ]
        .concat(),
    );
    let (greedy, modest) = (greedy.finish(), modest.finish());
    check_no_errors(&greedy);
    check_no_errors(&modest);
    let both = format!("{}; {}", greedy.summary(), modest.summary());
    assert_eq!(modest.status(200), modest.number("requests"), "{both}");
    // They have asked all the time.
    assert!(modest.number("requests") > 4 * 20 * SECONDS, "{both}");
    let window_ns = greedy.number("elapsed_ns");
    let most = RATE + RATE * window_ns / 1_000_000_000;
    let least = (RATE + RATE * SECONDS) * 98 / 100;
    let admitted = greedy.status(200);
    assert!(
        (least..=most).contains(&admitted),
        "{least}, {most}: {both}"
    );
    assert_eq!(
        site.mock.count("requests"),
        admitted + modest.number("requests")
    );
    site.stop();
}

/// A key that has used up its burst, and will not have another request soon.
const LIMITED: &str = "X-Key: victim\r\n";

/// Distinct keys, far more than there is room for: what becomes of the new ones, of the limited one, and of memory.
#[test]
fn a_flood_of_keys_frees_nobody_and_takes_no_memory() {
    /// Of 1024 keys for each shard, and the cells of a table that keeps this promise.
    const ROOM: std::ops::RangeInclusive<u64> = 2_048..=3_584;
    const KEYS: u64 = 20_000;
    // Were it kept, it would be 10 MB.
    let long = format!("X-Key: {}-{{n}}", "k".repeat(500));
    for when_full in ["reject", "allow"] {
        let site = Site::start(&format!(
            "backends = [\"http://{{backend}}\"]\nlog.access = false\n\
             [rate_limit]\nrequests_per_hour = 2\nkey = \"header:X-Key\"\nkeys = 1024\n\
             when_full = \"{when_full}\"\nfields = \"off\""
        ));
        let status = |lines| site.ask("GET /status/200", lines).0.status();
        let statuses = [LIMITED; 3].map(status);
        assert_eq!(statuses, [Some(200), Some(200), Some(429)], "{when_full}");
        let flood = |name: &str, requests: u64| {
            let (header, requests) = (format!("{long}-{name}"), requests.to_string());
            let report = site.run(
                "/status/200",
                &[
                    &["--users", "16", "--requests", &requests][..],
                    &["--header", &header, "--duration", "1h"],
                ]
                .concat(),
            );
            check_no_errors(&report);
            report
        };
        let warm = flood("warm", 4_000);
        let before_kib = site.proxy.memory_kib();
        let report = flood("flood", KEYS);
        let grown_kib = site.proxy.memory_kib().saturating_sub(before_kib);
        assert!(grown_kib <= 1024, "{when_full}: grown by {grown_kib} KiB");

        let requests = warm.number("requests") + report.number("requests");
        let full = site.limit_metric("rate_limit", "full");
        // With the limited one.
        let known = 1 + requests - full;
        let both = format!("{when_full}: {full} full; {}", report.summary());
        assert!(ROOM.contains(&known), "{both}");
        let passed = warm.status(200) + report.status(200);
        match when_full {
            "reject" => assert_eq!(passed + full, requests, "{both}"),
            _ => assert_eq!(passed, requests, "{both}"),
        }
        let rejected = site.rejected("rate_limit_full");
        assert_eq!(rejected, requests - passed, "{both}");
        let limited = site.limit_metric("rate_limit", "limited");
        assert_eq!(limited, 1, "{both}");
        assert_eq!(status(LIMITED), Some(429), "{both}");
        assert_eq!(site.limit_metric("rate_limit", "limited"), 2, "{both}");
        site.stop();
    }
}

#[test]
fn a_delay_spreads_a_burst() {
    const RATE: u64 = 20;
    const BURST: u64 = 30;
    let site = Site::start(&format!(
        "backends = [\"http://{{backend}}\"]\nlog.access = false\n\
         [rate_limit]\nrequests_per_second = {RATE}\nburst = {BURST}\naction = \"delay\""
    ));
    let burst = BURST.to_string();
    let report = site.run(
        "/status/200",
        &["--users", &burst, "--requests", &burst, "--duration", "1h"],
    );
    check_no_errors(&report);
    assert_eq!(report.status(200), BURST, "{}", report.summary());
    // As if they had come one by one.
    let took_ns = report.number("elapsed_ns");
    let least_ns = (BURST - 1) * 1_000_000_000 / RATE;
    assert!(took_ns >= least_ns, "{took_ns} of {least_ns} ns");
    let count = |result| site.limit_metric("rate_limit", result);
    let (delayed, at_once) = (count("delayed"), count("admitted"));
    assert_eq!(delayed + at_once, BURST);
    assert!(delayed > 0 && at_once > 0, "{delayed} and {at_once}");
    site.stop();
}

/// An address that asks; others have 127.0.0.1.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// The statuses of one request on each of so many new connections, which stay open if their answer lets them.
fn open(site: &Site, from: IpAddr, count: usize) -> (Vec<Peer>, Vec<u16>) {
    let mut clients: Vec<Peer> = (0..count)
        .map(|_| Peer::new(connect(site.proxy.address, Some(from))))
        .collect();
    let statuses = clients.iter_mut().map(|client| {
        let (head, body) = ask(client, "GET /status/200", "");
        assert!(body.complete, "{head:?}");
        let status = head.status().unwrap();
        if status != 200 {
            assert_eq!((status, head.all("connection")), (429, vec!["close"]));
            client.closed().unwrap();
        }
        status
    });
    let statuses = statuses.collect();
    (clients, statuses)
}

fn count_of(status: u16, statuses: &[u16]) -> usize {
    statuses.iter().filter(|found| **found == status).count()
}

#[test]
fn an_address_has_its_connections_over_shards() {
    let site = Site::start(
        "backends = [\"http://{backend}\"]\nlog.access = false\nlimits.connections_per_ip = 10",
    );
    let (clients, statuses) = open(&site, CLIENT, 40);
    assert_eq!(count_of(200, &statuses), 10, "{statuses:?}");
    assert_eq!(site.rejected("connections_per_ip"), 30);
    let (_others, statuses) = open(&site, Ipv4Addr::LOCALHOST.into(), 10);
    assert_eq!(statuses, [200; 10]);
    drop(clients);
    // Those that are closed do not count.
    until("the address has none", || {
        site.proxy.metric("corelane_client_connections ") == 10
    });
    let (_clients, statuses) = open(&site, CLIENT, 10);
    assert_eq!(statuses, [200; 10]);
    site.stop();
}

#[test]
fn an_address_has_its_new_connections_over_shards() {
    const RATE: u64 = 20;
    let site = Site::start(&format!(
        "backends = [\"http://{{backend}}\"]\nlog.access = false\nlimits.accepts_per_ip = {RATE}"
    ));
    let began_ms = unix_ms();
    let (_clients, statuses) = open(&site, CLIENT, 60);
    let most = RATE + RATE * (unix_ms() - began_ms + 1) / 1000;
    let passed = count_of(200, &statuses) as u64;
    assert!((RATE..=most).contains(&passed), "{passed} of {most}");
    assert_eq!(site.rejected("accepts_per_ip"), 60 - passed);
    let (_others, statuses) = open(&site, Ipv4Addr::LOCALHOST.into(), 5);
    assert_eq!(statuses, [200; 5]);
    site.stop();
}

#[test]
fn an_address_has_its_requests_in_flight_over_shards() {
    let site = Site::start(
        "backends = [\"http://{backend}\"]\nlog.access = false\nlimits.requests_per_ip = 5",
    );
    let mut held: Vec<Peer> = (0..5)
        .map(|_| Peer::new(connect(site.proxy.address, Some(CLIENT))))
        .collect();
    for client in &mut held {
        client.send(b"GET /delay/60000 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    until("all are under way", || site.mock.count("requests") == 5);
    let status = |from: IpAddr| {
        let mut client = Peer::new(connect(site.proxy.address, Some(from)));
        ask(&mut client, "GET /status/200", "").0.status()
    };
    let statuses = [CLIENT; 20].map(status);
    assert_eq!(statuses, [Some(429); 20]);
    assert_eq!(site.rejected("requests_per_ip"), 20);
    assert_eq!(status(Ipv4Addr::LOCALHOST.into()), Some(200));
    drop(held);
    until("it has none", || status(CLIENT) == Some(200));
    site.stop();
}

/// Copies that each shard has under way at most.
const COPIES_MAX: u64 = 256;
/// So few that none is ever left out.
const FEW: u64 = COPIES_MAX;

/// A site with a shadow cluster is asked so often; every request must fare as if there were none. Gives what became of
/// the copies that have ended: answered, failed, left out.
fn mirror(shadow: SocketAddr, asked: u64) -> (Site, impl Fn(&Site) -> [u64; 3]) {
    let site = Site::start(&format!(
        "log.access = false\n\
         [[clusters]]\nname = \"main\"\nbackends = [\"http://{{backend}}\"]\n\
         [[clusters]]\nname = \"shadow\"\nbackends = [\"http://{shadow}\"]\n\
         [[routes]]\ncluster = \"main\"\nmirror = \"shadow\"\n"
    ));
    let requests = (asked / 2).to_string();
    let load = |more: &[&str]| {
        let flags = ["--users", "16", "--requests", &requests, "--duration", "1h"];
        site.load("/x?{n}", &[&flags[..], more].concat())
    };
    let (gets, posts) = (load(&[]), load(&["--body", "100B"]));
    for report in [gets.finish(), posts.finish()] {
        check_no_errors(&report);
        assert_eq!(report.status(200), asked / 2, "{}", report.summary());
    }
    assert_eq!(site.mock.count("requests"), asked);
    let copies = |site: &Site| {
        ["answered", "failed", "dropped"].map(|result| {
            let sample = format!("corelane_mirrored_total{{result=\"{result}\"}}");
            site.proxy.metric(&sample)
        })
    };
    (site, copies)
}

#[test]
fn a_shadow_cluster_gets_what_the_backends_get() {
    let folder = TempDir::new();
    let shadow = Mock::start("shadow", &folder.0, &[]);
    let (site, copies) = mirror(shadow.address, FEW);
    until("all copies have been answered", || {
        copies(&site).iter().sum::<u64>() == FEW
    });
    assert_eq!(copies(&site), [FEW, 0, 0]);
    let sorted = |mut logged: Vec<Logged>| {
        logged.sort();
        logged
    };
    assert!(sorted(shadow.logged()) == sorted(site.mock.logged()));
    site.stop();
}

#[test]
fn a_shadow_cluster_that_fails_harms_nobody() {
    for failure in ["reset", "close", "status"] {
        let folder = TempDir::new();
        let shadow = Mock::start("shadow", &folder.0, &["--fail-mode", failure]);
        check_failing(failure, shadow.address);
    }
    check_failing("down", free_address());
}

fn check_failing(failure: &str, shadow: SocketAddr) {
    let (site, copies) = mirror(shadow, FEW);
    until("all copies have ended", || {
        copies(&site).iter().sum::<u64>() == FEW
    });
    let [answered, failed, dropped] = copies(&site);
    let all = format!("{failure}: {answered}, {failed}, {dropped}");
    // A 500 is an answer.
    assert_eq!(answered == FEW, failure == "status", "{all}");
    assert_eq!(failed == FEW, failure != "status", "{all}");
    site.stop();
}

#[test]
fn a_shadow_cluster_that_hangs_harms_nobody() {
    const ASKED: u64 = 1_000;
    let folder = TempDir::new();
    let shadow = Mock::start("shadow", &folder.0, &["--fail-mode", "hang"]);
    let (site, copies) = mirror(shadow.address, ASKED);
    let [answered, failed, dropped] = copies(&site);
    let all = format!("{answered}, {failed}, {dropped}");
    assert_eq!((answered, failed), (0, 0), "{all}");
    // The others wait for their answers still.
    assert!(dropped >= ASKED - 2 * COPIES_MAX, "{all}");
    assert!(dropped < ASKED, "{all}");
    site.stop();
}

#[test]
fn responses_and_uploads_keep_their_rate() {
    const RATE: u64 = 1024 * 1024;
    const BYTES: u64 = 2 * RATE;
    /// What may be ahead: one piece.
    const AHEAD: u64 = 16 * 1024;
    let site = Site::start(
        "backends = [\"http://{backend}\"]\nlog.access = false\n\
         limits.response_rate = \"1MiB\"\nlimits.request_rate = \"1MiB\"\n",
    );
    let once = ["--users", "1", "--requests", "1", "--duration", "1h"];
    let length = format!("{BYTES}B");
    let (bytes, chunked) = (format!("/bytes/{BYTES}"), format!("/chunked/{BYTES}"));
    let loads: [(&str, &[&str]); 4] = [
        (&bytes, &["--expect-body", &length]),
        (&chunked, &["--expect-body", &length]),
        ("/status/200", &["--body", "2MiB"]),
        ("/status/200", &["--body", "2MiB", "--chunked", "true"]),
    ];
    // Each has a rate of its own.
    let loads = loads.map(|(path, more)| site.load(path, &[&once[..], more].concat()));
    for report in loads.map(Load::finish) {
        check_no_errors(&report);
        assert_eq!(report.number("good"), 1, "{}", report.summary());
        let (took_ns, least) = (report.number("elapsed_ns"), (BYTES - AHEAD) * 1000 / RATE);
        assert!(took_ns / 1_000_000 >= least, "{took_ns} ns of {least} ms");
    }
    site.stop();
}
