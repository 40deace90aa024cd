//! Compressed responses: whatever the framing, the pieces and the pauses, a client decodes what the backend sent, and
//! sees when it was cut.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use corelane::config::plan::{Nanos, Plan};
use corelane::policy::filter::Filter;
use corelane::policy::filter::compress::{Coding, Compress};

use crate::backend::Shape;
use crate::decode::decode;
use crate::found::by_hand;
use crate::http::{Body, Gone, Head, Wire};
use crate::net::{SimStream, Weather};
use crate::stage::{PLAN, Stage, plan};
use crate::world::{MS, Rng, SECOND, World};

const MIN_BYTES: u64 = 100;

fn compressing() -> Arc<Plan> {
    let mut plan = plan(PLAN);
    let compress = Compress {
        codings: [(Coding::Zstd, 3), (Coding::Brotli, 4), (Coding::Gzip, 5)].into(),
        min_bytes: MIN_BYTES,
        types: ["text/*".into()].into(),
    };
    let mine = Arc::get_mut(&mut plan).expect("nobody else has it yet");
    mine.routes[0].filters = [Filter::Compress(compress.into())].into();
    plan
}

fn text(length: usize) -> String {
    let mut text = String::new();
    let mut rng = Rng::new(length as u64);
    while text.len() < length {
        write!(text, "{} bottles, ", rng.below(3000)).expect("it grows");
    }
    text.truncate(length);
    text
}

/// What a backend says to each request.
#[derive(Debug, Clone)]
struct Say {
    shape: Shape,
    fields: &'static str,
    body: String,
    /// Ends after so many bytes of the body as it is sent; by a reset or not.
    cut: Option<(usize, bool)>,
    /// The body comes in so many pieces, with at most such a pause between them.
    pieces: usize,
    pause_ns: Nanos,
}

impl Say {
    fn plain(shape: Shape, body: String) -> Say {
        Say {
            shape,
            fields: "Content-Type: text/plain\r\nETag: \"a\"\r\n",
            body,
            cut: None,
            pieces: 1,
            pause_ns: 0,
        }
    }

    fn head(&self) -> String {
        let fields = self.fields;
        let framing = match self.shape {
            Shape::Length => format!("Content-Length: {}\r\n", self.body.len()),
            Shape::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Shape::UntilClose => "Connection: close\r\n".to_owned(),
            Shape::Bodiless => String::new(),
        };
        format!("HTTP/1.1 200 OK\r\n{fields}{framing}\r\n")
    }

    /// The body's pieces as they are sent.
    fn pieces(&self) -> Vec<Vec<u8>> {
        let length = self.body.len().div_ceil(self.pieces).max(1);
        let pieces = self.body.as_bytes().chunks(length);
        if self.shape != Shape::Chunked {
            return pieces.map(<[u8]>::to_vec).collect();
        }
        let chunk = |piece: &[u8]| {
            let size = format!("{:x}\r\n", piece.len());
            [size.as_bytes(), piece, b"\r\n"].concat()
        };
        let last = b"0\r\nX-Sum: 17\r\n\r\n".to_vec();
        pieces.map(chunk).chain([last]).collect()
    }

    /// `false`: the connection is over.
    async fn to(&self, world: &World, stream: &SimStream, is_head: bool) -> bool {
        if stream.send(self.head().as_bytes()).await.is_err() {
            return false;
        }
        let mut sent = 0;
        for piece in self.pieces() {
            if is_head {
                break;
            }
            let end = self
                .cut
                .map_or(piece.len(), |(at, _)| piece.len().min(at - sent));
            if stream.send(&piece[..end]).await.is_err() {
                return false;
            }
            sent += end;
            if let Some((at, reset)) = self.cut
                && at == sent
            {
                if reset {
                    stream.abort();
                }
                return false;
            }
            world.sleep(world.below(self.pause_ns + 1)).await;
        }
        self.shape != Shape::UntilClose
    }
}

/// What a client has got.
#[derive(Debug)]
struct Got {
    head: Head,
    body: Vec<u8>,
    ended: Result<(), Gone>,
}

impl Got {
    fn coding(&self) -> Option<Coding> {
        let name = self.head.one("Content-Encoding")?;
        let found = Coding::ALL.into_iter().find(|coding| coding.name() == name);
        Some(found.unwrap_or_else(|| panic!("{name}")))
    }

    /// What it decodes to, and whether that is a whole.
    fn decoded(&self) -> (Vec<u8>, bool) {
        match self.coding() {
            None => (self.body.clone(), self.ended.is_ok()),
            Some(coding) => decode(coding, &self.body),
        }
    }
}

