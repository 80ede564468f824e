//! Flags: the bits of a device and the standard's terms of them, and what there is as bits.

use core::ops::BitAnd;

use crate::reading::Status;

/// The terms of the bits that are set, where every bit has one: lowest first.
pub(crate) fn terms_of_bits(bits: u32, terms: &'static [Status]) -> impl Iterator<Item = Status> {
    terms.iter().enumerate().filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, term)| *term)
}

/// The terms of the bits that are set, where only some have one: in the table's order.
pub(crate) fn terms_of_some<B>(bits: B, terms: &'static [(B, Status)]) -> impl Iterator<Item = Status>
where
    B: BitAnd<Output = B> + Copy + Default + PartialEq,
{
    terms.iter().filter(move |(bit, _)| bits & *bit != B::default()).map(|(_, term)| *term)
}

/// The bit that announces something, where it is present; else no bit.
pub(crate) fn flag<B: Default>(present: bool, bit: B) -> B {
    if present { bit } else { B::default() }
}
