//! Backends that die, hang, break off and come back, under load: what their clients notice.
//!
//! The real binary three times over: proxy, backends, load generator. Each test has its own processes and addresses;
//! one runs at a time, because each wants the whole machine. `CHAOS_SECONDS=30` makes the loads longer.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corelane::io::unix_ms;
use support::load::{Load, Logged, Mock, Report, Witness, connect, until};
use support::{Proxy, TempDir};

/// Of a load that has no number of requests.
const SECONDS: u64 = 10;
/// Long enough for every test: it ends its loads itself.
const ENDLESS: [&str; 2] = ["--duration", "1h"];
/// What `/status/200` answers, in one write.
const BODY: &str = "11B";

/// Active checks of the tests that have some, in milliseconds; the proxy spreads intervals by a fifth.
const INTERVAL_MS: u64 = 300;
const TIMEOUT_MS: u64 = 200;
const RISE: u64 = 2;
const FALL: u64 = 2;
/// A busy machine may be so late.
const SLACK_MS: u64 = 500;

fn check_keys() -> String {
    format!(
        "health_check.type = \"http\"\nhealth_check.path = \"/health\"\n\
         health_check.interval = \"{INTERVAL_MS}ms\"\nhealth_check.timeout = \"{TIMEOUT_MS}ms\"\n\
         health_check.rise = {RISE}\nhealth_check.fall = {FALL}\n"
    )
}

/// Longest time from the moment when a backend changed until so many checks in succession have said so: just before,
/// one may have begun that does not know it yet.
fn found_out_ms(results: u64) -> u64 {
    results * INTERVAL_MS + TIMEOUT_MS + SLACK_MS
}

static ALONE: Mutex<()> = Mutex::new(());

/// A proxy with two shards, and what is behind it.
struct Scenario<'a> {
    /// Each with its weight and the flags of its mock.
    backends: &'a [(u32, &'a [&'a str])],
    /// Of the configuration, besides those that all have.
    keys: &'a str,
}

const WELL: (u32, &[&str]) = (1, &[]);

/// A scenario with its processes.
struct World {
    mocks: Vec<Mock>,
    proxy: Proxy,
    _folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Scenario<'_> {
    fn start(&self) -> World {
        // A test that failed has ended what it started.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = TempDir::new();
        let start = |(at, (_, flags)): (usize, &(u32, &[&str]))| {
            Mock::start(&format!("mock{at}"), &folder.0, flags)
        };
        let mocks: Vec<Mock> = self.backends.iter().enumerate().map(start).collect();
        let weights = self.backends.iter().map(|(weight, _)| weight);
        let backends: Vec<String> = std::iter::zip(&mocks, weights)
            .map(|(mock, weight)| {
                format!("{{ url = \"http://{}\", weight = {weight} }}", mock.address)
            })
            .collect();
        let config = format!(
            "{}\nserver.listen = \"{{listen}}\"\nserver.shards = 2\nserver.pin = false\n\
             admin.listen = \"127.0.0.1:0\"\nlog.access = false\nbackends = [{}]\n",
            self.keys,
            backends.join(", ")
        );
        World {
            mocks,
            proxy: Proxy::start(&config),
            _folder: folder,
            _alone: alone,
        }
    }
}

impl World {
    fn load(&self, path: &str, flags: &[&[&str]]) -> Load {
        let url = format!("http://{}{path}", self.proxy.address);
        Load::start(&url, &flags.concat())
    }

    /// A number of users who ask for a number of things, and the report of it.
    fn ask(&self, path: &str, users: u32, requests: u64) -> Report {
        let (users, requests) = (users.to_string(), requests.to_string());
        let flags: [&[&str]; 2] = [&["--users", &users, "--requests", &requests], &ENDLESS];
        self.load(path, &flags).finish()
    }

    /// 32 users who ask without end; together with as many who post, 64 connections.
    fn gets(&self) -> Load {
        let flags: [&[&str]; 2] = [&["--users", "32", "--expect-body", BODY], &ENDLESS];
        self.load("/status/200?{n}", &flags)
    }

    fn posts(&self) -> Load {
        let flags: [&[&str]; 3] = [
            &["--users", "32", "--expect-body", BODY],
            &["--method", "POST", "--body", "100B"],
            &ENDLESS,
        ];
        self.load("/status/200?{n}", &flags)
    }

    /// What each backend has counted under a name.
    fn counts(&self, name: &str) -> Vec<u64> {
        self.mocks.iter().map(|mock| mock.count(name)).collect()
    }

