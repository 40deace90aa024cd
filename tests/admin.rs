//! The admin listener of the real binary, and `corelane backends` as its client.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use corelane::mock;
use support::peer::Peer;
use support::{ENGINES, PATIENCE, Proxy, TempDir, free_address};

/// Looks until something that takes a moment has happened.
const LOOKS: usize = 2_000;

/// One shard on an engine; more keys are added.
fn config(engine: &str, more: &str) -> String {
    format!(
        "{more}\n[server]\nlisten = \"{{listen}}\"\nshards = 1\npin = false\n\
         engine = \"{engine}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"
    )
}

fn backends(addresses: &[&str]) -> String {
    let urls: Vec<String> = addresses
        .iter()
        .map(|address| format!("\"http://{address}\""))
        .collect();
    format!("backends = [{}]", urls.join(", "))
}

/// A mock backend in this process.
fn mock(name: &str) -> String {
    let (address, _) = mock::spawn(mock::Args::named(name)).unwrap();
    address.to_string()
}

fn client(proxy: &Proxy) -> Peer {
    Peer::new(TcpStream::connect(proxy.address).unwrap())
}

/// One request; which backend answered it.
fn asks(client: &mut Peer) -> String {
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.head().unwrap();
    assert_eq!(head.status(), Some(200), "{head:?}");
    client.body(&head, false).unwrap();
    head.all("x-backend").concat()
}

/// Who answered how many of so many requests.
fn shares(client: &mut Peer, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(asks(client)).or_default() += 1;
    }
    counts
}

fn share(name: &str, requests: usize) -> (String, usize) {
    (name.to_owned(), requests)
}

fn cli() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("backends").stdin(Stdio::null());
    command
}

/// `corelane backends WORDS` at a proxy's admin listener.
fn run(proxy: &Proxy, words: &str) -> Output {
    let admin = proxy.admin.to_string();
    let mut command = cli();
    command.args(words.split(' ')).args(["--admin", &admin]);
    command.output().unwrap()
}

