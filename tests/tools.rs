//! Other people's programs as clients: what curl, gzip, brotli, zstd, OpenSSL and perl's crypt make is taken, and they
//! take what we make.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corelane::io::unix_ms;
use support::compression::{payload, routes};
use support::load::Mock;
use support::site::Site;
use support::{TempDir, free_address};

/// Runs it to its end; what it printed. It must end well.
fn output(program: &str, args: &[&str], stdin: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    let writer = std::thread::spawn(move || pipe.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    output.stdout
}

fn curl(args: &[&str]) -> Vec<u8> {
    let most = ["--silent", "--show-error", "--max-time", "20"];
    output("curl", &[&most[..], args].concat(), b"")
}

/// Codings, and who undoes them.
const DECODERS: [(&str, &str); 3] = [("gzip", "gzip"), ("br", "brotli"), ("zstd", "zstd")];

#[test]
fn decoders_read_what_was_compressed() {
    let site = Site::start(&routes());
    for (coding, decoder) in DECODERS {
        for (path, length) in [
            ("bytes/1024", 1_024),
            ("bytes/65536", 65_536),
            ("bytes/3000001", 3_000_001),
            ("chunked/3000001?size=17", 3_000_001),
        ] {
            let accept = format!("Accept-Encoding: {coding}\r\n");
            let (head, body) = site.ask(&format!("GET /{coding}/{path}"), &accept);
            let case = format!("{coding} {path}: {head:?}");
            assert_eq!(head.status(), Some(200), "{case}");
            assert_eq!(head.all("content-encoding"), [coding], "{case}");
            assert_eq!(head.all("vary").len(), 1, "{case}");
            assert!(body.complete && body.bytes.len() < length, "{case}");
            let decoded = output(decoder, &["-dc"], &body.bytes);
            assert!(decoded == payload(length), "{case}");
        }
    }
    site.stop();
}

#[test]
fn curl_reads_what_was_compressed() {
    const LENGTH: usize = 10_000_000;
    let site = Site::start(&routes());
    let url = |path: &str| format!("http://{}{path}", site.proxy.address);
    for route in ["gzip", "br", "zstd", "any"] {
        for kind in ["bytes", "chunked"] {
            let url = url(&format!("/{route}/{kind}/{LENGTH}"));
            let found = curl(&["--compressed", &url]);
            assert!(found == payload(LENGTH), "{route} {kind}");
        }
    }
    site.stop();
}

/// A process that is ended when the test is.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn events_come_one_by_one_through_compression() {
    /// The mock sends one each second.
    const EVENTS: usize = 3;
    let site = Site::start(&routes());
    let read = |coding: &str| {
        let mut child = Command::new("curl")
            .args([
                "--silent",
                "--no-buffer",
                "--compressed",
                "--include",
                "--max-time",
                "20",
            ])
            .args(["--header", &format!("Accept-Encoding: {coding}")])
            .arg(format!("http://{}/{coding}/sse", site.proxy.address))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let child = Running(child);
        let coding = coding.to_owned();
        std::thread::spawn(move || {
            let _child = child;
            let mut lines = stdout.lines().map(Result::unwrap);
            let field = format!("Content-Encoding: {coding}");
            let head = lines.by_ref().take_while(|line| !line.is_empty());
            assert!(head.filter(|line| *line == field).count() == 1, "{coding}");
            let data = lines.filter(|line| line.starts_with("data: "));
            let came = data.map(|line| (line, unix_ms())).take(EVENTS);
            let came: Vec<(String, u64)> = came.collect();
            assert_eq!(came.len(), EVENTS, "{coding}");
            for (at, (line, _)) in came.iter().enumerate() {
                let number = at + 1;
                assert_eq!(*line, format!("data: event {number} from mock"), "{coding}");
            }
            // Those that were kept back would come with the last.
            let took_ms = came[EVENTS - 1].1 - came[0].1;
            assert!(took_ms >= 1_000, "{coding}: all within {took_ms} ms");
        })
    };
    let readers = DECODERS.map(|(coding, _)| read(coding));
    for reader in readers {
        reader.join().unwrap();
    }
    site.stop();
}

