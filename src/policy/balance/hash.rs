//! A stable 64-bit hash of keys and names.
//!
//! Decides: numbers. May not know: what they stand for. Invariant: the same bytes give the same number in every
//! process and version, because clients come back to the backend that this number chose (a test holds values).

/// 2^64 divided by the golden ratio, odd: the step of splitmix64.
pub(super) const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hashes a key or a name. Not for tables that an attacker could fill: there is no secret in it.
pub fn hash(bytes: &[u8]) -> u64 {
    let start = STEP ^ bytes.len() as u64;
    mix(bytes.chunks(8).fold(start, |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        fold(state ^ u64::from_le_bytes(word))
    }))
}

/// Multiplies to 128 bits and folds them: every bit of a word reaches every bit of the state.
fn fold(word: u64) -> u64 {
    let product = u128::from(word) * 0xD6E8_FEB8_6659_FD93_u128;
    (product >> 64) as u64 ^ product as u64
}

/// The finish of splitmix64: neighbouring numbers become unrelated ones, no two the same.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_for_ever() {
        let cases: [(&str, u64); 5] = [
            ("", 0xE220_A839_7B1D_CDAF),
            ("a", 0x513C_CFCA_029F_2586),
            ("192.0.2.1", 0x43FA_405A_3772_13C9),
            ("http://10", 0xF9F8_1EB2_A967_A43C),
            ("http://backend-1.example.org:8080", 0x5CA7_C922_8396_E801),
        ];
        for (text, expected) in cases {
            assert_eq!(hash(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn zeros_and_lengths_tell_apart() {
        let zeros = [0_u8; 40];
        let mut seen: Vec<u64> = (0..=40).map(|length| hash(&zeros[..length])).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 41);
    }

    #[test]
    fn one_bit_of_the_input_changes_half_of_the_output() {
        let text = *b"GET /articles/2026/11";
        for bit in 0..text.len() * 8 {
            let mut other = text;
            other[bit / 8] ^= 1 << (bit % 8);
            let changed = (hash(&text) ^ hash(&other)).count_ones();
            assert!((14..=50).contains(&changed), "bit {bit} changed {changed}");
        }
    }
}