fn stage(seed: u64, weather: Weather, say: &Say) -> Stage {
    let stage = Stage::new(seed, weather, &compressing(), 1, false);
    let (world, say) = (stage.world.clone(), say.clone());
    by_hand(&stage, move |stream| {
        let (world, say) = (world.clone(), say.clone());
        async move {
            let mut wire = Wire::new(&world, &stream, 1);
            while let Ok(head) = wire.head().await {
                if !say
                    .to(&world, &stream, head.line.starts_with("HEAD "))
                    .await
                {
                    return;
                }
            }
        }
    });
    stage
}

/// Asks once; `None`: nothing came.
fn ask(stage: &Stage, request: String) -> Option<Got> {
    let stream = stage.connect(0).expect("there is room");
    let (got, over) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
    let (world, keep, done) = (stage.world.clone(), Rc::clone(&got), Rc::clone(&over));
    stage.world.spawn(async move {
        let mut wire = Wire::new(&world, &stream, 2);
        stream.send(request.as_bytes()).await.expect("it is open");
        if let Ok(head) = wire.head().await {
            let mut body = Vec::new();
            let framing = match (head.number("Content-Length"), head.one("Transfer-Encoding")) {
                (_, _) if request.starts_with("HEAD ") => Body::None,
                (Some(length), None) => Body::Length(length),
                (None, Some("chunked")) => Body::Chunked,
                (None, None) => Body::UntilClose,
                (_, Some(_)) => panic!("{head:?}"),
            };
            let ended = wire.body(framing, &mut body).await;
            *keep.borrow_mut() = Some(Got { head, body, ended });
        }
        done.set(true);
    });
    stage.world.run_until(|| over.get());
    got.take()
}

fn get(accept: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n")
}

fn weather(rng: &mut Rng) -> Weather {
    Weather {
        short: rng.pick(&[0, 0, 30, 80]),
        latency_ns: rng.pick(&[0, MS, 150 * MS]),
        late: rng.pick(&[0, 30]),
        window: rng.pick(&[500, 5000, 64 * 1024]),
    }
}

fn say(rng: &mut Rng) -> Say {
    let most = rng.pick(&[200, 10_000, 100_000]);
    let shape = rng.pick(&[Shape::Length, Shape::Chunked, Shape::UntilClose]);
    let mut say = Say::plain(shape, text(rng.below(most) as usize));
    say.pieces = rng.pick(&[1, 2, 7, 60]);
    say.pause_ns = rng.pick(&[0, 10 * MS, 300 * MS]);
    if rng.chance(20) {
        say.fields = "Content-Type: text/event-stream\r\n";
    }
    say
}

#[test]
fn what_is_sent_is_what_is_decoded() {
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let (weather, say) = (weather(&mut rng), say(&mut rng));
        let coding = rng.pick(&Coding::ALL);
        let stage = stage(seed, weather, &say);
        let got = ask(&stage, get(coding.name())).expect("an answer");
        assert_eq!(got.ended, Ok(()), "{seed}: {say:?}");
        let short = say.shape == Shape::Length && (say.body.len() as u64) < MIN_BYTES;
        let expected = Some(coding).filter(|_| !short);
        assert_eq!(got.coding(), expected, "{seed}: {say:?}");
        assert!(
            got.decoded() == (say.body.clone().into_bytes(), true),
            "{seed}: {say:?}"
        );
        let again = ask(&stage, get(coding.name())).expect("an answer");
        assert!(again.decoded() == got.decoded(), "{seed}: {say:?}");
        stage.finish();
    }
}

#[test]
fn a_cut_response_is_seen_to_be_cut() {
    let mut begun = 0;
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let (weather, mut say) = (weather(&mut rng), say(&mut rng));
        say.body += &text(200);
        let bytes: usize = say.pieces().iter().map(Vec::len).sum();
        // The end of a connection without a reset is the end of such a body.
        let reset = say.shape == Shape::UntilClose || rng.chance(50);
        let at = rng.below(bytes as u64) as usize;
        say.cut = Some((at, reset));
        let coding = rng.pick(&Coding::ALL);
        let stage = stage(seed, weather, &say);
        if let Some(got) = ask(&stage, get(coding.name()))
            && got.head.line == "HTTP/1.1 200 OK"
        {
            begun += 1;
            assert!(got.ended.is_err(), "{seed}: {say:?}");
            let (decoded, whole) = got.decoded();
            assert!(!whole, "{seed}: {say:?}");
            assert!(say.body.as_bytes().starts_with(&decoded), "{seed}: {say:?}");
        }
        stage.finish();
    }
    assert!(begun > 50, "only {begun}");
}

/// The head has not been sent yet, so the client gets a proper refusal.
#[test]
fn a_bad_chunk_that_comes_with_the_head_is_refused() {
    for chunks in ["zz\r\n", "3\r\nabc\r\nzz\r\n"] {
        let stage = Stage::new(1, Weather::STILL, &compressing(), 1, false);
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
        by_hand(&stage, move |stream| async move {
            let _ = stream.receive(10_000).await;
            stream.put([head, chunks].concat().as_bytes());
        });
        let got = ask(&stage, get("gzip")).expect("an answer");
        assert_eq!(got.head.line, "HTTP/1.1 502 Bad Gateway", "{chunks}");
        assert_eq!(got.ended, Ok(()), "{chunks}");
        stage.finish();
    }
}