/// Status of what curl gets, and the body.
fn fetch(site: &Site, path: &str, args: &[&str]) -> (String, String) {
    let url = format!("http://{}{path}", site.proxy.address);
    let last = ["--write-out", "\n%{http_code}", &url];
    let text = String::from_utf8(curl(&[args, &last[..]].concat())).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn curl_shows_its_password() {
    let crypt = "print crypt($ARGV[0], q($2b$05$abcdefghijklmnopqrstuu))";
    let hash = output("perl", &["-e", crypt, "correct horse"], b"");
    let hash = String::from_utf8(hash).unwrap();
    assert!(hash.starts_with("$2b$05$") && hash.len() == 60, "{hash}");
    let site = Site::start(&format!(
        "backends = [\"http://{{backend}}\"]\nlog.access = false\n\
         [access]\nbasic_users = ['ann:{hash}']\n\
         [rate_limit]\nrequests_per_hour = 6\nkey = \"user\"\n"
    ));
    for (args, expected) in [
        (&[][..], "401"),
        (&["--user", "ann:correct horse"], "200"),
        // Compared before, and remembered.
        (&["--user", "ann:correct horse"], "200"),
        // Asks first how it may show it.
        (&["--anyauth", "--user", "ann:correct horse"], "200"),
        (&["--user", "ann:wrong"], "401"),
        (&["--user", "bob:correct horse"], "401"),
        (&["--user", "ann:"], "401"),
        (&["--header", "Authorization: Basic !"], "401"),
        // Of its own limit only what was hers is used up.
        (&["--user", "ann:correct horse"], "200"),
        (&["--user", "ann:correct horse"], "200"),
        (&["--user", "ann:correct horse"], "200"),
        (&["--user", "ann:correct horse"], "429"),
    ] {
        assert_eq!(fetch(&site, "/status/200", args).0, expected, "{args:?}");
    }
    assert_eq!(site.mock.count("requests"), 6);
    // One came with --anyauth.
    assert_eq!(site.rejected("credentials_missing"), 2);
    assert_eq!(site.rejected("credentials_wrong"), 3);
    assert_eq!(site.rejected("credentials_bad"), 1);
    assert_eq!(site.rejected("rate_limited"), 1);
    site.stop();
}

/// `openssl dgst`, with the arguments that name the key.
fn sign(header: &str, claims: &str, dgst: &[&str]) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.as_bytes())
    );
    let args = [&["dgst", "-sha256", "-binary"], dgst].concat();
    let signature = output("openssl", &args, signed.as_bytes());
    format!("{signed}.{}", encode(&signature))
}

const SECRET: &str = "a secret of more than 32 characters";

/// Key pairs as OpenSSL makes them.
struct Keys {
    folder: TempDir,
}

impl Keys {
    fn new() -> Keys {
        let keys = Keys {
            folder: TempDir::new(),
        };
        for name in ["key", "other"] {
            let file = keys.file(name);
            let args = ["genpkey", "-quiet", "-algorithm", "RSA", "-out", &file];
            output("openssl", &args, b"");
        }
        let (key, public) = (keys.file("key"), keys.file("public"));
        let args = ["pkey", "-in", &key, "-pubout", "-out", &public];
        output("openssl", &args, b"");
        keys
    }

    fn file(&self, name: &str) -> String {
        self.folder.0.join(name).to_str().unwrap().to_owned()
    }

    /// A route that wants the key, and one that wants the secret.
    fn config(&self) -> String {
        let public = self.file("public");
        format!(
            "log.access = false\n\
             [[clusters]]\nname = \"main\"\nbackends = [\"http://{{backend}}\"]\n\
             [[routes]]\ncluster = \"main\"\npath_prefix = \"/rsa/\"\n\
             [routes.access]\njwt_key = \"file:{public}\"\njwt_issuers = [\"us\"]\n\
             [routes.headers]\nrequest_set = [\"X-User: {{user}}\"]\n\
             [[routes]]\ncluster = \"main\"\npath_prefix = \"/hmac/\"\n\
             [routes.access]\njwt_secret = \"{SECRET}\"\n"
        )
    }
}

