//! A backend to try things against: `corelane mock`, the demo's backends, and those of tests.
//!
//! Decides: what each path answers. Knows nothing of the proxy, so that a mistake there is not mirrored here.
//! Invariant: memory per connection is bounded, whatever sizes a request asks for.

mod answer;
mod behaviour;
mod chunked;
mod conn;
mod fast;
mod fields;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::{TcpListener, UnixListener};
use monoio::{FusionDriver, RuntimeBuilder};
use socket2::SockRef;

use behaviour::Behaviour;
pub use behaviour::Failure;

/// After an accept that failed, mostly for want of descriptors: it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How one mock backend behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// Its name, in every answer.
    pub name: String,
    /// `address:port` or `unix:/path`.
    pub listen: String,
    /// Before each answer but that of `/health`.
    pub delay_ms: u64,
    /// So many of a hundred requests fail.
    pub fail_percent: u8,
    pub failure: Failure,
    pub fail_status: u16,
    /// A connection is closed when no request has come on it for so long, without a word of warning.
    pub idle_close_ms: Option<u64>,
    /// A line is appended to it for each request: method and target.
    pub log: Option<PathBuf>,
    /// Precomputed answers, for measuring what stands in front.
    pub fast: bool,
}

impl Args {
    /// A well-behaved backend on a free port of the loopback interface.
    pub fn named(name: &str) -> Args {
        Args {
            name: name.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            delay_ms: 0,
            fail_percent: 0,
            failure: Failure::Status,
            fail_status: 500,
            idle_close_ms: None,
            log: None,
            fast: false,
        }
    }
}

/// Runs a mock backend until the process ends; returns the exit code if it cannot.
pub fn run(args: Args) -> u8 {
    let name = args.name.clone();
    let served = bind(&args.listen).and_then(|bound| {
        let place = bound.place()?;
        let thread = serve_on_thread(bound, args)?;
        println!("{name} listens on {place}");
        Ok(thread)
    });
    match served.map(JoinHandle::join) {
        Ok(_) => 1,
        Err(error) => {
            eprintln!("corelane: mock {name}: {error}");
            match error.kind() {
                io::ErrorKind::InvalidInput => 2,
                io::ErrorKind::PermissionDenied => 77,
                _ => 71,
            }
        }
    }
}

/// Starts a mock backend on a thread of its own, which ends with the process. TCP only.
pub fn spawn(args: Args) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    match bind(&args.listen)? {
        Bound::Tcp(listener) => {
            let address = listener.local_addr()?;
            Ok((address, serve_on_thread(Bound::Tcp(listener), args)?))
        }
        Bound::Unix(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

enum Bound {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl Bound {
    fn place(&self) -> io::Result<String> {
        match self {
            Bound::Tcp(listener) => Ok(format!("http://{}", listener.local_addr()?)),
            Bound::Unix(listener) => Ok(format!("{:?}", listener.local_addr()?)),
        }
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Bound::Tcp(listener) => listener.set_nonblocking(nonblocking),
            Bound::Unix(listener) => listener.set_nonblocking(nonblocking),
        }
    }

    /// Accepted connections inherit the linger time of their listener. With none, what closes them before the
    /// client has ended its side is a reset.
    fn reset_on_close(&self) -> io::Result<()> {
        match self {
            Bound::Tcp(listener) => SockRef::from(listener).set_linger(Some(Duration::ZERO)),
            Bound::Unix(_) => Ok(()),
        }
    }
}

fn bind(listen: &str) -> io::Result<Bound> {
    let Some(path) = listen.strip_prefix("unix:") else {
        let address: SocketAddr = listen.parse().map_err(|_| {
            let hint = format!("listen address {listen:?} is neither IP:PORT nor unix:/PATH");
            io::Error::new(io::ErrorKind::InvalidInput, hint)
        })?;
        return StdTcpListener::bind(address).map(Bound::Tcp);
    };
    // A socket file outlives its process; one that nobody listens on is only in the way.
    if StdUnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        fs::remove_file(path)?;
    }
    StdUnixListener::bind(path).map(Bound::Unix)
}

fn serve_on_thread(bound: Bound, args: Args) -> io::Result<JoinHandle<()>> {
    let (report, started) = sync_channel(1);
    let thread = Builder::new()
        .name(format!("mock {}", args.name))
        .spawn(move || {
            if let Err(error) = serve(bound, args, &report) {
                // Nobody listens for it if the start went well.
                let _ = report.send(Err(error));
            }
        })?;
    started
        .recv()
        .expect("the thread reports before it serves")?;
    Ok(thread)
}

fn serve(bound: Bound, args: Args, report: &SyncSender<io::Result<()>>) -> io::Result<()> {
    // The flags that make a thread's own ring cheapest (kernel 6.1); without them or without io_uring the
    // backend is slower and works the same.
    let mut flags = io_uring::IoUring::builder();
    flags.setup_single_issuer().setup_defer_taskrun();
    let best = RuntimeBuilder::<FusionDriver>::new()
        .uring_builder(flags)
        .enable_timer()
        .build();
    let mut runtime = match best {
        Ok(runtime) => runtime,
        Err(_) => RuntimeBuilder::<FusionDriver>::new()
            .enable_timer()
            .build()?,
    };
    runtime.block_on(async {
        // Under io_uring a non-blocking socket answers EAGAIN instead of waiting; under epoll it must be one.
        bound.set_nonblocking(monoio::utils::is_legacy())?;
        if args.failure == Failure::Reset {
            bound.reset_on_close()?;
        }
        let service = Service::new(args)?;
        let _ = report.send(Ok(()));
        accept(bound, service).await
    })
}

async fn accept(bound: Bound, service: Service) -> io::Result<()> {
    match bound {
        Bound::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // Only a socket that is closed already refuses this.
                        let _ = stream.set_nodelay(true);
                        service.spawn(stream);
                    }
                    Err(_) => monoio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        }
        Bound::Unix(listener) => {
            let listener = UnixListener::from_std(listener)?;
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => service.spawn(stream),
                    Err(_) => monoio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        }
    }
}