    /// Waits until the proxy says that a backend's standing has changed; how long that took.
    fn until_it_turns(&mut self, backend: usize, from: &str, to: &str) -> u64 {
        let began_ms = unix_ms();
        let address = self.mocks[backend].address;
        self.proxy.wait_for_message(&format!(
            "\"backend\":\"http://{address}\",\"from\":\"{from}\",\"to\":\"{to}\""
        ));
        unix_ms() - began_ms
    }

    /// Waits until every backend has work.
    fn until_all_are_busy(&self) {
        until("all backends are busy", || {
            self.counts("requests").iter().all(|count| *count > 100)
        });
    }

    /// How often each request came, over all backends and all their lives.
    fn came(&self, method: &str) -> BTreeMap<Logged, u32> {
        let mut came = BTreeMap::new();
        let logged = self.mocks.iter().flat_map(Mock::logged);
        for request in logged.filter(|request| request.method == method) {
            *came.entry(request).or_default() += 1;
        }
        came
    }

    /// Each POST reached one backend once: those with an answer did, and no other did twice.
    fn check_posts(&self, report: &Report) {
        let came = self.came("POST");
        let twice: Vec<&Logged> = came
            .iter()
            .filter(|(_, times)| **times > 1)
            .map(|(request, _)| request)
            .collect();
        assert!(twice.is_empty(), "sent twice: {twice:?}");
        let (came, good) = (came.len() as u64, report.number("good"));
        let requests = report.number("requests");
        assert!(
            (good..=requests).contains(&came),
            "{came} came: {}",
            report.summary()
        );
    }

    fn stop(self) {
        self.proxy.stop();
    }
}

