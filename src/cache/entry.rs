//! A stored response, and the bytes that it is charged for.
//!
//! Decides: nothing. May not know: where it is stored. Invariant: what is charged stays charged until the last reader
//! has let go of it, whoever else has forgotten it; the sum of all charges never exceeds the budget.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64};

use bytes::Bytes;

use crate::policy::Nanos;
use crate::policy::cache::Terms;

/// Charges are counted in units of so many bytes, so that 32 bits are enough for one.
const UNIT_BYTES: u64 = 64;

/// What an entry costs beside its key, head and body: its struct, its share of the table, and what the allocator rounds
/// up. The test `an_entry_costs_less_than_it_is_charged_for` measures it.
const ENTRY_BYTES: u64 = 256;

/// Uses are counted up to this (S3-FIFO has two bits for them).
const USES_MAX: u8 = 3;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Response,
    /// No response: it names, as its head, the fields on which the responses of this key depend. They are stored under
    /// their values and this epoch.
    Varies {
        epoch: u64,
    },
    /// No response: the last one of this key could not be stored.
    Pass,
}

/// What an entry is made of.
#[derive(Debug, Clone)]
pub struct Parts<'t> {
    pub hash: u128,
    pub key: &'t [u8],
    /// Status line, end-to-end fields, the empty line.
    pub head: &'t [u8],
    pub body: Bytes,
    pub kind: Kind,
    pub status: u16,
    pub terms: Terms,
}

/// Small on purpose, since there may be millions: 120 bytes, and what a lookup reads stands in front, beside the counts
/// of the `Arc`, in one line of the cache (benchmark cache/get/1048576).
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    hash: [u64; 2],
    uses: AtomicU8,
    kind: StoredKind,
    must_revalidate: bool,
    no_cache: bool,
    pub status: u16,
    at: Nanos,
    age_s: u32,
    lifetime_s: u32,
    stale_while_revalidate_s: u32,
    stale_if_error_s: u32,
    /// Key, head, and the epoch of a marker.
    text: Box<[u8]>,
    pub body: Bytes,
    account: Arc<Account>,
    key_bytes: u32,
    units: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoredKind {
    Response,
    Varies,
    Pass,
}

impl Entry {
    /// What is to be reserved for an entry.
    pub fn cost_bytes(key_bytes: usize, head_bytes: usize, body_bytes: usize) -> u64 {
        ENTRY_BYTES + key_bytes as u64 + head_bytes as u64 + body_bytes as u64
    }

    pub fn new(parts: Parts<'_>, mut charge: Charge) -> Entry {
        let cost_bytes = Entry::cost_bytes(parts.key.len(), parts.head.len(), parts.body.len());
        debug_assert!(charge.bytes() >= cost_bytes, "an entry is paid for");
        let (kind, epoch) = match parts.kind {
            Kind::Response => (StoredKind::Response, None),
            Kind::Varies { epoch } => (StoredKind::Varies, Some(epoch.to_le_bytes())),
            Kind::Pass => (StoredKind::Pass, None),
        };
        let epoch = epoch.as_ref().map_or(&[][..], |epoch| epoch);
        let terms = parts.terms;
        Entry {
            hash: [parts.hash as u64, (parts.hash >> 64) as u64],
            uses: AtomicU8::new(0),
            kind,
            must_revalidate: terms.must_revalidate,
            no_cache: terms.no_cache,
            status: parts.status,
            at: terms.at,
            age_s: terms.age_s,
            lifetime_s: terms.lifetime_s,
            stale_while_revalidate_s: terms.stale_while_revalidate_s,
            stale_if_error_s: terms.stale_if_error_s,
            text: [parts.key, parts.head, epoch].concat().into(),
            body: parts.body,
            key_bytes: u32::try_from(parts.key.len()).expect("a key is a part of a head"),
            units: mem::take(&mut charge.units),
            account: Arc::clone(&charge.account),
        }
    }

    pub fn hash(&self) -> u128 {
        u128::from(self.hash[0]) | u128::from(self.hash[1]) << 64
    }

    pub fn kind(&self) -> Kind {
        match self.kind {
            StoredKind::Response => Kind::Response,
            StoredKind::Varies => {
                let epoch = self.text.last_chunk();
                let epoch = epoch.expect("the text of a marker ends with its epoch");
                Kind::Varies {
                    epoch: u64::from_le_bytes(*epoch),
                }
            }
            StoredKind::Pass => Kind::Pass,
        }
    }

    pub fn terms(&self) -> Terms {
        Terms {
            at: self.at,
            age_s: self.age_s,
            lifetime_s: self.lifetime_s,
            stale_while_revalidate_s: self.stale_while_revalidate_s,
            stale_if_error_s: self.stale_if_error_s,
            must_revalidate: self.must_revalidate,
            no_cache: self.no_cache,
        }
    }

    pub fn key(&self) -> &[u8] {
        &self.text[..self.key_bytes as usize]
    }

    /// Of a marker: the names of fields.
    pub fn head(&self) -> &[u8] {
        let end = match self.kind {
            StoredKind::Response | StoredKind::Pass => self.text.len(),
            StoredKind::Varies => self.text.len() - size_of::<u64>(),
        };
        &self.text[self.key_bytes as usize..end]
    }

