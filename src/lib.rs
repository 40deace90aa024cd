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
pub mod backends; // what all shards know of the backends
pub mod tables; // what is counted per client
pub mod password; // the thread that compares passwords
pub mod cache; // stored responses
pub mod shared; // what more than one core can see
pub mod shard; // what one core owns
pub mod conn; // one client connection, first byte to last
pub mod decide; // from a head to what is done with it
pub mod filters; // a request on its way through its route's filters
pub mod edits; // what routes change of heads
pub mod pause; // a request that waits before it is decided upon
pub mod reply; // responses of our own
pub mod auth; // forward auth
pub mod mirror; // copies for a shadow cluster
pub mod subrequest; // a request of our own to a backend
pub mod choose; // which backend a request goes to
pub mod attempt; // one request at its backend, and further attempts
pub mod exchange; // one exchange on one connection
pub mod hedge; // a second attempt beside a slow first one
pub mod visit; // what a request holds while it is under way
pub mod queue; // requests that wait for a connection
pub mod connect; // a new connection to a backend
pub mod wait; // for a stream, for two things at once
pub mod upload; // the request's way to the backend
pub mod receive; // the response's way to the client
pub mod encode; // a response's way to the client through an encoder
pub mod codec; // encoders of gzip, brotli, zstd
pub mod bypass; // what of a response moves in the kernel
pub mod throttle; // the most bytes per second
pub mod relay; // moving body bytes: copy or splice
pub mod tunnel; // two directions of bytes after an upgrade
pub mod link; // a connection to a backend, counted
pub mod pool; // idle backend connections of a shard
pub mod connections; // connections taken, kept, given up
pub mod record; // what is known about a request when it is over
pub mod metrics; // every metric, in one list
pub mod log; // the access log and the messages of the process
pub(crate) mod json; // JSON that is being written
pub mod ledger; // what has happened to backends, for people
pub mod probe; // one active check
pub mod health; // the thread that watches over backends and shards
pub mod webhook; // events posted to a URL
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