/// What a command that goes well prints.
fn prints(proxy: &Proxy, words: &str) -> String {
    let output = run(proxy, words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""), "{words}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and message of one that does not.
fn fails(proxy: &Proxy, words: &str) -> (Option<i32>, String) {
    let output = run(proxy, words);
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

/// Status and body of a raw request to the admin listener; `lines` end the head.
fn raw(proxy: &Proxy, line: &str, lines: &str) -> (u16, String) {
    let mut peer = Peer::new(TcpStream::connect(proxy.admin).unwrap());
    peer.send(format!("{line} HTTP/1.1\r\n{lines}\r\n").as_bytes());
    let head = peer.head().unwrap();
    let body = peer.body(&head, false).unwrap();
    let text = String::from_utf8(body.bytes).unwrap();
    (head.status().unwrap(), text)
}

/// The stream of events, from now on.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(proxy: &Proxy) -> Events {
        let mut stream = TcpStream::connect(proxy.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n")
            .unwrap();
        let mut events = Events(BufReader::new(stream));
        assert_eq!(events.line(), "HTTP/1.1 200 OK\r\n");
        while events.line() != "\r\n" {}
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "it has ended");
        line
    }

    /// The next event with all of `parts`.
    fn wait_for(&mut self, parts: &[&str]) -> String {
        loop {
            let line = self.line();
            if line.starts_with("data: {") && parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }
}

#[test]
fn backends_are_listed_explained_taken_out_and_let_in() {
    let (a, b) = (mock("a"), mock("b"));
    for engine in ENGINES {
        let checks = "[health_check]\ntype = \"http\"\npath = \"/health\"\ninterval = \"1s\"\ntimeout = \"900ms\"";
        let text = format!("{}\n{checks}", backends(&[&a, &b]));
        let mut proxy = Proxy::start(&config(engine, &text));
        let mut client = client(&proxy);
        assert_eq!(
            shares(&mut client, 10),
            [share("a", 5), share("b", 5)].into()
        );

        // A request is over a moment after its last byte.
        let inflight = |count| count == 0;
        proxy
            .wait_for_metric("corelane_backend_inflight{", inflight)
            .unwrap();
        let table = prints(&proxy, "list");
        assert_eq!(table.lines().count(), 3, "{table}");
        let row = table.lines().nth(1).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        let url = format!("http://{a}");
        let expected = ["default", &url, "available", "auto", "up", "1", "0", "1"];
        assert_eq!(cells[..8], expected, "{table}");
        let json = prints(&proxy, "--json --cluster default");
        assert_eq!(
            json.matches("\"standing\":\"available\"").count(),
            2,
            "{json}"
        );

        let drained = prints(&proxy, &format!("drain {a}"));
        assert!(
            drained.contains("  draining  ") && drained.contains("  operator\n"),
            "{drained}"
        );
        assert_eq!(shares(&mut client, 10), [share("b", 10)].into());
        proxy.wait_for_message("\"mode\":\"drain\"");
        let said = proxy.wait_for_message("\"to\":\"draining\",\"cause\":\"operator\"");
        assert!(said.contains(&format!("\"backend\":\"{url}\"")), "{said}");

        // Both out: nobody is left, and one that is said to be up serves again.
        prints(&proxy, &format!("maintenance {b}"));
        assert_eq!(
            raw(&proxy, "GET /readyz", "Host: a\r\n"),
            (
                503,
                "not ready: no route has a backend, none is available in: default\n".to_owned()
            )
        );
        prints(&proxy, &format!("up http://{b}"));
        assert_eq!(
            raw(&proxy, "GET /readyz", "Host: a\r\n"),
            (200, "ok\n".to_owned())
        );
        assert_eq!(shares(&mut client, 4), [share("b", 4)].into());
        let why = prints(&proxy, &format!("why {a}"));
        for part in [
            &*format!("{url} of cluster default: gets no new clients, decided by: operator\n"),
            "by itself it would be available\n",
            "up; GET /health every 1s within 900ms, rise 2, fall 3\n",
            "last check    passed at ",
            ": status 200\n",
            "available → draining, operator\n",
        ] {
            assert!(why.contains(part), "{part} is not in\n{why}");
        }
        prints(&proxy, &format!("auto {a}"));
        prints(&proxy, &format!("auto {b}"));
        assert_eq!(
            shares(&mut client, 10),
            [share("a", 5), share("b", 5)].into()
        );
        let up = format!("corelane_backend_up{{cluster=\"default\",backend=\"{url}\"}}");
        assert_eq!(proxy.metric(&up), 1);
        let changes = format!(
            "corelane_backend_changes_total{{cluster=\"default\",backend=\"{url}\",to=\"draining\"}}"
        );
        assert_eq!(proxy.metric(&changes), 1);
        proxy.stop();
    }
}

/// A backend that says when a request has come, and answers when it is let.
fn gated() -> (String, Receiver<()>, Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (came, arrivals) = channel();
    let (gate, may) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut peer = Peer::new(stream);
            while peer.head().is_ok() {
                came.send(()).unwrap();
                may.recv().unwrap();
                peer.send(b"HTTP/1.1 200 OK\r\nX-Backend: gated\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    (address, arrivals, gate)
}

#[test]
fn a_drain_says_what_is_left_and_waits_for_it() {
    let (gated, arrivals, gate) = gated();
    let proxy = Proxy::start(&config("auto", &backends(&[&gated, &mock("a")])));
    // One of two requests goes there, and stays.
    let (mut slow, mut other) = (client(&proxy), client(&proxy));
    slow.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    other.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    arrivals.recv_timeout(PATIENCE).unwrap();

    let row = prints(&proxy, &format!("drain {gated} --json"));
    assert!(
        row.contains("\"standing\":\"draining\"") && row.contains("\"inflight\":1,"),
        "{row}"
    );
    let (code, said) = fails(&proxy, &format!("drain {gated} --wait --timeout 1ms"));
    assert_eq!((code, &*said), (Some(1), "corelane: still in flight: 1\n"));
    let waits = cli()
        .args(["drain", &gated, "--wait", "--json"])
        .args(["--admin", &proxy.admin.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    gate.send(()).unwrap();
    let output = waits.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let row = String::from_utf8(output.stdout).unwrap();
    assert!(row.contains("\"inflight\":0,"), "{row}");
    for client in [&mut slow, &mut other] {
        assert_eq!(client.head().unwrap().status(), Some(200));
    }
    proxy.stop();
}

#[test]
fn a_weight_takes_effect_and_the_last_one_stays() {
    let (a, b) = (mock("a"), mock("b"));
    for engine in ENGINES {
        let proxy = Proxy::start(&config(engine, &backends(&[&a, &b])));
        let mut client = client(&proxy);
        assert_eq!(
            shares(&mut client, 8),
            [share("a", 4), share("b", 4)].into()
        );
        for (weight, expected) in [
            (3, BTreeMap::from([share("a", 6), share("b", 2)])),
            (0, [share("b", 8)].into()),
        ] {
            let row = prints(&proxy, &format!("weight {a} {weight}"));
            assert!(
                row.contains(&format!("  {weight}, configured 1  ")),
                "{row}"
            );
            // A shard takes it over at its next tick.
            let taken = (0..LOOKS).any(|_| shares(&mut client, 8) == expected);
            assert!(taken, "weight {weight} has no effect");
            assert_eq!(shares(&mut client, 8), expected);
        }
        let (code, said) = fails(&proxy, &format!("weight {b} 0"));
        assert_eq!(code, Some(1));
        assert!(
            said.contains("would have a weight: to take this one out, drain it"),
            "{said}"
        );
        assert_eq!(asks(&mut client), "b");
        // Who is left has no weight, so nobody serves.
        prints(&proxy, &format!("drain {b}"));
        assert_eq!(raw(&proxy, "GET /readyz", "").0, 503);
        proxy.stop();
    }
}

#[test]
fn pages_in_a_browser_change_nothing() {
    let a = mock("a");
    let proxy = Proxy::start(&config("auto", &backends(&[&a])));
    let line = format!("POST /backends?backend=http://{a}&mode=drain");
    let host = format!("Host: {}\r\n", proxy.admin);
    for more in [
        format!("{host}Origin: http://evil.example\r\n"),
        format!("{host}Sec-Fetch-Site: cross-site\r\n"),
        "Host: evil.example\r\n".to_owned(),
    ] {
        let (status, text) = raw(&proxy, &line, &more);
        assert_eq!(status, 403, "{more}: {text}");
    }
    assert_eq!(raw(&proxy, &line.replace("POST", "GET"), &host).0, 400);
    assert_eq!(asks(&mut client(&proxy)), "a");
    assert_eq!(raw(&proxy, &line, &host).0, 200);
    proxy.stop();
}

#[test]
fn checks_take_a_backend_out_and_who_listens_hears_of_it() {
    let dying = TcpListener::bind(free_address()).unwrap();
    let address = dying.local_addr().unwrap().to_string();
    let checks = "[health_check]\ntype = \"tcp\"\ninterval = \"250ms\"\ntimeout = \"250ms\"\nfall = 1\nrise = 1";
    let text = format!("{}\n{checks}", backends(&[&address]));
    let proxy = Proxy::start(&config("auto", &text));
    let mut events = Events::of(&proxy);
    let mut listener = cli()
        .args(["events", "--admin", &proxy.admin.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(listener.stdout.take().unwrap());
    // It listens as soon as it prints; until then a weight that stays as it is makes an event.
    let (heard, hears) = channel();
    let printing = std::thread::spawn(move || {
        let mut line = String::new();
        printed.read_line(&mut line).unwrap();
        heard.send(line).unwrap();
        let mut rest = String::new();
        printed.read_to_string(&mut rest).unwrap();
        rest
    });
    let weigh = format!("weight {address} 1");
    let line = (0..LOOKS).find_map(|_| {
        prints(&proxy, &weigh);
        hears.try_recv().ok()
    });
    let line = line.expect("the stream of events is printed");
    assert!(
        line.starts_with("{\"timestamp\":\"") && line.contains("\"weight\":\"1\""),
        "{line}"
    );

    drop(dying);
    let backend = format!("\"backend\":\"http://{address}\"");
    let event = events.wait_for(&["\"msg\":\"backend changed\"", "\"to\":\"down\"", &backend]);
    assert!(event.contains("\"cause\":\"check: connect: "), "{event}");
    events.wait_for(&["no backend of the cluster is available"]);
    let why = prints(&proxy, &format!("why {address}"));
    for part in [
        "gets no requests, decided by: checks\n",
        "last check    failed at ",
        "available → down, check: connect: ",
    ] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    assert_eq!(proxy.metric("corelane_backend_up{"), 0);
    assert!(proxy.metric("corelane_backend_checks_total{cluster=\"default\",backend") > 1);
    let revived = TcpListener::bind(&address).unwrap();
    events.wait_for(&["\"to\":\"available\"", &backend, "\"out_ms\":\""]);
    drop(revived);

    // The stream ends with the process, and so does its printer.
    drop(events);
    proxy.stop();
    let status = listener.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let rest = printing.join().unwrap();
    assert!(
        rest.contains("\"to\":\"down\"") && rest.contains("\"to\":\"available\""),
        "{rest}"
    );
}

#[test]
fn what_is_refused_says_why_and_with_which_exit_code() {
    let a = mock("a");
    let proxy = Proxy::start(&config("auto", &backends(&[&a])));
    let near = format!("{}0", &a[..a.len() - 1]);
    let (code, said) = fails(&proxy, "why http://127.0.0.2:99999");
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with("corelane: there is no backend \"http://127.0.0.2:99999\""),
        "{said}"
    );
    assert!(
        said.ends_with(&format!("\nthere are:\n  http://{a}\n")),
        "{said}"
    );
    if near != a {
        let said = fails(&proxy, &format!("drain {near}")).1;
        assert!(
            said.contains(&format!(": did you mean http://{a}?\n")),
            "{said}"
        );
    }
    for (words, code, text) in [
        ("list --cluster defualt", 1, "did you mean default?"),
        ("dran", 2, "did you mean corelane backends drain?"),
        ("drain", 2, "drain wants a backend's URL"),
    ] {
        let (found, said) = fails(&proxy, words);
        assert_eq!(found, Some(code), "{words}: {said}");
        assert!(said.contains(text), "{words}: {said}");
    }
    assert_eq!(raw(&proxy, "GET /why?backend=x", "Host: a\r\n").0, 404);

    // Somebody else's page is no answer.
    let output = cli().args(["list", "--admin", &a]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is no admin listener"), "{said}");
    assert!(output.stdout.is_empty());

    // The configuration says where the admin listener is.
    let directory = TempDir::new();
    let file = directory.0.join("c.toml");
    let nobody = free_address().to_string();
    let refused = format!("corelane: the admin listener at {nobody}: Connection refused");
    for (listen, code, text) in [
        (proxy.admin.to_string(), 0, ""),
        (nobody, 1, &*refused),
        (
            "off".to_owned(),
            1,
            "corelane: the admin listener is off in ",
        ),
        (
            "127.0.0.1:0".to_owned(),
            1,
            "corelane: the admin listener has any port in ",
        ),
        ("nonsense".to_owned(), 78, "corelane: "),
    ] {
        std::fs::write(
            &file,
            format!("{}\nadmin.listen = \"{listen}\"", backends(&[&a])),
        )
        .unwrap();
        let output = cli().arg("-c").arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{listen}: {said}");
        assert!(said.starts_with(text), "{listen}: {said}");
    }
    proxy.stop();
}
