//! Purging with the real binary: at the admin listener, by `corelane cache`, and what shards then find.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

mod support;

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use corelane::mock;
use support::peer::Peer;
use support::{ENGINES, PATIENCE, Proxy, free_address};

/// Connections among which each of two shards has some.
const CLIENTS_MAX: usize = 200;

/// Two shards that cache what one backend says.
fn config(engine: &str, backend: &str, more: &str) -> String {
    format!(
        "[server]\nlisten = \"{{listen}}\"\nshards = 2\npin = false\nengine = \"{engine}\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[cache]\nenabled = true\n\
         [[clusters]]\nname = \"main\"\nbackends = [\"http://{backend}\"]\n\
         [[routes]]\ncluster = \"main\"\n{more}"
    )
}

/// A route whose keys have a field of the request.
const TENANTS: &str = "[[routes]]\ncluster = \"main\"\npath_prefix = \"/tenant\"\n\
    cache = { key = [\"scheme\", \"host\", \"path\", \"query\", \"header:X-Tenant\"] }\n";

fn mock() -> String {
    let (address, _) = mock::spawn(mock::Args::named("a")).unwrap();
    address.to_string()
}

fn client(proxy: &Proxy) -> Peer {
    Peer::new(TcpStream::connect(proxy.address).unwrap())
}

/// Status of an answer, and what the cache did.
fn ask(client: &mut Peer, target: &str, lines: &str) -> (u16, String) {
    let head = format!("GET {target} HTTP/1.1\r\nHost: site.test\r\n{lines}\r\n");
    client.send(head.as_bytes());
    let head = client.head().unwrap();
    client.body(&head, false).unwrap();
    (head.status().unwrap(), head.all("cache-status").concat())
}

/// Whether this client would get it without a backend.
fn finds(client: &mut Peer, target: &str, lines: &str) -> bool {
    let lines = format!("{lines}Cache-Control: only-if-cached\r\n");
    match ask(client, target, &lines) {
        (200, did) => {
            assert!(did.contains("; hit"), "{target}: {did}");
            true
        }
        (504, _) => false,
        other => panic!("{target}: {other:?}"),
    }
}

/// Clients of both shards.
fn clients(proxy: &Proxy) -> Vec<Peer> {
    let mut clients = Vec::new();
    let served = |shard: u8| {
        proxy.metric(&format!(
            "corelane_shard_requests_total{{shard=\"{shard}\"}}"
        )) > 0
    };
    while clients.len() < CLIENTS_MAX {
        let mut one = client(proxy);
        assert!(!finds(&mut one, "/", ""));
        clients.push(one);
        if clients.len() >= 8 && served(0) && served(1) {
            return clients;
        }
    }
    panic!("a shard has none of {CLIENTS_MAX} connections");
}

fn cli(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("cache").args(words).stdin(Stdio::null());
    command
}

/// `corelane cache WORDS` at a proxy's admin listener.
fn run(proxy: &Proxy, words: &[&str]) -> Output {
    let admin = proxy.admin.to_string();
    cli(words).args(["--admin", &admin]).output().unwrap()
}

