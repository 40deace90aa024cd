//! What a request and its answer are, where requests are measured.

use crate::heads::{BROWSER, RESPONSE, SMALL};
use crate::lean::{Exchange, REQUEST_END};

/// What a route does that has all of it: ids, other origins, a limit, other fields.
const FILTERS: &str = r#"
[request_id]
header = "X-Request-Id"
[cors]
origins = ["https://*.example.org"]
credentials = true
[rate_limit]
requests_per_second = 1000000
burst = 1000000
[headers]
request_set = ["X-Forwarded-By: corelane", "X-Route: {route}"]
response_set = ["X-Served-By: {backend}"]
response_remove = ["Server"]
security = true
"#;

const CACHE: &str = "[cache]\nenabled = true\n";

const ASKING: &str =
    "GET / HTTP/1.1\r\nHost: www.example.org\r\nOrigin: https://app.example.org\r\n\r\n";

/// A body of this many bytes, which ends as a request must.
fn body(bytes: usize) -> Vec<u8> {
    let mut body = vec![b'x'; bytes - REQUEST_END.len()];
    body.extend_from_slice(REQUEST_END);
    body
}

fn answer(body_bytes: usize) -> Vec<u8> {
    let head = RESPONSE.replace("4096", &body_bytes.to_string());
    [head.into_bytes(), body(body_bytes)].concat()
}

/// One that is stored.
fn storable(body_bytes: usize) -> Vec<u8> {
    let answer = answer(body_bytes);
    let split = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap_or(0);
    let head = String::from_utf8_lossy(&answer[..split]);
    let head = head.replace("private, max-age=0", "max-age=1000000000");
    let head = head.replace("Vary: Accept-Encoding\r\n", "");
    [head.as_bytes(), &answer[split..]].concat()
}

fn upload(body_bytes: usize) -> Vec<u8> {
    let head =
        format!("POST / HTTP/1.1\r\nHost: www.example.org\r\nContent-Length: {body_bytes}\r\n\r\n");
    [head.into_bytes(), body(body_bytes)].concat()
}

/// Four chunks, which come with their head.
fn chunked() -> Vec<u8> {
    let head = RESPONSE.replace("Content-Length: 4096", "Transfer-Encoding: chunked");
    let chunk = [b"3e8\r\n", &body(1000)[..], b"\r\n"].concat();
    [head.into_bytes(), chunk.repeat(4), b"0\r\n\r\n".to_vec()].concat()
}

/// Everything that is measured.
pub(crate) fn all() -> [Exchange; 10] {
    let exchange = |name, request: &[u8], response| Exchange {
        name,
        request: request.to_vec(),
        response,
        is_logged: name == "logged",
        filters: match name {
            "filtered" => FILTERS,
            "hit" | "private" => CACHE,
            _ => "",
        },
    };
    [
        exchange("get", SMALL.as_bytes(), answer(100)),
        exchange("filtered", ASKING.as_bytes(), answer(100)),
        exchange("hit", SMALL.as_bytes(), storable(4096)),
        exchange("private", SMALL.as_bytes(), answer(100)),
        exchange("browser", BROWSER.as_bytes(), answer(4096)),
        exchange("logged", BROWSER.as_bytes(), answer(4096)),
        exchange("held", &upload(2048), answer(100)),
        exchange("upload", &upload(64 * 1024), answer(100)),
        exchange("large", SMALL.as_bytes(), answer(64 * 1024)),
        exchange("chunked", SMALL.as_bytes(), chunked()),
    ]
}
