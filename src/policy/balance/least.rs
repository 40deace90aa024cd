//! Least connections: the smallest load for its weight, among all members.
//!
//! Decides: who has least. May not know: who counts the loads. Invariant: nobody usable has less than the one found,
//! save that an idle member whose turn it is goes first.

use super::turn::Turn;
use super::{BackendId, Member, SHARE_WHOLE, View};

/// The best so far of a scan: (load + 1) / (weight × share) is smallest.
struct Best {
    /// Its load and the request to come.
    load: u64,
    /// Its weight times its share, below 2^24.
    weight: u64,
    /// Where it stands; `None` while nobody was usable.
    at: Option<usize>,
}

impl Best {
    /// Worse than every member. Products with a weight stay below 2^64.
    const NOBODY: Best = Best {
        load: 1 << 33,
        weight: 1,
        at: None,
    };
}

/// An idle member takes the request if it is its turn: so weights hold in an idle cluster too, where the heaviest
/// would win every comparison, and such a pick costs as little as round robin. Else everybody is looked at, from
/// behind the last one found, so that equals take turns.
pub(super) fn pick(
    members: &[Member],
    order: &[u32],
    heaviest: u32,
    turn: &mut Turn,
    view: &impl View,
) -> Option<BackendId> {
    let at = turn.advance(order);
    let next = members[at as usize].id;
    if view.load(next) == 0 && view.usable(next) && turn.accepts(view.share(next)) {
        turn.after = at + 1;
        return Some(next);
    }
    let start = (turn.after as usize).min(members.len());
    let (before, behind) = members.split_at(start);
    let best = scan(behind, start, heaviest, Best::NOBODY, view);
    let at = scan(before, 0, heaviest, best, view).at?;
    turn.after = at as u32 + 1;
    Some(members[at].id)
}

/// Compares by multiplying crosswise. Whoever would not be better with its whole share is passed without a look at
/// its health or share, which is most: one nanosecond each (bench balance/least_connections).
fn scan(members: &[Member], first: usize, heaviest: u32, best: Best, view: &impl View) -> Best {
    let mut best = best;
    if best.load == 1 && best.weight == u64::from(heaviest * SHARE_WHOLE) {
        return best;
    }
    for (at, member) in members.iter().enumerate() {
        let load = u64::from(view.load(member.id)) + 1;
        let whole = u64::from(member.weight * SHARE_WHOLE);
        if load * best.weight >= best.load * whole || !view.usable(member.id) {
            continue;
        }
        let weight = member.weight_of(view.share(member.id));
        if load * best.weight < best.load * weight {
            best = Best {
                load,
                weight,
                at: Some(first + at),
            };
            // Nobody has less than nothing.
            if load == 1 && weight == u64::from(heaviest * SHARE_WHOLE) {
                break;
            }
        }
    }
    best
}
