//! A real browser, and the pages that it opens.
//!
//! Decides: how Chromium is started and ended, and how a page hands over what it saw. Knows nothing of the proxy.
//! Invariant: no process of a browser outlives the call that started it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::TempDir;

/// For a page and all that it does. Starting takes some seconds where many tests run.
const PATIENCE: Duration = Duration::from_secs(60);

const FLAGS: [&str; 10] = [
    "--headless",
    // Tests may run as root, who has no sandbox.
    "--no-sandbox",
    // In a container, it is small.
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // A page's timers run out at once when it waits for nothing else; the wait for a response is no part of this.
    "--virtual-time-budget=10000",
];

/// What `<pre id="seen">` of a page holds when the page is done. `hosts`: names, and where they are.
pub(crate) fn seen(url: &str, hosts: &[(&str, IpAddr)]) -> String {
    let dom = dump(url, hosts);
    let text = dom.split_once("<pre id=\"seen\">");
    let text = text.and_then(|(_, rest)| rest.split_once("</pre>"));
    let (text, _) = text.unwrap_or_else(|| panic!("no element in {dom:?}"));
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

/// The document after its scripts have run.
fn dump(url: &str, hosts: &[(&str, IpAddr)]) -> String {
    let rules = hosts.iter().map(|(name, ip)| format!("MAP {name} {ip}"));
    let rules: Vec<String> = rules.collect();
    let profile = TempDir::new();
    let mut child = Command::new("chromium")
        .args(FLAGS)
        .arg(format!("--user-data-dir={}", profile.0.display()))
        .arg(format!("--host-resolver-rules={}", rules.join(", ")))
        .args(["--dump-dom", url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // It has children.
        .process_group(0)
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut dom = String::new();
        let read = stdout.read_to_string(&mut dom);
        let _ = sender.send(read.map(|_| dom));
    });
    let dom = receiver.recv_timeout(PATIENCE);
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // Before it is waited for, so that the number is still its own.
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().unwrap();
    dom.expect("the browser ends in time").unwrap()
}

/// Serves one page under every path, until the process ends; `lines` are further fields, each with its line end.
pub(crate) fn serve(page: &'static str, lines: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A browser opens connections that it does not use.
            std::thread::spawn(move || answer(stream, page, lines));
        }
    });
    address
}

fn answer(mut stream: TcpStream, page: &str, lines: &str) {
    let mut head = Vec::new();
    let mut bytes = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => head.extend_from_slice(&bytes[..count]),
            Ok(_) | Err(_) => return,
        }
    }
    let length = page.len();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n{lines}\r\n{page}"
    );
}
