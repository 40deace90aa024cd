//! Algorithms that draw from the round: random, and the better one of two.
//!
//! Decides: who is drawn, and who of two is better. May not know: how anybody does who was not drawn. Invariant: a pick
//! costs the same for ten members and ten thousand; only where a few draws find nobody, everybody is looked at.

use super::turn::Turn;
use super::{BackendId, Member, View};

/// Draws until giving up: with half of the members down, one pick in 65,536 gives up, and then looks at all.
const DRAWS_MAX: u32 = 16;

/// A latency of one hour counts for a backend whose first response is still out: it gets one request at a time until
/// it has answered, or its part of the load if nobody has answered yet.
const UNKNOWN_NS: u64 = 3_600_000_000_000;

pub(super) fn random(
    members: &[Member],
    order: &[u32],
    turn: &mut Turn,
    view: &impl View,
) -> Option<BackendId> {
    let fits = |member: Member, turn: &mut Turn| {
        view.usable(member.id) && turn.accepts(view.share(member.id))
    };
    let drawn = draw(members, order, turn, fits);
    Some(drawn.or_else(|| any(members, turn, view))?.id)
}

/// The smaller load for its weight. An idle member takes the request if it is drawn first: nobody of its weight has
/// less, and the heaviest would win every comparison in an idle cluster.
pub(super) fn power_of_two(
    members: &[Member],
    order: &[u32],
    turn: &mut Turn,
    view: &impl View,
) -> Option<BackendId> {
    let first = draw_usable(members, order, turn, view)?;
    if view.load(first.id) == 0 && turn.accepts(view.share(first.id)) {
        return Some(first.id);
    }
    let cost = |member: Member| u64::from(view.load(member.id)) + 1;
    Some(better(first, members, order, turn, view, cost).id)
}

/// The smaller product of latency and load, for its weight.
pub(super) fn peak_ewma(
    members: &[Member],
    order: &[u32],
    turn: &mut Turn,
    view: &impl View,
) -> Option<BackendId> {
    let first = draw_usable(members, order, turn, view)?;
    let cost = |member: Member| {
        let latency_ns = match (view.latency_ns(member.id), view.load(member.id)) {
            (0, 0) => 0,
            (0, _) => UNKNOWN_NS,
            (latency_ns, _) => latency_ns,
        };
        latency_ns.saturating_mul(u64::from(view.load(member.id)) + 1)
    };
    Some(better(first, members, order, turn, view, cost).id)
}

/// The cheaper of the first and another one, if one can be drawn.
fn better(
    first: Member,
    members: &[Member],
    order: &[u32],
    turn: &mut Turn,
    view: &impl View,
    cost: impl Fn(Member) -> u64,
) -> Member {
    if members.len() == 1 {
        return first;
    }
    let fits = |member: Member, _: &mut Turn| member.id != first.id && view.usable(member.id);
    let Some(second) = draw(members, order, turn, fits) else {
        return first;
    };
    let weight = |member: Member| u128::from(member.weight_of(view.share(member.id)));
    let first_cost = u128::from(cost(first)) * weight(second);
    let second_cost = u128::from(cost(second)) * weight(first);
    if second_cost < first_cost {
        second
    } else {
        first
    }
}

fn draw_usable(
    members: &[Member],
    order: &[u32],
    turn: &mut Turn,
    view: &impl View,
) -> Option<Member> {
    let fits = |member: Member, _: &mut Turn| view.usable(member.id);
    let drawn = draw(members, order, turn, fits);
    drawn.or_else(|| any(members, turn, view))
}

fn draw(
    members: &[Member],
    order: &[u32],
    turn: &mut Turn,
    fits: impl Fn(Member, &mut Turn) -> bool,
) -> Option<Member> {
    for _ in 0..DRAWS_MAX {
        let member = members[turn.draw(order) as usize];
        if fits(member, turn) {
            return Some(member);
        }
    }
    None
}

/// One of all usable members, by weight and share. For when a look at a few has found nobody.
pub(super) fn any(members: &[Member], turn: &mut Turn, view: &impl View) -> Option<Member> {
    let mut chosen = None;
    let mut total = 0;
    for member in members {
        if view.usable(member.id) {
            let weight = member.weight_of(view.share(member.id));
            total += weight;
            if turn.below(total) < weight {
                chosen = Some(*member);
            }
        }
    }
    chosen
}
