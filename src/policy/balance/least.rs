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
    /// From this load on, the request to come included, even the heaviest member would not be better.
    limit: u64,
    /// Where it stands; `None` while nobody was usable.
    at: Option<usize>,
}

impl Best {
    /// Worse than every member. Products with a weight stay below 2^64.
    const NOBODY: Best = Best {
        load: 1 << 33,
        weight: 1,
        limit: u64::MAX,
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
    let mut best = scan(behind, start, heaviest, Best::NOBODY, view);
    if best.limit > 1 {
        best = scan(before, 0, heaviest, best, view);
    }
    let at = best.at?;
    turn.after = at as u32 + 1;
    Some(members[at].id)
}

/// Compares by multiplying crosswise. Most members are passed by a look at their load alone, which costs less than a
/// nanosecond (bench balance/least_connections).
fn scan(members: &[Member], first: usize, heaviest: u32, mut best: Best, view: &impl View) -> Best {
    for (at, member) in members.iter().enumerate() {
        let load = u64::from(view.load(member.id)) + 1;
        let could_be_better =
            load < best.limit && load * best.weight < best.load * member.weight_of(SHARE_WHOLE);
        if !could_be_better || !view.usable(member.id) {
            continue;
        }
        let weight = member.weight_of(view.share(member.id));
        if load * best.weight < best.load * weight {
            let whole = u64::from(heaviest * SHARE_WHOLE);
            best = Best {
                load,
                weight,
                limit: (load * whole).div_ceil(weight),
                at: Some(first + at),
            };
        }
        // An idle member of the largest weight: nobody has less.
        if best.limit <= 1 {
            break;
        }
    }
    best
}