/// Lets a load go on until so long after its beginning.
fn go_on(began_ms: u64) {
    let seconds = std::env::var("CHAOS_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |text| text.parse().unwrap());
    while unix_ms() < began_ms + seconds * 1000 {
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn check_no_errors(report: &Report) {
    assert_eq!(report.number("errors"), 0, "{}", report.summary());
    let (good, requests) = (report.number("good"), report.number("requests"));
    assert_eq!(good, requests, "{}", report.summary());
}

/// All errors are answers with this status.
fn check_only(status: u16, report: &Report) {
    let errors = report.number("errors");
    assert_eq!(report.status(status), errors, "{}", report.summary());
    assert_eq!(report.trouble("bad_status"), errors, "{}", report.summary());
}

#[test]
fn ten_thousand_requests_are_shared_by_weight() {
    for weights in [[1, 1, 1], [5, 1, 1]] {
        let world = Scenario {
            backends: &weights.map(|weight| (weight, &[][..])),
            keys: "load_balancer.algorithm = \"weighted_round_robin\"",
        }
        .start();
        check_no_errors(&world.ask("/", 64, 10_000));
        let counts = world.counts("GET");
        assert_eq!(counts.iter().sum::<u64>(), 10_000);
        let sum: u32 = weights.iter().sum();
        for (count, weight) in std::iter::zip(&counts, weights) {
            let share = 10_000 * u64::from(weight) / u64::from(sum);
            assert!(count.abs_diff(share) <= share / 100, "{counts:?}");
        }
        world.stop();
    }
}

#[test]
fn least_connections_gives_the_slow_one_less_in_proportion() {
    let (slow, quick): (&[&str], &[&str]) = (&["--delay", "100"], &["--delay", "20"]);
    let world = Scenario {
        backends: &[(1, slow), (1, quick), (1, quick)],
        keys: "load_balancer.algorithm = \"least_connections\"",
    }
    .start();
    check_no_errors(&world.ask("/", 64, 10_000));
    let counts = world.counts("GET");
    // As many in flight at each, a fifth of the speed: 1 to 5 to 5.
    for (count, parts) in std::iter::zip(&counts, [1, 5, 5]) {
        let share = 10_000 * parts / 11;
        assert!(count.abs_diff(share) <= share / 5, "{counts:?}");
    }
    world.stop();
}

/// The backend of each of 10,000 keys.
fn owners(world: &World, round: &str) -> BTreeMap<String, usize> {
    let path = format!("/key/{{n}}?{round}");
    check_no_errors(&world.ask(&path, 64, 10_000));
    let mut owners = BTreeMap::new();
    for (at, mock) in world.mocks.iter().enumerate() {
        for request in mock.logged() {
            if let Some((key, query)) = request.target.split_once('?')
                && query == round
            {
                owners.insert(key.to_owned(), at);
            }
        }
    }
    assert_eq!(owners.len(), 10_000);
    owners
}

#[test]
fn a_consistent_hash_moves_only_the_keys_of_the_one_that_left() {
    let mut world = Scenario {
        backends: &[WELL; 3],
        keys: &format!(
            "load_balancer.algorithm = \"consistent_hash\"\nload_balancer.hash_key = \"path\"\n\
             load_balancer.hash_bound = \"off\"\nslow_start.duration = \"off\"\n{}",
            check_keys()
        ),
    }
    .start();
    let before = owners(&world, "before");
    world.mocks[0].kill();
    world.until_it_turns(0, "available", "down");
    let without = owners(&world, "without");
    let moved = before.iter().filter(|(key, at)| without[*key] != **at);
    let moved: Vec<usize> = moved.map(|(_, at)| *at).collect();
    assert!(moved.iter().all(|at| *at == 0), "keys of others moved");
    let most = 10_000 * 13 / 10 / 3;
    assert!(moved.len() <= most, "{} keys moved", moved.len());
    world.mocks[0].start_again(&[]);
    world.until_it_turns(0, "down", "available");
    assert!(owners(&world, "after") == before, "not all keys are back");
    world.stop();
}

#[test]
fn a_backend_is_killed_and_comes_back() {
    // So that it is killed with requests that it has begun.
    let flags: &[&str] = &["--delay", "5"];
    let mut world = Scenario {
        backends: &[(1, flags); 3],
        // Only checks decide here. A third of the 64 requests in flight fail at once.
        keys: &format!(
            "passive_health.errors = 0\nslow_start.duration = \"4s\"\n{}",
            check_keys()
        ),
    }
    .start();
    let began_ms = unix_ms();
    let (gets, posts) = (world.gets(), world.posts());
    let witness = Witness::start(world.proxy.address, "killed");
    world.until_all_are_busy();

    world.mocks[0].kill();
    let out_ms = world.until_it_turns(0, "available", "down");
    let most_ms = found_out_ms(FALL);
    assert!(out_ms <= most_ms, "out after {out_ms} of {most_ms} ms");

    world.mocks[0].start_again(flags);
    let back_ms = world.until_it_turns(0, "down", "available");
    let most_ms = found_out_ms(RISE);
    assert!(back_ms <= most_ms, "back after {back_ms} of {most_ms} ms");

    let (slow, other) = next_requests(&world, 500);
    assert!(slow < other / 2, "{slow} beside {other} in its slow start");
    until("it has its whole share", || {
        let (whole, other) = next_requests(&world, 500);
        whole > other * 9 / 10
    });

    go_on(began_ms);
    let (gets, posts, seen) = (gets.stop(), posts.stop(), witness.finish());
    check_no_errors(&gets);
    seen.check_all_good();
    world.check_posts(&posts);
    // Of a POST that was under way nobody knows whether it was executed. Each user had one, and perhaps another one
    // before the last connection of the killed process was closed.
    check_only(502, &posts);
    assert!(posts.number("errors") <= 2 * 32, "{}", posts.summary());
    // Out and in: two changes, each said once.
    assert_eq!(world.proxy.times_said("backend changed"), 2);
    world.stop();
}

/// What the first and the second backend get while the second gets so many.
fn next_requests(world: &World, count: u64) -> (u64, u64) {
    let requests = |at: usize| world.mocks[at].count("requests");
    let (first, second) = (requests(0), requests(1));
    until("there are more requests", || requests(1) >= second + count);
    (requests(0) - first, requests(1) - second)
}

#[test]
fn a_backend_never_answers() {
    let mut world = Scenario {
        backends: &[(1, &["--fail-mode", "hang"]), WELL, WELL],
        // All users hang on it within moments, and then try again at once.
        keys: "timeouts.first_byte = \"500ms\"\nretry.on = [\"connect\", \"closed\", \"timeout\"]\n\
               retry.budget_least = 100\n\
               passive_health.errors = 3\npassive_health.ejection = \"1h\"\npassive_health.ejection_max = \"1h\"",
    }
    .start();
    let began_ms = unix_ms();
    let (gets, posts) = (world.gets(), world.posts());
    let witness = Witness::start(world.proxy.address, "hang");
    world.until_it_turns(0, "available", "ejected");
    go_on(began_ms);
    let (gets, posts, seen) = (gets.stop(), posts.stop(), witness.finish());
    check_no_errors(&gets);
    seen.check_all_good();
    world.check_posts(&posts);
    // Every POST that it got, one per user at most, and no other.
    check_only(504, &posts);
    let hung = world.mocks[0].count("POST");
    assert!((1..=32).contains(&hung), "{hung} hung");
    assert_eq!(posts.number("errors"), hung, "{}", posts.summary());
    world.stop();
}

#[test]
fn a_backend_resets_behind_the_head_of_its_answer() {
    // Nothing is tried again once a byte of the response has come.
    let world = Scenario {
        backends: &[(1, &["--fail-mode", "reset", "--fail", "50"]), WELL, WELL],
        keys: "",
    }
    .start();
    let began_ms = unix_ms();
    let (gets, posts) = (world.gets(), world.posts());
    let witness = Witness::start(world.proxy.address, "reset");
    world.until_all_are_busy();
    go_on(began_ms);
    let (gets, posts, seen) = (gets.stop(), posts.stop(), witness.finish());
    let failed = world.mocks[0].count("failed");
    assert!(failed > 0);
    let errors = gets.number("errors") + posts.number("errors") + seen.cut;
    let both = format!("{}; {}; {seen:?}", gets.summary(), posts.summary());
    assert_eq!(errors, failed, "{both}");
    world.check_posts(&posts);
    let came = world.came("GET");
    assert!(came.values().all(|times| *times == 1), "a GET came twice");
    world.stop();
}

#[test]
fn a_backend_that_always_resets_is_ejected() {
    let mut world = Scenario {
        backends: &[(1, &["--fail-mode", "reset"]), WELL, WELL],
        keys: "passive_health.errors = 5\npassive_health.ejection = \"1h\"\npassive_health.ejection_max = \"1h\"",
    }
    .start();
    let began_ms = unix_ms();
    let (gets, posts) = (world.gets(), world.posts());
    world.until_it_turns(0, "available", "ejected");
    go_on(began_ms);
    let (gets, posts) = (gets.stop(), posts.stop());
    let failed = world.mocks[0].count("failed");
    let errors = gets.number("errors") + posts.number("errors");
    let both = format!("{}; {}", gets.summary(), posts.summary());
    assert_eq!(errors, failed, "{both}");
    // The five that eject it, and what was under way meanwhile.
    assert!((5..=5 + 64).contains(&failed), "{failed} failed");
    world.check_posts(&posts);
    world.stop();
}

const HALF_500: (u32, &[&str]) = (1, &["--fail", "50"]);

#[test]
fn a_backend_answers_500_half_of_the_time() {
    let world = Scenario {
        backends: &[HALF_500, WELL, WELL],
        keys: "passive_health.errors = 0\nretry.on = [\"connect\", \"closed\", \"500\"]\n\
               retry.budget_least = 100\nretry.backoff = \"1ms\"",
    }
    .start();
    let began_ms = unix_ms();
    let (gets, posts) = (world.gets(), world.posts());
    world.until_all_are_busy();
    go_on(began_ms);
    let (gets, posts) = (gets.stop(), posts.stop());
    check_no_errors(&gets);
    check_only(500, &posts);
    world.check_posts(&posts);
    // Each 500 was either tried again, or a POST that its client was told of.
    let failed = world.mocks[0].count("failed");
    let retried = world
        .proxy
        .metric("corelane_retries_total{reason=\"status\"}");
    let told = posts.number("errors");
    assert!(retried > 0 && told > 0, "{retried} retried, {told} told");
    assert_eq!(retried + told, failed, "{}", posts.summary());
    world.stop();
}

#[test]
fn a_breaker_keeps_requests_from_a_backend_that_answers_500() {
    let mut world = Scenario {
        backends: &[HALF_500, WELL, WELL],
        keys: "passive_health.errors = 0\nretry.on = []\ncircuit_breaker.enabled = true\n\
               circuit_breaker.on = [\"5xx\"]\ncircuit_breaker.ratio = 40\ncircuit_breaker.volume = 50\n\
               circuit_breaker.window = \"2s\"\ncircuit_breaker.open = \"1s\"\n\
               circuit_breaker.open_max = \"1s\"\ncircuit_breaker.trials = 4",
    }
    .start();
    let began_ms = unix_ms();
    let (gets, posts) = (world.gets(), world.posts());
    world.until_it_turns(0, "available", "open");
    go_on(began_ms);
    let (gets, posts) = (gets.stop(), posts.stop());
    check_only(500, &gets);
    check_only(500, &posts);
    let failed = world.mocks[0].count("failed");
    assert_eq!(gets.number("errors") + posts.number("errors"), failed);
    // To trip it, what was under way then, and at most four trials in every second (of which half fail, so that it
    // opens again).
    let seconds = (unix_ms() - began_ms).div_ceil(1000);
    let most = 50 + 64 + 4 * seconds;
    let came = world.mocks[0].count("requests");
    assert!(came <= most, "{came} came, {most} may");
    world.stop();
}

/// Bursts with pauses, so that many connections are used again just when their backend closes them: as a scenario of
/// 100,000 requests.
fn bursts() -> String {
    let mut text = String::new();
    for number in 0..32 {
        let pause_ms = 169 + 2 * number;
        text += &format!(
            "[[stages]]\nfrom = 12500\nrate = 12500\nduration = \"250ms\"\n\
             [[stages]]\nfrom = 0\nrate = 0\nduration = \"{pause_ms}ms\"\n"
        );
    }
    text
}

#[test]
fn backends_close_idle_connections_under_posts() {
    let flags: &[&str] = &["--idle-close", "200"];
    let world = Scenario {
        backends: &[(1, flags); 3],
        keys: "",
    }
    .start();
    let folder = TempDir::new();
    let file = folder.0.join("bursts.toml");
    std::fs::write(&file, bursts()).unwrap();
    let load = world.load(
        "/status/200?{n}",
        &[
            &["--scenario", file.to_str().unwrap(), "--connections", "64"],
            &["--method", "POST", "--body", "100B", "--expect-body", BODY],
        ],
    );
    let witness = Witness::start(world.proxy.address, "idle");
    let (report, seen) = (load.finish(), witness.finish());
    assert_eq!(report.number("requests"), 100_000, "{}", report.summary());
    seen.check_all_good();
    world.check_posts(&report);
    // What meets a close on its way may have been executed; that is rare once their idle timeout is known.
    check_only(502, &report);
    assert!(report.number("errors") <= 10, "{}", report.summary());
    world.stop();
}

/// One request on a connection of its own: status and Retry-After.
fn get(world: &World) -> (u16, Option<String>) {
    let mut client = connect(world.proxy.address);
    client.send(b"GET /status/200 HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.head().unwrap();
    assert!(client.body(&head, false).unwrap().complete);
    let retry_after = head.all("retry-after").first().map(|&text| text.to_owned());
    (head.status().unwrap(), retry_after)
}

#[test]
fn all_are_down_and_one_comes_back() {
    let mut world = Scenario {
        backends: &[WELL; 3],
        keys: &format!("slow_start.duration = \"off\"\n{}", check_keys()),
    }
    .start();
    assert_eq!(get(&world).0, 200);
    for mock in &mut world.mocks {
        mock.kill();
    }
    for backend in 0..3 {
        world.until_it_turns(backend, "available", "down");
    }
    let (status, retry_after) = get(&world);
    let seconds = retry_after.and_then(|text| text.parse::<u64>().ok());
    assert!(status == 503 && seconds.is_some(), "{status} {seconds:?}");
    let flags: [&[&str]; 2] = [
        &["--users", "64", "--expect-status", "503"],
        &["--duration", "1s"],
    ];
    let report = world.load("/", &flags).finish();
    check_no_errors(&report);
    // At once: no connection is tried, nothing is waited for.
    assert!(report.latency_ms("p99") < 100, "{}", report.summary());

    world.mocks[1].start_again(&[]);
    let started_ms = unix_ms();
    until("requests are answered again", || get(&world).0 == 200);
    let (took_ms, most_ms) = (unix_ms() - started_ms, found_out_ms(RISE));
    assert!(took_ms <= most_ms, "back after {took_ms} of {most_ms} ms");
    world.stop();
}

#[test]
fn checks_follow_the_health_page() {
    for (all_down, status) in [("fail", 503), ("open", 200)] {
        let mut world = Scenario {
            backends: &[WELL; 2],
            keys: &format!(
                "slow_start.duration = \"off\"\nload_balancer.all_down = \"{all_down}\"\n{}",
                check_keys()
            ),
        }
        .start();
        world.mocks[0].set_health(500);
        let out_ms = world.until_it_turns(0, "available", "down");
        assert!(out_ms <= found_out_ms(FALL), "out after {out_ms} ms");
        let before = world.mocks[0].count("GET");
        check_no_errors(&world.ask("/", 8, 1000));
        assert_eq!(world.mocks[0].count("GET"), before, "it gets requests");

        world.mocks[1].set_health(500);
        world.until_it_turns(1, "available", "down");
        assert_eq!(get(&world).0, status, "{all_down}");

        // One prober for both shards.
        let (began_ms, before) = (unix_ms(), world.mocks[0].count("health"));
        until("there are more checks", || {
            world.mocks[0].count("health") >= before + 5
        });
        let least_ms = 4 * INTERVAL_MS * 4 / 5;
        assert!(unix_ms() - began_ms >= least_ms, "too many checks");

        world.mocks[0].set_health(200);
        let back_ms = world.until_it_turns(0, "down", "available");
        assert!(back_ms <= found_out_ms(RISE), "back after {back_ms} ms");
        assert_eq!(get(&world).0, 200);
        world.stop();
    }
}
