//! Backends that die and come back.
//!
//! Decides: what of a backend goes on. May not know: what it serves.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::model::Ledger;
use crate::net::Door;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Alive,
    /// The process is gone: its connections are closed, new ones refused.
    Dead,
    /// The machine is gone: nothing answers.
    Lost,
}

pub struct Life {
    ledger: Ledger,
    number: usize,
    state: Cell<State>,
    /// Grows when all connections end.
    age: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Life {
    pub fn new(ledger: Ledger, number: usize) -> Life {
        Life {
            ledger,
            number,
            state: Cell::new(State::Alive),
            age: Cell::new(0),
            wakers: RefCell::default(),
        }
    }

    pub fn is_alive(&self) -> bool {
        self.state.get() == State::Alive
    }

    pub fn door(&self) -> Door {
        match self.state.get() {
            State::Alive => Door::Accept,
            State::Dead => Door::Refuse,
            State::Lost => Door::Hang,
        }
    }

    pub fn becomes(&self, state: State) {
        self.state.set(state);
        if state != State::Alive {
            self.ledger.gone(self.number);
        }
        if state != State::Lost {
            self.age.set(self.age.get() + 1);
        }
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    /// Goes on while the backend lives.
    pub fn during(self: Rc<Self>, serve: impl Future<Output = ()>) -> impl Future<Output = ()> {
        let mut serve = Box::pin(serve);
        let (age, mut known) = (self.age.get(), false);
        poll_fn(move |cx| {
            if self.age.get() != age {
                return Poll::Ready(());
            }
            let goes_on = self.is_alive();
            if !known || !goes_on {
                self.wakers.borrow_mut().push(cx.waker().clone());
                known = true;
            }
            if goes_on {
                serve.as_mut().poll(cx)
            } else {
                Poll::Pending
            }
        })
    }
}