/// What a connection is served by.
enum Service {
    Full(Rc<Behaviour>),
    Fast(Rc<fast::Answers>),
}

impl Service {
    fn new(args: Args) -> io::Result<Service> {
        Ok(if args.fast {
            Service::Fast(Rc::new(fast::Answers::new(&args.name)))
        } else {
            Service::Full(Rc::new(Behaviour::new(args)?))
        })
    }

    fn spawn(&self, stream: impl AsyncReadRent + AsyncWriteRent + 'static) {
        match self {
            Service::Full(behaviour) => {
                let behaviour = Rc::clone(behaviour);
                monoio::spawn(async move {
                    // An error here has done its work: the connection is dropped.
                    let _ = answer::serve(stream, &behaviour).await;
                });
            }
            Service::Fast(answers) => {
                let answers = Rc::clone(answers);
                monoio::spawn(async move {
                    let _ = fast::serve(stream, &answers).await;
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::LazyLock;

    use super::*;

    fn connected(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        // So that a mistake fails the test instead of hanging it.
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Sends `input`, ends our side, reads all.
    fn exchange_with(address: SocketAddr, input: &str) -> String {
        let mut stream = connected(address);
        stream.write_all(input.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut output = Vec::new();
        stream.read_to_end(&mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    /// The same with a backend of its own.
    fn exchange(args: Args, input: &str) -> String {
        exchange_with(spawn(args).unwrap().0, input)
    }

    /// One backend for all requests that need no special one.
    static RED: LazyLock<SocketAddr> = LazyLock::new(|| spawn(Args::named("red")).unwrap().0);

    fn ask(request: &str) -> (String, String) {
        let output = exchange_with(*RED, request);
        let (head, body) = output.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    fn get(target: &str) -> (String, String) {
        ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
    }

    fn dechunked(mut body: &str) -> (String, Vec<usize>) {
        let (mut payload, mut sizes) = (String::new(), Vec::new());
        loop {
            let (size, rest) = body.split_once("\r\n").unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            payload.push_str(&rest[..size]);
            assert_eq!(&rest[size..size + 2], "\r\n");
            body = &rest[size + 2..];
            if size == 0 {
                assert_eq!(body, "");
                return (payload, sizes);
            }
            sizes.push(size);
        }
    }

    #[test]
    fn says_who_it_is_and_what_it_saw() {
        let (head, body) =
            ask("POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Y: z\r\nContent-Length: 3\r\n\r\nabc");
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\nX-Backend: red\r\n"),
            "{head}"
        );
        assert_eq!(
            body,
            "red\nPOST /a?b=c HTTP/1.1\nHost: x\nX-Y: z\nContent-Length: 3\n\nbody: 3 bytes\n"
        );
        assert!(
            get("/delay/1")
                .1
                .starts_with("red\nGET /delay/1 HTTP/1.1\n")
        );
        assert_eq!(get("/health").1, "ok\n");
    }

    #[test]
    fn payloads_have_their_size_and_their_bytes() {
        let (_, expected) = get("/bytes/200000");
        assert_eq!(expected.len(), 200_000);
        assert_eq!(expected[..65_536], expected[65_536..131_072]);
        for count in [0, 1, 65_535, 65_536, 65_537] {
            let (head, body) = get(&format!("/bytes/{count}"));
            assert!(
                head.contains(&format!("\r\nContent-Length: {count}")),
                "{head}"
            );
            assert_eq!(body, expected[..count]);
            for chunk_bytes in [1, 1000, 65_536, 100_000] {
                let (head, body) = get(&format!("/chunked/{count}?size={chunk_bytes}"));
                assert!(head.contains("\r\nTransfer-Encoding: chunked"));
                let (payload, sizes) = dechunked(&body);
                assert_eq!(payload, expected[..count]);
                assert!(sizes.iter().rev().skip(1).all(|size| *size == chunk_bytes));
            }
        }
        let (head, body) = ask("GET /chunked/100000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(head.contains("\r\nConnection: close") && !head.contains("Transfer-Encoding"));
        assert_eq!(body, expected[..100_000]);
    }

    #[test]
    fn statuses_and_numbers_out_of_bounds() {
        for (target, status) in [
            ("/status/204", 204),
            ("/status/304", 304),
            ("/status/599", 599),
            ("/status/199", 400),
            ("/status/600", 400),
            ("/delay/60001", 400),
            ("/bytes/", 400),
            ("/bytes/10737418241", 400),
            ("/chunked/5?size=0", 400),
            ("/chunked/5?size=1048577", 400),
            ("/__health/99", 400),
            ("/upgrade", 426),
            ("/bytes/5?header=A", 400),
            ("/upgrade?header=Connection:close", 400),
        ] {
            let (head, body) = get(target);
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{target}: {head}"
            );
            assert_eq!(body.is_empty(), matches!(status, 204 | 304), "{target}");
        }
    }

    #[test]
    fn answers_have_the_fields_that_are_wanted_and_know_their_tag() {
        let target = "/bytes/3?header=Cache-Control:%20max-age%3D60&header=ETag:%20%22a%22";
        let (head, body) = get(target);
        assert!(
            head.contains("\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n"),
            "{head}"
        );
        assert_eq!(body.len(), 3);
        for (tag, status) in [("\"a\"", 304), ("\"b\", \"a\"", 304), ("\"b\"", 200)] {
            let (head, body) = ask(&format!(
                "GET {target} HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n"
            ));
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert!(head.contains("\r\nETag: \"a\""), "{head}");
            assert_eq!(body.is_empty(), status == 304);
        }
    }

    #[test]
    fn head_has_the_fields_and_no_body() {
        for target in [
            "/",
            "/bytes/9",
            "/chunked/9",
            "/sse",
            "/status/404",
            "/echo",
            "/health",
        ] {
            let (head, body) = ask(&format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(
                head.contains("Content-Length: ") || head.contains("Transfer-Encoding: "),
                "{target}"
            );
            assert_eq!(body, "", "{target}");
        }
    }

    #[test]
    fn echo_returns_bodies_of_both_framings_and_keeps_the_connection() {
        let output = exchange_with(
            *RED,
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
             POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nT: v\r\n\r\n\
             GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        let bodies: Vec<&str> = output.split("\r\n\r\n").collect();
        assert!(
            bodies[1].starts_with("helloHTTP/1.1 200 OK\r\n"),
            "{output}"
        );
        assert_eq!(bodies[2].replace("\r\n", " "), "3 abc 1 d 0", "{output}");
        assert_eq!(bodies[4], "ok\n", "{output}");
    }

    #[test]
    fn early_answers_without_the_body_and_continue_comes_first_elsewhere() {
        let head =
            "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n";
        let mut stream = connected(*RED);
        stream
            .write_all(format!("POST /early {head}").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"));

        let mut stream = connected(*RED);
        stream
            .write_all(format!("POST / {head}").as_bytes())
            .unwrap();
        let mut answer = [0; 25];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    #[test]
    fn upgrade_echoes_until_the_client_ends() {
        let output = exchange_with(
            *RED,
            "GET /upgrade HTTP/1.1\r\nHost: a\r\nUpgrade: any\r\nConnection: Upgrade\r\n\r\nping pong",
        );
        assert!(
            output.starts_with("HTTP/1.1 101 Switching Protocols\r\nUpgrade: any\r\n"),
            "{output}"
        );
        assert!(output.ends_with("\r\n\r\nping pong"), "{output}");
    }

    #[test]
    fn events_begin_at_once() {
        let mut stream = connected(*RED);
        stream
            .write_all(b"GET /sse HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let mut seen = String::new();
        while !seen.contains("data: event 1 from red\n\n\r\n") {
            let mut piece = [0; 512];
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "{seen}");
            seen.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
        assert!(seen.contains("\r\nContent-Type: text/event-stream\r\n"));
    }

    #[test]
    fn failures_come_as_often_as_asked() {
        for (fail_percent, failed) in [(0, 0), (7, 7), (50, 50), (100, 100)] {
            let args = Args {
                fail_percent,
                fail_status: 503,
                delay_ms: 0,
                ..Args::named("red")
            };
            let output = exchange(
                args,
                &"GET /bytes/0 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100),
            );
            assert_eq!(output.matches("HTTP/1.1 503 ").count(), failed);
            assert_eq!(output.matches("HTTP/1.1 200 ").count(), 100 - failed);
        }
    }

    const GET: &[u8] = b"GET /status/200 HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Of two requests in a row the second fails; what comes instead of its answer, and how it ends.
    #[test]
    fn failures_come_in_the_mode_asked_for() {
        use io::ErrorKind::{ConnectionReset, WouldBlock};
        for (failure, bytes, end) in [
            (Failure::Status, "HTTP/1.1 500 ", Err(WouldBlock)),
            (Failure::Hang, "", Err(WouldBlock)),
            (Failure::Reset, "HTTP/1.1 200 ", Err(ConnectionReset)),
            (Failure::Close, "", Ok(())),
        ] {
            let args = Args {
                fail_percent: 50,
                failure,
                ..Args::named("red")
            };
            let mut stream = connected(spawn(args).unwrap().0);
            let mut first = [0; 4096];
            stream.write_all(GET).unwrap();
            let length = stream.read(&mut first).unwrap();
            assert!(first[..length].starts_with(b"HTTP/1.1 200 "));
            stream.write_all(GET).unwrap();
            if end == Err(WouldBlock) {
                // Nobody ends the connection: what has not come by then does not come.
                let while_waiting = Some(Duration::from_millis(100));
                stream.set_read_timeout(while_waiting).unwrap();
            }
            let mut second = Vec::new();
            // All that came before the end is in `second`, whatever the end is.
            let found = stream.read_to_end(&mut second).map(drop);
            assert_eq!(found.map_err(|error| error.kind()), end, "{failure:?}");
            let second = String::from_utf8(second).unwrap();
            assert!(second.starts_with(bytes), "{failure:?}: {second}");
            assert_eq!(second.is_empty(), bytes.is_empty(), "{failure:?}: {second}");
            let is_cut = second.ends_with("\r\nContent-Length: 100\r\n\r\n");
            assert_eq!(is_cut, failure == Failure::Reset, "{second}");
        }
    }

    #[test]
    fn idle_connections_are_closed_and_busy_ones_are_not() {
        let args = Args {
            idle_close_ms: Some(50),
            ..Args::named("red")
        };
        let (address, _) = spawn(args).unwrap();
        for input in [&b""[..], GET, b"GET /delay/200 HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut stream = connected(address);
            stream.write_all(input).unwrap();
            let mut output = Vec::new();
            stream.read_to_end(&mut output).unwrap();
            let output = String::from_utf8(output).unwrap();
            assert_eq!(output.starts_with("HTTP/1.1 200 "), !input.is_empty());
            assert!(!output.contains("Connection"), "{output}");
        }
    }

    #[test]
    fn what_it_saw_is_counted_and_logged() {
        let log = std::env::temp_dir().join(format!("corelane-mock-{}.log", std::process::id()));
        let args = || Args {
            log: Some(log.clone()),
            ..Args::named("red")
        };
        let (address, _) = spawn(args()).unwrap();
        exchange_with(
            address,
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /b?1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\
             BREW / HTTP/1.1\r\nHost: a\r\n\r\nPOST /cut HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
        );
        let counts = exchange_with(address, "GET /__count HTTP/1.1\r\nHost: a\r\n\r\n");
        let expected = "connections 2\nrequests 4\nfailed 0\nhealth 1\n\
            GET 1\nHEAD 0\nPOST 2\nPUT 0\nPATCH 0\nDELETE 0\nOPTIONS 0\nother 1\n";
        assert!(counts.ends_with(expected), "{counts}");
        // Another one goes on where the first ended.
        exchange(args(), "GET /c HTTP/1.1\r\nHost: a\r\n\r\n");
        let lines = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        assert_eq!(lines, "GET /a\nPOST /b?1\nBREW /\nPOST /cut\nGET /c\n");
    }

    #[test]
    fn its_health_is_what_it_is_told() {
        let args = Args {
            fail_percent: 100,
            ..Args::named("red")
        };
        let (address, _) = spawn(args).unwrap();
        for (request, status) in [
            ("GET /health", 200),
            ("POST /__health/503", 200),
            ("GET /health", 503),
            ("HEAD /health?x", 503),
            ("POST /__health/200", 200),
            ("GET /health", 200),
        ] {
            let request = format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n");
            let output = exchange_with(address, &request);
            let start = format!("HTTP/1.1 {status} ");
            assert!(output.starts_with(&start), "{request}: {output}");
        }
    }

    fn fast() -> Args {
        Args {
            fast: true,
            ..Args::named("red")
        }
    }

    /// The length of each answer's body.
    fn sizes(output: &str) -> Vec<usize> {
        let bodies = output.split("HTTP/1.1 ").skip(1);
        bodies
            .map(|answer| answer.split_once("\r\n\r\n").unwrap().1.len())
            .collect()
    }

    #[test]
    fn fast_answers_have_their_sizes_and_are_counted() {
        let upload = "u".repeat(1_000_000);
        let output = exchange(
            fast(),
            &format!(
                "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /4k?x HTTP/1.1\r\n\r\nHEAD /64k HTTP/1.1\r\n\r\n\
                 GET /64k HTTP/1.1\r\n\r\nGET /none HTTP/1.1\r\n\r\n\
                 POST / HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n{upload}\
                 GET /10m HTTP/1.1\r\n\r\nGET /64k-chunked HTTP/1.1\r\n\r\nGET /64k-text HTTP/1.1\r\n\r\nGET /__count HTTP/1.1\r\n\r\n"
            ),
        );
        let chunked = 65_536 + 4 * "4000\r\n\r\n".len() + "0\r\n\r\n".len();
        assert_eq!(
            sizes(&output),
            [100, 4096, 0, 65_536, 0, 100, 10_485_760, chunked, 65_536, 1]
        );
        assert!(output.ends_with("\r\n\r\n9"));
    }

    #[test]
    fn fast_answers_by_the_last_segment_and_says_what_may_be_cached() {
        let (address, _) = spawn(fast()).unwrap();
        for (target, status, bytes, is_cached) in [
            ("/r17/", 200, 100, false),
            ("/r17/?a/b", 200, 100, false),
            ("/r17/4k", 200, 4096, false),
            ("/r17/4k?/", 200, 4096, false),
            ("/r17", 404, 0, false),
            ("/r17/cache", 404, 0, false),
            ("/cache/", 200, 100, true),
            ("/cache/a?4k", 200, 100, true),
            ("/cache/a/b", 200, 100, true),
            ("/cache/a/4k", 200, 4096, true),
            ("/cache/a/64k", 200, 65_536, true),
        ] {
            let output = exchange_with(address, &format!("GET {target} HTTP/1.1\r\n\r\n"));
            assert!(
                output.starts_with(&format!("HTTP/1.1 {status} ")),
                "{target}: {output}"
            );
            assert_eq!(sizes(&output), [bytes], "{target}");
            let found = output.contains("\r\nCache-Control: max-age=3600\r\n");
            assert_eq!(found, is_cached, "{target}: {output}");
        }
    }

    #[test]
    fn fast_takes_chunked_uploads() {
        // More than its buffer, in chunks that are never in step with it.
        let chunk = format!("1869f;x=y\r\n{}\r\n", "c".repeat(0x1869f));
        let output = exchange(
            fast(),
            &format!(
                "POST /4k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\nT: v\r\n\r\n\
                 PUT / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n\
                 GET /__count HTTP/1.1\r\n\r\n",
                chunk.repeat(20)
            ),
        );
        assert_eq!(sizes(&output), [4096, 100, 1]);
        assert!(output.ends_with("\r\n\r\n2"), "{output}");
    }

    #[test]
    fn a_unix_socket_serves_and_a_stale_one_is_replaced() {
        let path = std::env::temp_dir().join(format!("corelane-mock-{}.sock", std::process::id()));
        let listen = format!("unix:{}", path.display());
        drop(bind(&listen).unwrap());
        assert!(path.exists(), "a socket file outlives its listener");
        let bound = bind(&listen).unwrap();
        serve_on_thread(bound, Args::named("red")).unwrap();
        let mut stream = StdUnixStream::connect(&path).unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
        assert!(bind(&listen).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse));
        fs::remove_file(&path).unwrap();
    }
}
