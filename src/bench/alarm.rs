//! An alarm clock with the precision of the kernel's timers.
//!
//! Decides nothing. The runtime's own timers count in milliseconds, which is ten times what a request takes.
//! Invariant: one sleeper at a time.

use std::io;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::config::plan::Nanos;
use crate::io::{Socket, Stream};

const SECOND: Nanos = 1_000_000_000;

pub(super) struct Alarm {
    /// A timer, not a socket: all that is asked of it is whether it is readable.
    timer: Socket,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Alarm {
            timer: Socket::accepted(timer, false)?,
        })
    }

    pub(super) async fn sleep(&self, ns: Nanos) -> io::Result<()> {
        let part = |ns: Nanos| i64::try_from(ns).unwrap_or(i64::MAX);
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: part(ns / SECOND),
                // Zero would disarm it.
                tv_nsec: part((ns % SECOND).max(1)),
            },
        };
        // Setting it also forgets that it has gone off before.
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value)?;
        self.timer.readable().await
    }
}
