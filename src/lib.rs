//! Corelane: a thread-per-core HTTP/1.1 reverse proxy on io_uring.
//!
//! The modules in reading order. The first three are pure: they name neither clock, socket nor thread.

pub mod h1; // bytes ↔ HTTP/1.1 messages
pub mod policy; // decisions about a parsed message: route, balance
pub mod config; // text → File → Plan

// The shell: does I/O, calls the pure part.
pub mod buf; // the one buffer type
pub mod peek; // a look into a socket's queue, at an offset
pub mod io; // the one door to the outside: clock, connections, tasks
pub mod timer; // deadlines of a shard
pub mod shared; // what more than one core can see
pub mod shard; // what one core owns
pub mod conn; // one client connection, first byte to last
pub mod decide; // from a head to what is done with it
pub mod attempt; // one request at its backend
pub mod connect; // a new connection to a backend
pub mod upload; // the request's way to the backend
pub mod receive; // the response's way to the client
pub mod bypass; // what of a response moves in the kernel
pub mod relay; // moving body bytes: copy or splice
pub mod tunnel; // two directions of bytes after an upgrade
pub mod pool; // idle backend connections of a shard
pub mod record; // what is known about a request when it is over
pub mod metrics; // every metric, in one list
pub mod log; // the access log and the messages of the process
pub mod admin; // health, readiness and metrics, on a thread of their own
pub mod server; // the process: start, signals, drain
pub mod listen; // listening sockets and accepting
pub mod engine; // io_uring or epoll
pub mod machine; // CPUs and file descriptors
pub mod panics; // a panic ends one connection
pub mod cli; // arguments, and the configuration they name
pub mod version; // what this binary is
pub mod mock; // a backend to try things against
pub mod demo; // three mock backends and the proxy in one process
pub mod bench; // a load generator: corelane bench
