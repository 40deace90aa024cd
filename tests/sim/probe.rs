//! Each verdict of an active check.
//!
//! Decides: what a backend does when it is checked. Checks: the verdict and its words, what was asked, that the check
//! ends in time, reads a bounded answer and leaves no connection.

use std::cell::RefCell;
use std::rc::Rc;

use corelane::config::plan::Nanos;
use corelane::probe::{Verdict, probe};

use crate::net::{Door, Net, SimStream, Watch, Weather};
use crate::stage::{address, plan};
use crate::world::{MS, SECOND, World};

const TIMEOUT: Nanos = 700 * MS;

/// What the backend does once it has the request.
#[derive(Debug, Clone)]
enum Deed {
    /// Sends each piece, with a pause behind it, and then nothing more.
    Say(Vec<&'static [u8]>),
    /// The same, and ends.
    SayAndClose(Vec<&'static [u8]>),
    /// The same, and breaks off.
    SayAndReset(Vec<&'static [u8]>),
    /// The first, and then the second again and again.
    Repeat(&'static [u8], &'static [u8]),
}
use Deed::{Repeat, Say, SayAndClose, SayAndReset};

struct Seen {
    verdict: Verdict,
    took_ns: Nanos,
    asked: String,
    /// Bytes of the answer that were read.
    taken: u64,
}

async fn serve(world: World, stream: SimStream, deed: Deed, asked: Rc<RefCell<Vec<u8>>>) {
    while !asked.borrow().ends_with(b"\r\n\r\n") {
        match stream.receive(1_000).await {
            Ok(bytes) if !bytes.is_empty() => asked.borrow_mut().extend(bytes),
            Ok(_) | Err(_) => return,
        }
    }
    let (Say(pieces) | SayAndClose(pieces) | SayAndReset(pieces)) = &deed else {
        let Repeat(first, next) = deed else { return };
        stream.put(first);
        while stream.send(next).await.is_ok() {}
        return;
    };
    for piece in pieces {
        stream.put(piece);
        world.sleep(10 * MS).await;
    }
    match deed {
        SayAndReset(_) => stream.abort(),
        SayAndClose(_) => {}
        Say(_) | Repeat(..) => {
            while stream
                .receive(100)
                .await
                .is_ok_and(|bytes| !bytes.is_empty())
            {}
        }
    }
}

fn check(weather: Weather, keys: &str, door: Door, deed: Deed) -> Seen {
    let plan = plan(&format!(
        "backends = [\"http://10.0.0.1:80\"]\n[health_check]\ntimeout = \"700ms\"\n{keys}"
    ));
    let world = World::new(1);
    let net = Net::new(&world, weather);
    let asked = Rc::new(RefCell::new(Vec::new()));
    let watches: Rc<RefCell<Vec<Watch>>> = Rc::default();
    let (on, keep, watch) = (world.clone(), Rc::clone(&asked), Rc::clone(&watches));
    let accept = move |stream: SimStream| {
        watch.borrow_mut().push(stream.watch());
        on.spawn(serve(on.clone(), stream, deed.clone(), Rc::clone(&keep)));
    };
    net.listen(address(0), move || door, accept);
    let verdict = Rc::new(RefCell::new(None));
    let (of, set, on) = (net.clone(), Rc::clone(&verdict), world.clone());
    let begun = world.now();
    world.spawn(async move {
        let check = plan.clusters[0].check.as_ref().expect("it is on");
        let verdict = probe(&of, check, &plan.backends[0]).await;
        *set.borrow_mut() = Some((verdict, on.now()));
    });
    world.run_until(|| verdict.borrow().is_some());
    let (verdict, ended) = verdict.take().expect("waited for");
    assert_eq!(net.census(), 0, "it leaves a connection");
    let taken = watches.borrow().iter().map(Watch::taken).sum();
    world.end();
    let asked = String::from_utf8(asked.take()).expect("a head is text");
    Seen {
        verdict,
        took_ns: ended - begun,
        asked,
        taken,
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const WANTED: &str = "type = \"http\"\nbody = \"all is well\"";

fn passed(met: &str) -> Verdict {
    Verdict::Passed(met.into())
}

fn failed(met: &str) -> Verdict {
    Verdict::Failed(met.into())
}

#[test]
fn each_answer_has_its_verdict() {
    let http = "type = \"http\"";
    let no_text = || failed("status 200, but the body has no \"all is well\"");
    let cases: Vec<(&str, Deed, Verdict)> = vec![
        (http, Say(vec![OK]), passed("status 200")),
        (http, Say(vec![b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 5\r\n\r\n"]), passed("status 302")),
        (http, Say(vec![b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"]), failed("status 500")),
        (http, Say(vec![b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"]), failed("status 404")),
        ("type = \"http\"\nstatus = [\"204\"]", Say(vec![OK]), failed("status 200")),
        ("type = \"http\"\nstatus = [\"200-204\", \"418\"]", Say(vec![b"HTTP/1.1 418 Tea\r\n\r\n"]), passed("status 418")),
        (http, Say(vec![b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\nHTT", b"P/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]), passed("status 200")),
        (http, SayAndClose(vec![b"HTTP/1.0 200 OK\r\n\r\n"]), passed("status 200")),
        (http, SayAndClose(vec![]), failed("closed without a response")),
        (http, SayAndClose(vec![b"HTTP/1.1 200 OK\r\nX-Half: "]), failed("closed without a response")),
        (http, Say(vec![]), failed("no answer in time")),
        (http, Say(vec![b"HTTP/1.1 200 OK\r\nX-Half: "]), failed("no answer in time")),
        (http, Say(vec![b"HTTP/1.1 100 Continue\r\n\r\n"]), failed("no answer in time")),
        (WANTED, Say(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{all is", b" we", b"ll, indeed}"]), passed("status 200")),
        (WANTED, Say(vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\n{all \r\n", b"9\r\nis well, \r\n"]), passed("status 200")),
        (WANTED, SayAndClose(vec![b"HTTP/1.1 200 OK\r\n\r\n", b"all is well"]), passed("status 200")),
        // What comes of it is enough, though it never ends.
        (WANTED, Say(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"all is well"]), passed("status 200")),
        (WANTED, Say(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is lost"]), no_text()),
        (WANTED, SayAndClose(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\nall is we"]), no_text()),
        (WANTED, Say(vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nall is\r\n0\r\n\r\n well"]), no_text()),
        // The text is wanted of a body, and of that answer only.
        (WANTED, Say(vec![b"HTTP/1.1 200 OK\r\nX-A: all is well\r\nContent-Length: 0\r\n\r\n"]), no_text()),
        (WANTED, Say(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokall is well"]), no_text()),
        (WANTED, Say(vec![b"HTTP/1.1 500 Oops\r\nContent-Length: 11\r\n\r\nall is well"]), failed("status 500")),
        (WANTED, Say(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\nall is we"]), failed("no answer in time")),
    ];
    for (keys, deed, wanted) in cases {
        for short in [0, 90] {
            let weather = Weather {
                short,
                ..Weather::STILL
            };
            let seen = check(weather, keys, Door::Accept, deed.clone());
            assert_eq!(seen.verdict, wanted, "{keys}: {deed:?}");
            let late = seen.verdict == failed("no answer in time");
            let range = if late {
                TIMEOUT..=TIMEOUT
            } else {
                0..=200 * MS
            };
            assert!(
                range.contains(&seen.took_ns),
                "{deed:?}: {} ms",
                seen.took_ns / MS
            );
        }
    }
}

#[test]
fn what_is_no_answer_fails_with_its_reason() {
    let http = "type = \"http\"";
    for (keys, door, deed, words) in [
        (http, Door::Refuse, Say(vec![]), "connect: "),
        (http, Door::Hang, Say(vec![]), "no answer in time"),
        (http, Door::Accept, SayAndReset(vec![b"HT"]), "receive: "),
        (
            http,
            Door::Accept,
            Say(vec![b"SSH-2.0-OpenSSH\r\n\r\n"]),
            "bad response: ",
        ),
        (
            http,
            Door::Accept,
            Say(vec![
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            ]),
            "bad response: ",
        ),
        (
            WANTED,
            Door::Accept,
            Say(vec![
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            ]),
            "bad body: ",
        ),
        ("type = \"tcp\"", Door::Refuse, Say(vec![]), "connect: "),
        (
            "type = \"tcp\"",
            Door::Hang,
            Say(vec![]),
            "no answer in time",
        ),
    ] {
        let seen = check(Weather::STILL, keys, door, deed.clone());
        let Verdict::Failed(met) = &seen.verdict else {
            panic!("{deed:?}: {:?}", seen.verdict);
        };
        assert!(met.starts_with(words), "{deed:?}: {met}");
        assert!(seen.took_ns <= TIMEOUT, "{} ms", seen.took_ns / MS);
    }
}

/// However much a backend says, so much of it is read.
#[test]
fn an_endless_answer_is_read_for_a_while() {
    const LINE: &[u8] = b"X-Filler: 0123456789012345678901234567890123456789\r\n";
    let body: &[u8] = b"all is not well, and that goes on and on\n";
    for (deed, words) in [
        (Repeat(b"HTTP/1.1 200 OK\r\n", LINE), "bad response: "),
        (
            Repeat(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
            "the head is too long",
        ),
        (
            Repeat(b"HTTP/1.1 200 OK\r\n\r\n", body),
            "status 200, but the body",
        ),
        (
            Repeat(
                b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
                body,
            ),
            "status 200, but the body",
        ),
        (
            Repeat(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"4\r\nall \r\n",
            ),
            "status 200, but the body",
        ),
    ] {
        let seen = check(Weather::STILL, WANTED, Door::Accept, deed.clone());
        let Verdict::Failed(met) = &seen.verdict else {
            panic!("{deed:?}: {:?}", seen.verdict);
        };
        assert!(met.starts_with(words), "{deed:?}: {met}");
        assert!(seen.taken <= 72 * 1024, "{deed:?}: {} bytes", seen.taken);
        assert!(seen.took_ns < SECOND / 2, "{deed:?}");
    }
}

#[test]
fn it_asks_as_it_was_told() {
    let default = "GET / HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: corelane-health-check\r\n\
                   Connection: close\r\n\r\n";
    let own = "HEAD /healthz?deep=1 HTTP/1.1\r\nHost: example.org\r\nX-Probe: a b\r\nAccept: */*\r\n\
               User-Agent: corelane-health-check\r\nConnection: close\r\n\r\n";
    let keys = "type = \"http\"\nmethod = \"HEAD\"\npath = \"/healthz?deep=1\"\nhost = \"example.org\"\n\
                headers = [\"X-Probe: a b\", \"Accept: */*\"]";
    let answer: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n";
    for (keys, asked, answer) in [("type = \"http\"", default, OK), (keys, own, answer)] {
        let seen = check(Weather::STILL, keys, Door::Accept, Say(vec![answer]));
        assert_eq!(seen.asked, asked);
        assert_eq!(seen.verdict, passed("status 200"));
    }
    let tcp = check(Weather::STILL, "type = \"tcp\"", Door::Accept, Say(vec![]));
    assert_eq!((tcp.verdict, &*tcp.asked), (passed("connected"), ""));
}