/// Claims of ann.
fn claims(issuer: &str, expires_s: u64) -> String {
    format!(r#"{{"sub":"ann","iss":"{issuer}","exp":{expires_s}}}"#)
}

#[test]
fn tokens_that_openssl_signed_are_taken() {
    const RSA: &str = r#"{"alg":"RS256","typ":"JWT"}"#;
    const HMAC: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    let keys = Keys::new();
    let site = Site::start(&keys.config());
    let now_s = unix_ms() / 1000;
    let (good, late) = (claims("us", now_s + 600), claims("us", now_s - 600));
    let foreign = claims("them", now_s + 600);
    let by = |key: &str, claims: &str| sign(RSA, claims, &["-sign", &keys.file(key)]);
    let by_secret = |claims: &str| sign(HMAC, claims, &["-hmac", SECRET]);
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let genuine = by("key", &good);
    let (head, rest) = genuine.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let changed = format!("{head}.{}.{signature}", encode(&foreign));
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&good));
    // The public key as a secret: what a careless server takes.
    let pem = std::fs::read_to_string(keys.file("public")).unwrap();
    let confused = sign(HMAC, &good, &["-hmac", &pem]);
    for (what, path, token, expected) in [
        ("good", "/rsa/x", &genuine, "200"),
        ("late", "/rsa/x", &by("key", &late), "401"),
        ("foreign", "/rsa/x", &by("key", &foreign), "403"),
        ("another key", "/rsa/x", &by("other", &good), "401"),
        ("changed", "/rsa/x", &changed, "401"),
        ("unsigned", "/rsa/x", &unsigned, "401"),
        ("public key as secret", "/rsa/x", &confused, "401"),
        ("good secret", "/hmac/x", &by_secret(&good), "200"),
        ("late secret", "/hmac/x", &by_secret(&late), "401"),
        ("key for secret", "/hmac/x", &genuine, "401"),
    ] {
        let field = format!("Authorization: Bearer {token}");
        let (status, body) = fetch(&site, path, &["--header", &field]);
        assert_eq!(status, expected, "{what}: {body}");
        if what == "good" {
            assert!(body.contains("\nX-User: ann\n"), "{body}");
        }
    }
    assert_eq!(fetch(&site, "/rsa/x", &[]).0, "401");
    assert_eq!(site.mock.count("requests"), 2);
    site.stop();
}

#[test]
fn another_server_says_who_may_ask() {
    let folder = TempDir::new();
    let auth = Mock::start("auth", &folder.0, &[]);
    let hung = Mock::start("hung", &folder.0, &["--fail-mode", "hang"]);
    let mut config = "log.access = false\n\
                      [[clusters]]\nname = \"main\"\nbackends = [\"http://{backend}\"]\n"
        .to_owned();
    for (name, address) in [
        ("auth", auth.address),
        ("hung", hung.address),
        ("down", free_address()),
    ] {
        config += &format!("[[clusters]]\nname = \"{name}\"\nbackends = [\"http://{address}\"]\n");
    }
    let cases = [
        ("/yes/", "auth", "/status/204", "200"),
        ("/who/", "auth", "/status/401", "401"),
        ("/no/", "auth", "/status/403", "403"),
        ("/error/", "auth", "/status/500", "503"),
        ("/hung/", "hung", "/", "503"),
        ("/down/", "down", "/", "503"),
    ];
    for (prefix, cluster, path, _) in cases {
        config += &format!(
            "[[routes]]\ncluster = \"main\"\npath_prefix = \"{prefix}\"\n[routes.access]\n\
             forward_cluster = \"{cluster}\"\nforward_path = \"{path}\"\n\
             forward_copy = [\"X-Backend\"]\nforward_timeout = \"300ms\"\n"
        );
    }
    let site = Site::start(&config);
    for (prefix, _, _, expected) in cases {
        let path = format!("{prefix}x");
        let own = ["--header", "X-Backend: forged", "--data", "hello"];
        let (status, body) = fetch(&site, &path, &own);
        assert_eq!(status, expected, "{prefix}: {body}");
        if expected == "200" {
            // Its word goes before the client's.
            assert!(body.contains("\nX-Backend: auth\n"), "{body}");
            assert!(!body.contains("forged"), "{body}");
            assert!(body.contains("\nbody: 5 bytes\n"), "{body}");
        }
    }
    assert_eq!(site.mock.count("requests"), 1);
    assert_eq!(auth.count("requests"), 4);
    site.stop();
}