    /// Somebody has used it. Popular entries are only read, so that shards do not take their line from each other.
    pub fn touch(&self) {
        let uses = self.uses.load(Relaxed);
        if uses < USES_MAX {
            self.uses.store(uses + 1, Relaxed);
        }
    }

    /// Since it was stored, or last given another chance.
    pub(super) fn uses(&self) -> u8 {
        self.uses.load(Relaxed)
    }

    /// A use that is counted meanwhile may be lost.
    pub(super) fn set_uses(&self, uses: u8) {
        self.uses.store(uses, Relaxed);
    }

    pub(super) fn units(&self) -> u32 {
        self.units
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.account.give_back(self.units);
    }
}

/// How much of the budget is in use, by all that is stored, being fetched, or still being read.
#[derive(Debug)]
pub(super) struct Account {
    units: AtomicU64,
    units_max: u64,
}

impl Account {
    pub(super) fn new(bytes_max: u64) -> Account {
        Account {
            units: AtomicU64::new(0),
            units_max: bytes_max / UNIT_BYTES,
        }
    }

    /// In units; `None`: more than anybody may have.
    pub(super) fn units_of(&self, bytes: u64) -> Option<u32> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        (u64::from(units) <= self.units_max).then_some(units)
    }

    /// Else how many units are missing.
    pub(super) fn take(self: &Arc<Account>, units: u32) -> Result<Charge, u64> {
        let enough = |used: u64| {
            let used = used + u64::from(units);
            (used <= self.units_max).then_some(used)
        };
        match self.units.fetch_update(Relaxed, Relaxed, enough) {
            Ok(_) => Ok(Charge {
                account: Arc::clone(self),
                units,
            }),
            Err(used) => Err(used + u64::from(units) - self.units_max),
        }
    }

    fn give_back(&self, units: u32) {
        let used = self.units.fetch_sub(u64::from(units), Relaxed);
        debug_assert!(used >= u64::from(units), "only what was taken");
    }

    pub(super) fn bytes(&self) -> u64 {
        self.units.load(Relaxed) * UNIT_BYTES
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.units_max * UNIT_BYTES
    }
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    units: u32,
}

impl Charge {
    /// At least what was asked for.
    pub fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT_BYTES
    }

    /// Both as one. `other` is of the same table.
    pub fn add(&mut self, mut other: Charge) {
        debug_assert!(Arc::ptr_eq(&self.account, &other.account));
        let sum = self.units.checked_add(other.units);
        self.units = sum.expect("nobody reserves more than fits into one charge");
        other.units = 0;
    }

    /// Gives back what is not needed after all.
    pub fn shrink_to(&mut self, bytes: u64) {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let spare = self.units.saturating_sub(units);
        self.units -= spare;
        self.account.give_back(spare);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.give_back(self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        at: u64::MAX,
        age_s: 1,
        lifetime_s: 2,
        stale_while_revalidate_s: 3,
        stale_if_error_s: u32::MAX,
        must_revalidate: true,
        no_cache: false,
    };

    fn account(bytes_max: u64) -> Arc<Account> {
        Arc::new(Account::new(bytes_max))
    }

    #[test]
    fn an_entry_is_what_it_was_made_of() {
        let account = account(1 << 20);
        for kind in [
            Kind::Response,
            Kind::Varies {
                epoch: u64::MAX - 1,
            },
            Kind::Pass,
        ] {
            for (key, head, body) in [
                ("http://h/", "HTTP/1.1 200 OK\r\n\r\n", "body"),
                ("", "", ""),
            ] {
                let bytes = Entry::cost_bytes(key.len(), head.len(), body.len());
                let charge = account.take(account.units_of(bytes).unwrap()).unwrap();
                let parts = Parts {
                    hash: u128::MAX << 3,
                    key: key.as_bytes(),
                    head: head.as_bytes(),
                    body: Bytes::from(body),
                    kind,
                    status: 200,
                    terms: TERMS,
                };
                let entry = Entry::new(parts, charge);
                assert_eq!(entry.key(), key.as_bytes());
                assert_eq!(entry.head(), head.as_bytes());
                assert_eq!(entry.body, body);
                assert_eq!((entry.kind(), entry.terms()), (kind, TERMS));
                assert_eq!(entry.hash(), u128::MAX << 3);
                assert!((bytes..bytes + UNIT_BYTES).contains(&account.bytes()));
                drop(entry);
                assert_eq!(account.bytes(), 0);
            }
        }
    }

    #[test]
    fn charges_add_up_shrink_and_are_given_back() {
        let account = account(6_400);
        let take = |units| Account::take(&account, units);
        let mut one = take(60).unwrap();
        let two = take(40).unwrap();
        assert_eq!(take(7).unwrap_err(), 7);
        one.add(two);
        assert_eq!((one.bytes(), account.bytes()), (6_400, 6_400));
        one.shrink_to(10_000);
        assert_eq!(one.bytes(), 6_400);
        one.shrink_to(129);
        assert_eq!((one.bytes(), account.bytes()), (192, 192));
        drop(one);
        assert_eq!(account.bytes(), 0);
    }

    /// With the two counts of its `Arc` 128 bytes: what allocators give whole.
    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 112);
    }
}
