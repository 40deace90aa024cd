//! The runtime under a shard: io_uring with the best flags that this kernel takes, or epoll.
//!
//! Decides: which engine runs. May not know: what runs on it. Invariant: what was probed is what is built.

use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::config::plan::Engine;

/// Submission entries of a ring; completions get twice as many. More operations than this wait in user space
/// for the next submission, so it is no limit on connections.
const RING_ENTRIES: u32 = 1024;

/// An engine that works here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// SINGLE_ISSUER + DEFER_TASKRUN: completions are handled when we ask for them (kernel 6.1).
    UringDefer,
    /// COOP_TASKRUN: no interrupt for a completion (kernel 5.19).
    UringCoop,
    /// No flags (kernel 5.6).
    UringPlain,
    Epoll,
}

impl Chosen {
    pub fn name(self) -> &'static str {
        match self {
            Chosen::UringDefer | Chosen::UringCoop | Chosen::UringPlain => "io_uring",
            Chosen::Epoll => "epoll",
        }
    }

    pub fn flags(self) -> &'static str {
        match self {
            Chosen::UringDefer => "single_issuer+defer_taskrun",
            Chosen::UringCoop => "coop_taskrun",
            Chosen::UringPlain => "none",
            Chosen::Epoll => "",
        }
    }

    fn ring(self) -> io_uring::Builder {
        let mut builder = io_uring::IoUring::builder();
        match self {
            Chosen::UringDefer => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            Chosen::UringCoop => {
                builder.setup_coop_taskrun();
            }
            Chosen::UringPlain | Chosen::Epoll => {}
        }
        builder
    }

    /// Runs a future on this engine, on this thread, to its end.
    pub fn block_on<F: Future>(self, future: F) -> io::Result<F::Output> {
        match self {
            Chosen::UringDefer | Chosen::UringCoop | Chosen::UringPlain => {
                let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
                    .uring_builder(self.ring())
                    .with_entries(RING_ENTRIES)
                    .enable_timer()
                    .build()?;
                Ok(runtime.block_on(future))
            }
            Chosen::Epoll => {
                let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
                    .enable_timer()
                    .build()?;
                Ok(runtime.block_on(future))
            }
        }
    }
}

/// The best engine that is allowed and works, and why a better one does not. An error when io_uring was
/// asked for by name and is refused.
pub fn choose(wanted: Engine) -> Result<(Chosen, Option<String>), io::Error> {
    if wanted == Engine::Epoll {
        return Ok((Chosen::Epoll, None));
    }
    let mut refused = None;
    for chosen in [Chosen::UringDefer, Chosen::UringCoop, Chosen::UringPlain] {
        match probe(chosen) {
            Ok(()) => return Ok((chosen, refused)),
            Err(error) => {
                let reason = format!("io_uring with flags {}: {error}", chosen.flags());
                if chosen == Chosen::UringPlain && wanted == Engine::IoUring {
                    return Err(error);
                }
                refused = Some(reason);
            }
        }
    }
    Ok((Chosen::Epoll, refused))
}

/// Makes a small ring and throws it away.
fn probe(chosen: Chosen) -> io::Result<()> {
    let ring = chosen.ring().build(8)?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    use io_uring::opcode;
    let needed = [
        opcode::Accept::CODE,
        opcode::Connect::CODE,
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::PollAdd::CODE,
        opcode::AsyncCancel::CODE,
    ];
    if needed.iter().all(|code| probe.is_supported(*code)) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel's io_uring lacks socket operations",
        ))
    }
}