/// What a command that goes well prints.
fn prints(proxy: &Proxy, words: &[&str]) -> String {
    let output = run(proxy, words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and message of one that does not.
fn fails(proxy: &Proxy, words: &[&str]) -> (Option<i32>, String) {
    let output = run(proxy, words);
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

/// Status and body of a raw request to the admin listener.
fn raw(proxy: &Proxy, line: &str) -> (u16, String) {
    let mut peer = Peer::new(TcpStream::connect(proxy.admin).unwrap());
    peer.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let head = peer.head().unwrap();
    let body = peer.body(&head, false).unwrap();
    (
        head.status().unwrap(),
        String::from_utf8(body.bytes).unwrap(),
    )
}

/// Path and query with the fields that the backend shall send, and fields of the request.
const STORED: [(&str, &str); 7] = [
    (
        "/a/1?header=Cache-Control:%20max-age%3D600&header=Cache-Tag:%20news,%20front",
        "",
    ),
    (
        "/a/2?header=Cache-Control:%20max-age%3D600&header=Surrogate-Key:%20news",
        "",
    ),
    (
        "/b/1?header=Cache-Control:%20max-age%3D600&header=Vary:%20Accept-Language",
        "Accept-Language: en\r\n",
    ),
    (
        "/b/1?header=Cache-Control:%20max-age%3D600&header=Vary:%20Accept-Language",
        "Accept-Language: fr\r\n",
    ),
    (
        "/tenant/1?header=Cache-Control:%20max-age%3D600&header=Cache-Tag:%20t",
        "X-Tenant: one\r\n",
    ),
    (
        "/tenant/1?header=Cache-Control:%20max-age%3D600&header=Cache-Tag:%20t",
        "X-Tenant: two words\r\n",
    ),
    (
        "/tenant/1?header=Cache-Control:%20max-age%3D600&header=Cache-Tag:%20t",
        "",
    ),
];

#[test]
fn no_shard_finds_what_is_purged_and_every_one_finds_the_rest() {
    let backend = mock();
    for engine in ENGINES {
        let proxy = Proxy::start(&config(engine, &backend, TENANTS));
        let mut clients = clients(&proxy);
        let url = |at: usize| format!("http://site.test{}", STORED[at].0);
        let loud = url(0).replace("site.test", "SITE.Test:80");
        let mut purged = 0;
        // Two variants have an entry that tells of them.
        for (words, count, gone) in [
            (vec![&*url(0)], 1, &[0][..]),
            (vec![&*loud], 1, &[0]),
            (vec![&*url(2)], 1, &[2, 3]),
            (vec![&*url(4)], 3, &[4, 5, 6]),
            (vec!["http://site.test/a/1"], 0, &[]),
            (vec!["--prefix", "http://site.test/a/"], 2, &[0, 1]),
            (vec!["--prefix", "http://site.test/b"], 3, &[2, 3]),
            (vec!["--prefix", "http://site.tes:80/"], 0, &[]),
            (
                vec!["--prefix", "http://site.test/"],
                8,
                &[0, 1, 2, 3, 4, 5, 6],
            ),
            (vec!["--tag", "news"], 2, &[0, 1]),
            (vec!["--tag", "new"], 0, &[]),
            (vec!["--tag", "t"], 3, &[4, 5, 6]),
            (vec!["--all"], 8, &[0, 1, 2, 3, 4, 5, 6]),
        ] {
            // So that the counts do not depend on what was before.
            let before = prints(&proxy, &["purge", "--all"]);
            purged += before
                .split([' ', ','])
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap();
            for (target, lines) in STORED {
                let (status, did) = ask(&mut clients[0], target, lines);
                assert!(status == 200 && did.contains("; stored"), "{target}: {did}");
            }
            let all = clients.iter_mut();
            for (at, client) in all.enumerate() {
                let (target, lines) = STORED[at % STORED.len()];
                assert!(finds(client, target, lines), "{target}");
            }

            let words = [&["purge"], &words[..]].concat();
            let said = prints(&proxy, &words);
            assert_eq!(
                said,
                format!("purged {count}, from all 2 shards\n"),
                "{words:?}"
            );
            purged += count;
            for client in &mut clients {
                for (at, (target, lines)) in STORED.into_iter().enumerate() {
                    let found = finds(client, target, lines);
                    assert_eq!(found, !gone.contains(&at), "{words:?}: {target} {lines}");
                }
            }
        }
        assert_eq!(proxy.metric("corelane_cache_purged_total "), purged);
        assert_eq!(proxy.metric("corelane_cache_entries "), 0);
        assert_eq!(proxy.metric("corelane_cache_bytes "), 0);
        proxy.stop();
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nCache-Tag: news\r\n\
    Content-Length: 2\r\n\r\nok";

/// A backend that answers, but hands over the connection of a request with X-Hold.
fn holding() -> (String, Receiver<Peer>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (hands_over, held) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let hands_over = hands_over.clone();
            std::thread::spawn(move || {
                let mut peer = Peer::new(stream);
                while let Ok(head) = peer.head() {
                    if !head.all("x-hold").is_empty() {
                        return hands_over.send(peer).unwrap();
                    }
                    peer.send(ANSWER);
                }
            });
        }
    });
    (address, held)
}

/// A request that is at the backend when something is purged gets its answer, and who comes later another one.
#[test]
fn what_is_fetched_while_it_is_purged_is_not_stored() {
    let (backend, held) = holding();
    let proxy = Proxy::start(&config("auto", &backend, ""));
    let (mut first, mut later) = (client(&proxy), client(&proxy));
    let mut is_stored = |target: &str, words: &[&str]| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: site.test\r\nX-Hold: 1\r\n\r\n");
        first.send(head.as_bytes());
        let mut backend = held.recv_timeout(PATIENCE).unwrap();
        prints(&proxy, &[&["purge"], words].concat());
        backend.send(ANSWER);
        // Nobody serves this connection any more.
        drop(backend);
        let head = first.head().unwrap();
        assert_eq!(head.status(), Some(200), "{words:?}");
        assert_eq!(first.body(&head, false).unwrap().bytes, b"ok");
        let (status, did) = ask(&mut later, target, "");
        assert_eq!(status, 200, "{words:?}: {did}");
        // Unless something was purged meanwhile, everything is stored.
        assert!(finds(&mut first, target, ""), "{words:?}");
        did.contains("; hit")
    };
    for (target, words) in [
        ("/0", &["http://site.test/0"][..]),
        ("/1", &["--prefix", "http://site.test/"]),
        ("/2", &["--prefix", "http://other.test/"]),
        ("/3", &["--tag", "news"]),
        ("/4", &["--tag", "other"]),
        ("/5", &["--all"]),
    ] {
        assert!(!is_stored(target, words), "{words:?}");
    }
    // Another URL may be taken for it, one in a thousand times.
    let mut targets = ["/6", "/7", "/8"].into_iter();
    assert!(targets.any(|target| is_stored(target, &["http://site.test/other"])));
    proxy.stop();
}

#[test]
fn figures_for_people_and_for_programs() {
    let mut proxy = Proxy::start(&config("auto", &mock(), "[routes.cache]\n"));
    let mut client = client(&proxy);
    let target = STORED[0].0;
    for _ in 0..3 {
        ask(&mut client, target, "");
    }
    ask(&mut client, "/never?header=Cache-Control:no-store", "");
    let text = prints(&proxy, &[]);
    for line in [
        "entries        ",
        "bytes_max      67108864\n",
        "evictions      0\n",
        "stored         1\n",
        "requests       4\n",
        "  hit          2 (50.0 %)\n",
        "  miss         2 (50.0 %)\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let json = prints(&proxy, &["--json"]);
    let same = raw(&proxy, "GET /cache?format=json");
    assert_eq!(same, (200, json.clone()));
    for part in ["{\"entries\":", "\"stored\":1,", "\"requests\":{\"hit\":2,"] {
        assert!(json.contains(part), "{part} is not in {json}");
    }
    let encoded = target.replace('%', "%25").replace('&', "%26");
    let line = format!("POST /cache/purge?url=http://site.test{encoded}&format=json");
    let answer = "{\"purged\":1,\"shards\":2}\n".to_owned();
    assert_eq!(raw(&proxy, &line), (200, answer));
    proxy.wait_for_message("\"msg\":\"the operator purges the cache\"");
    assert!(!finds(&mut client, target, ""));
    proxy.stop();
}

#[test]
fn what_is_refused_says_why_and_with_which_exit_code() {
    let backend = mock();
    let proxy = Proxy::start(&config("auto", &backend, ""));
    let no_url = "it is no URL that a request can have: write http://host/path\n";
    for (words, code, said) in [
        (
            vec!["purge", "site.test/a"],
            1,
            format!("corelane: url \"site.test/a\": {no_url}"),
        ),
        (
            vec!["purge", "--prefix", "http://site.test"],
            1,
            "corelane: prefix \"http://site.test\": a prefix has a whole host: write http://host/\n".into(),
        ),
        (
            vec!["purge", "--tag", "a,b"],
            1,
            "corelane: tag \"a,b\": it is no tag: a tag has neither spaces nor commas\n".into(),
        ),
        (
            vec!["purge"],
            2,
            "corelane: purge wants a URL, --prefix, --tag or --all\n".into(),
        ),
        (vec!["prge"], 2, "corelane: cache has no \"prge\"\n".into()),
    ] {
        let (found, text) = fails(&proxy, &words);
        assert_eq!(found, Some(code), "{words:?}: {text}");
        assert!(text.starts_with(&said), "{words:?}: {text}");
    }
    assert_eq!(raw(&proxy, "GET /cache/purge?all=true").0, 405);
    assert_eq!(raw(&proxy, "POST /cache/purge?url=x").0, 400);
    proxy.stop();

    let off = config("auto", &backend, "").replace("enabled = true", "enabled = false");
    let proxy = Proxy::start(&off);
    let said =
        "no route caches: cache.enabled = true, at the top level or in a route, turns it on\n";
    for words in [&[][..], &["purge", "--all"]] {
        let found = fails(&proxy, words);
        assert_eq!(found, (Some(1), format!("corelane: {said}")), "{words:?}");
    }
    assert_eq!(raw(&proxy, "GET /cache"), (409, said.to_owned()));
    assert_eq!(proxy.metric("corelane_cache_bytes_max "), 0);
    proxy.stop();

    let nobody = free_address().to_string();
    let output = cli(&["purge", "--all", "--admin", &nobody])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}
