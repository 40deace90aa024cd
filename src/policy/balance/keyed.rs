//! Consistent hashing, with or without a bound for the load (Mirrokni and others, 2016).
//!
//! Decides: who gets a key, and who instead. May not know: what the key was made of. Invariant: while its first choice
//! is usable, within its bound and not in slow start, a key stays; else it goes to the next on the ring, the same one
//! for as long as the reason lasts.

use super::hash::mix;
use super::{BackendId, Member, SHARE_WHOLE, View};

mod ring;

use ring::Ring;

/// Points of the ring that one pick looks at: so many for each member, within these bounds. By then it has met nearly
/// all members of a small cluster, and a thousand points of a large one; then it looks at every member.
const WALK_PER_MEMBER: usize = 8;
const WALK_MIN: usize = 64;
const WALK_MAX: usize = 1_024;

#[derive(Debug, Clone)]
pub(super) struct Keyed {
    ring: Ring,
    total_weight: u64,
    /// Most that a member may have of its part of the cluster's load, in percent.
    bound_percent: Option<u32>,
}

impl Keyed {
    pub(super) fn new(members: &[Member], names: &[&str], bound_percent: Option<u32>) -> Keyed {
        let weights = members.iter().map(|member| member.weight);
        Keyed {
            total_weight: weights.clone().map(u64::from).sum(),
            ring: Ring::new(names.iter().copied().zip(weights)),
            bound_percent,
        }
    }

    pub(super) fn is_bounded(&self) -> bool {
        self.bound_percent.is_some()
    }

    pub(super) fn pick(&self, members: &[Member], key: u64, view: &impl View) -> Option<BackendId> {
        let hash = mix(key);
        let walk = (members.len() * WALK_PER_MEMBER).clamp(WALK_MIN, WALK_MAX);
        let near = self.ring.from(hash).take(walk).map(|at| at as usize);
        let start = hash as usize % members.len();
        let all = (start..members.len()).chain(0..start);
        let mut passed = None;
        for at in near.chain(all) {
            let member = members[at];
            if view.usable(member.id) {
                if has_started(member, hash, view) && self.has_room(member, view) {
                    return Some(member.id);
                }
                passed = passed.or(Some(member.id));
            }
        }
        passed
    }

    /// Whether one more request leaves its load within the bound, which is rounded up.
    fn has_room(&self, member: Member, view: &impl View) -> bool {
        self.bound_percent.is_none_or(|percent| {
            let total_load = u128::from(view.total_load()) + 1;
            let bound = u128::from(percent) * total_load * u128::from(member.weight);
            bound > u128::from(view.load(member.id)) * u128::from(self.total_weight) * 100
        })
    }
}

/// In slow start a member gets its own keys little by little: each comes once, and stays.
fn has_started(member: Member, hash: u64, view: &impl View) -> bool {
    let share = view.share(member.id);
    let lot = mix(hash ^ u64::from(member.id.0)) % u64::from(SHARE_WHOLE);
    share >= SHARE_WHOLE || lot < u64::from(share)
}
