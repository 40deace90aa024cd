//! Who asks: the kinds of access of a route, any of which is enough.
//!
//! Decides: what the verdicts of several kinds mean together. May not know: how each comes to its own. Invariant: nobody
//! passes without a verdict that names a user; a refusal says how each kind is asked.

use super::{Asked, Step};
use crate::decide::Pause;
use crate::io::Io;
use crate::metrics::Reason;
use crate::policy::filter::Filter;
use crate::policy::filter::basic::{self, Basic};
use crate::policy::filter::identity::{Fault, Identity};

/// Asks the kinds in `group`, which begins at the filter `at`.
pub(super) fn known<I: Io>(asked: &mut Asked<'_, '_, '_, I>, group: &[Filter], at: usize) -> Step {
    let shard = asked.shard;
    let mut fault = None;
    for filter in group {
        let unix_s = shard.unix_ms_at(shard.timers.now()) / 1000;
        let mut tokens = shard.tokens.borrow_mut();
        let identity = match filter {
            Filter::Basic(basic) => match password(asked, basic) {
                Ok(identity) => identity,
                Err(Step::Pause(pause)) => {
                    asked.found.next = at;
                    return Step::Pause(pause);
                }
                Err(step) => return step,
            },
            Filter::ApiKey(keys) => keys.identify(asked.request),
            Filter::Jwt(jwt) => jwt.identify(asked.request, &mut tokens, unix_s),
            Filter::RequestId(_)
            | Filter::Address(_)
            | Filter::Cors(_)
            | Filter::Limit(_)
            | Filter::ForwardAuth(_)
            | Filter::UserLimit(_)
            | Filter::Headers(_)
            | Filter::Compress(_) => Identity::Nobody,
        };
        match identity {
            Identity::User(name) => {
                asked.found.user.push_str(name);
                return Step::Continue;
            }
            Identity::Nobody => {}
            Identity::Refused(why) => fault = fault.or(Some((why, filter))),
        }
    }
    challenge(asked, group, fault);
    Step::Refuse(match fault.map(|(why, _)| why) {
        None => Reason::CredentialsMissing,
        Some(Fault::Malformed) => Reason::CredentialsBad,
        Some(Fault::Wrong) => Reason::CredentialsWrong,
        Some(Fault::TokenBad) => Reason::TokenBad,
        Some(Fault::TokenExpired) => Reason::TokenExpired,
        Some(Fault::TokenClaims) => Reason::TokenClaims,
    })
}

/// Whose password the request has. `Err`: that takes a while, or nobody has the time for it.
fn password<'f, I: Io>(
    asked: &mut Asked<'_, '_, '_, I>,
    basic: &'f Basic,
) -> Result<Identity<'f>, Step> {
    let shard = asked.shard;
    let now = shard.timers.now();
    let known = basic.ask(asked.request, &shard.shared.verified, now);
    let trial = match known {
        basic::Asked::Known(identity) => return Ok(identity),
        basic::Asked::Hash(trial) => trial,
    };
    if let Some(fits) = asked.found.password.take() {
        return Ok(trial.judge(fits, &shard.shared.verified, now));
    }
    let passwords = shard.shared.passwords.as_ref();
    match passwords.and_then(|passwords| passwords.verify(trial.hash(), trial.password())) {
        Some(ticket) => Err(Step::Pause(Pause::Password(ticket))),
        None => Err(Step::Refuse(Reason::AccessBusy)),
    }
}

/// Tells how each kind is asked, and the one whose credentials came what was wrong with them.
fn challenge<I: Io>(
    asked: &mut Asked<'_, '_, '_, I>,
    group: &[Filter],
    fault: Option<(Fault, &Filter)>,
) {
    let out = &mut asked.found.to_client;
    for filter in group {
        let own = fault.filter(|(_, faulty)| std::ptr::eq(*faulty, filter));
        let own = own.map(|(why, _)| why);
        match filter {
            Filter::Basic(basic) => basic.challenge(out),
            Filter::ApiKey(keys) => keys.challenge(own, out),
            Filter::Jwt(jwt) => jwt.challenge(own, out),
            Filter::RequestId(_)
            | Filter::Address(_)
            | Filter::Cors(_)
            | Filter::Limit(_)
            | Filter::ForwardAuth(_)
            | Filter::UserLimit(_)
            | Filter::Headers(_)
            | Filter::Compress(_) => {}
        }
    }
}