/// The client has what the backend has said, though neither says more.
#[test]
fn nothing_is_held_back_while_the_backend_is_silent() {
    for (fields, within_ns) in [
        ("Content-Type: text/plain\r\n", 200 * MS),
        ("Content-Type: text/event-stream\r\n", 5 * MS),
    ] {
        for coding in Coding::ALL {
            let mut say = Say::plain(Shape::Chunked, text(50_000));
            say.fields = fields;
            let stage = Stage::new(1, Weather::STILL, &compressing(), 1, true);
            let world = stage.world.clone();
            let body = say.body.clone();
            by_hand(&stage, move |stream| {
                let (world, say) = (world.clone(), say.clone());
                async move {
                    let _ = stream.receive(10_000).await;
                    stream.put(say.head().as_bytes());
                    for piece in say.body.as_bytes().chunks(10_000) {
                        stream.put(format!("{:x}\r\n", piece.len()).as_bytes());
                        stream.put(piece);
                        stream.put(b"\r\n");
                        world.sleep(SECOND).await;
                    }
                    stream.put(b"0\r\n\r\n");
                }
            });
            let stream = stage.connect(0).expect("there is room");
            stream.put(get(coding.name()).as_bytes());
            let got = Rc::new(RefCell::new(Vec::new()));
            let keep = Rc::clone(&got);
            stage.world.spawn(async move {
                while let Ok(bytes) = stream.receive(100_000).await
                    && !bytes.is_empty()
                {
                    keep.borrow_mut().extend(bytes);
                }
            });
            for pieces in 1..=5 {
                stage.run_for(within_ns);
                let (decoded, whole) = decode(coding, &unchunked(&got.borrow()));
                let said = &body.as_bytes()[..pieces * 10_000];
                assert!(decoded == said, "{coding:?} {fields} {pieces}");
                assert!(!whole);
                stage.run_for(SECOND - within_ns);
            }
            stage.run_for(SECOND);
            assert!(decode(coding, &unchunked(&got.borrow())) == (body.into_bytes(), true));
            stage.finish();
        }
    }
}

/// The payload of what has come so far.
fn unchunked(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let mut rest = &bytes[end.expect("a head") + 4..];
    let mut out = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..at]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        out.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 4 + size..];
    }
    out
}

#[test]
fn the_head_tells_what_was_done() {
    let say = Say {
        fields: "Content-Type: text/plain\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n",
        ..Say::plain(Shape::Length, text(5000))
    };
    let image = Say {
        fields: "Content-Type: image/png\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n",
        ..say.clone()
    };
    let http10 = "GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n".to_owned();
    let encoded =
        "Content-Encoding gzip,ETag W/\"a\",Vary Accept-Encoding,Transfer-Encoding chunked";
    let varies = "ETag \"a\",Accept-Ranges bytes,Vary Accept-Encoding,Content-Length 5000";
    let plain = "ETag \"a\",Accept-Ranges bytes,Content-Length 5000";
    for (say, request, expected) in [
        (&say, get("gzip"), encoded),
        (&say, get("gzip").replace("GET", "HEAD"), encoded),
        (&say, get("identity"), varies),
        (&say, get("identity").replace("GET", "HEAD"), varies),
        (&say, http10, varies),
        (&image, get("gzip"), plain),
    ] {
        let stage = stage(1, Weather::STILL, say);
        let got = ask(&stage, request.clone()).expect("an answer");
        let fields = got.head.fields.iter().filter(|(name, _)| {
            !["Content-Type", "Date", "Via", "Connection"].contains(&name.as_str())
        });
        let fields: Vec<String> = fields
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        assert_eq!(fields.join(","), expected, "{request}");
        stage.finish();
    }
}

/// A client that leaves takes its encoder along, and the next one finds it as if it were new.
#[test]
fn a_client_may_leave_in_the_middle() {
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let mut say = say(&mut rng);
        say.body += &text(30_000);
        let coding = rng.pick(&Coding::ALL);
        let stage = stage(seed, Weather::STILL, &say);
        let leaver = stage.connect(0).expect("there is room");
        leaver.put(get(coding.name()).as_bytes());
        stage.run_for(rng.below(2) * 50 * MS + MS);
        leaver.abort();
        drop(leaver);
        let got = ask(&stage, get(coding.name())).expect("an answer");
        assert!(
            got.decoded() == (say.body.clone().into_bytes(), true),
            "{seed}: {say:?}"
        );
        stage.finish();
    }
}
