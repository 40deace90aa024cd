//! The rules of caching, a table each. Rows name the section of RFC 9111 that they show, or of another RFC with its
//! number before it.

mod conditional;
mod control;
mod key;
mod random;
mod range;
mod store;
mod update;
mod vary;

use crate::h1::head::{Request, Response, Slots, parse_request, parse_response};
use crate::h1::{Limits, Method};

/// What `judge` says of a request with these fields, a line each.
fn with_request<T>(
    target: &str,
    fields: &[impl AsRef<[u8]>],
    judge: impl FnOnce(&Request<'_, '_>) -> T,
) -> T {
    let mut head = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n").into_bytes();
    append(fields, &mut head);
    with_request_head(&head, judge)
}

fn with_request_head<T>(head: &[u8], judge: impl FnOnce(&Request<'_, '_>) -> T) -> T {
    let mut slots = Slots::new();
    let parsed = parse_request(head, &Limits::DEFAULT, &mut slots);
    judge(&parsed.unwrap().unwrap())
}

/// What `judge` says of a response with these fields, a line each.
fn with_response<T>(
    status: u16,
    fields: &[impl AsRef<[u8]>],
    judge: impl FnOnce(&Response<'_, '_>) -> T,
) -> T {
    let mut head = format!("HTTP/1.1 {status} So\r\n").into_bytes();
    append(fields, &mut head);
    let mut slots = Slots::new();
    let parsed = parse_response(&head, &Limits::DEFAULT, Method::Get, &mut slots);
    judge(&parsed.unwrap().unwrap())
}

fn append(fields: &[impl AsRef<[u8]>], head: &mut Vec<u8>) {
    for field in fields {
        head.extend_from_slice(field.as_ref());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
}
