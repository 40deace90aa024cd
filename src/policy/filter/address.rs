//! Blocks of addresses that may ask, or may not.
//!
//! Decides: whether a client's address may pass. May not know: how it was found. Invariant: what is denied is denied,
//! allowed or not; with a list of the allowed, everybody else is denied.

use std::net::IpAddr;

use crate::policy::cidr::Cidr;

/// Two lists of blocks, ready to be searched: they may hold thousands, and every request is looked up.
#[derive(Debug, Default)]
pub struct Address {
    /// `None`: everybody.
    allow: Option<Ranges>,
    deny: Ranges,
}

impl Address {
    /// With an empty list of the allowed, everybody is who is not denied.
    pub fn new(allow: &[Cidr], deny: &[Cidr]) -> Address {
        Address {
            allow: (!allow.is_empty()).then(|| Ranges::new(allow)),
            deny: Ranges::new(deny),
        }
    }

    pub fn admits(&self, ip: IpAddr) -> bool {
        let is_allowed = self.allow.as_ref().is_none_or(|allow| allow.contain(ip));
        is_allowed && !self.deny.contain(ip)
    }
}

/// First and last addresses, in order; between two ranges lies at least one address.
#[derive(Debug, Default)]
struct Ranges {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Ranges {
    fn new(blocks: &[Cidr]) -> Ranges {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for block in blocks {
            match block.network {
                IpAddr::V4(network) => {
                    let host_bits = u32::MAX.checked_shr(block.prefix.into()).unwrap_or(0);
                    let first = u32::from(network) & !host_bits;
                    v4.push((first, first | host_bits));
                }
                IpAddr::V6(network) => {
                    let host_bits = u128::MAX.checked_shr(block.prefix.into()).unwrap_or(0);
                    let first = u128::from(network) & !host_bits;
                    v6.push((first, first | host_bits));
                }
            }
        }
        Ranges {
            v4: merged(v4, |last| last.checked_add(1)),
            v6: merged(v6, |last| last.checked_add(1)),
        }
    }

    /// An IPv4-mapped address counts as its IPv4 address, as in [`Cidr::contains`].
    fn contain(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, u32::from(ip)),
            IpAddr::V6(ip) => holds(&self.v6, u128::from(ip)),
        }
    }
}

/// Overlapping and touching ranges become one. `next` is the address behind, `None` at the end.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    ranges.dedup_by(|(first, last), (_, end)| {
        let touches = next(*end).is_none_or(|next| *first <= next);
        if touches {
            *end = (*end).max(*last);
        }
        touches
    });
    ranges.into()
}

fn holds<T: Ord>(ranges: &[(T, T)], ip: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= ip);
    behind.checked_sub(1).is_some_and(|at| ip <= ranges[at].1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(text: &str) -> Cidr {
        let (network, prefix) = text.split_once('/').unwrap();
        Cidr {
            network: network.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
        }
    }

    fn blocks(text: &str) -> Vec<Cidr> {
        text.split_whitespace().map(block).collect()
    }

    #[test]
    fn who_may_pass() {
        for (allow, deny, passes, fails) in [
            ("", "", "0.0.0.0 255.255.255.255 :: ::1", ""),
            (
                "10.0.0.0/8",
                "",
                "10.0.0.0 10.255.255.255 ::ffff:10.1.1.1",
                "9.255.255.255 11.0.0.0 ::1 ::a00:1",
            ),
            (
                "",
                "10.0.0.0/8",
                "9.9.9.9 11.0.0.0 ::1",
                "10.0.0.0 10.255.255.255 ::ffff:10.0.0.1",
            ),
            (
                "10.0.0.0/8",
                "10.1.0.0/16",
                "10.0.0.1 10.2.0.0",
                "10.1.0.0 10.1.255.255 1.1.1.1",
            ),
            ("10.1.0.0/16", "10.0.0.0/8", "", "10.1.0.0 1.1.1.1"),
            ("0.0.0.0/0", "", "0.0.0.0 255.255.255.255", ":: 2001:db8::1"),
            (
                "::/0",
                "2001:db8::/32",
                ":: ffff::",
                "1.2.3.4 2001:db8:ffff::",
            ),
            (
                "2001:db8::7/128 10.0.0.7/32",
                "",
                "2001:db8::7 10.0.0.7",
                "2001:db8::6 2001:db8::8 10.0.0.6 10.0.0.8",
            ),
            // Bits behind the prefix mean nothing.
            (
                "10.9.9.9/8 2001:db8::1/32",
                "",
                "10.0.0.1 2001:db8:1::",
                "11.0.0.0",
            ),
            (
                "255.255.255.254/31 255.255.255.255/32 ffff::/16 ::/0",
                "",
                "255.255.255.255 ffff::1",
                "255.255.255.253",
            ),
        ] {
            let address = Address::new(&blocks(allow), &blocks(deny));
            let judged = |ips: &str, expected| {
                for ip in ips.split_whitespace() {
                    assert_eq!(
                        address.admits(ip.parse().unwrap()),
                        expected,
                        "{ip}: +{allow} -{deny}"
                    );
                }
            };
            judged(passes, true);
            judged(fails, false);
        }
    }

    #[test]
    fn neighbours_become_one_range() {
        let ranges = Ranges::new(&blocks(
            "10.0.1.0/24 10.0.0.0/24 10.0.0.7/32 10.0.3.0/24 ::1/128 ::/128",
        ));
        let [(_, first_end), (second, _)] = *ranges.v4 else {
            panic!("{ranges:?}");
        };
        assert_eq!((first_end, second), (0x0a00_01ff, 0x0a00_0300));
        assert_eq!(*ranges.v6, [(0, 1)]);
    }

    /// Few different bits, so that blocks overlap and addresses hit.
    fn any_ip() -> impl Strategy<Value = IpAddr> {
        let bits = proptest::sample::select(vec![
            0_u32,
            1,
            2,
            0x80,
            0xff,
            0x0100,
            0xffff_ffff,
            0xffff_fffe,
        ]);
        prop_oneof![
            bits.clone().prop_map(|bits| IpAddr::V4(bits.into())),
            bits.clone()
                .prop_map(|bits| IpAddr::V6(u128::from(bits).into())),
            bits.prop_map(|bits| IpAddr::V6((u128::MAX - u128::from(bits)).into())),
        ]
    }

    fn any_blocks() -> impl Strategy<Value = Vec<Cidr>> {
        let block = (any_ip(), 0..=128_u8).prop_map(|(network, prefix)| {
            let prefix = if network.is_ipv4() {
                prefix / 4
            } else {
                prefix
            };
            Cidr { network, prefix }
        });
        proptest::collection::vec(block, 0..12)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_look_at_each_block(
            allow in any_blocks(),
            deny in any_blocks(),
            ip in any_ip(),
        ) {
            let is_in = |blocks: &[Cidr]| blocks.iter().any(|block| block.contains(ip));
            let expected = (allow.is_empty() || is_in(&allow)) && !is_in(&deny);
            prop_assert_eq!(Address::new(&allow, &deny).admits(ip), expected);
        }
    }
}
