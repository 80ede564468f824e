//! Reads the vector files of `protocol/vectors/`, for tests.

use std::string::String;
use std::vec::Vec;

/// One line of a vector file.
pub(crate) struct Vector {
    /// Its number.
    pub(crate) id: &'static str,
    /// The octets.
    pub(crate) octets: Vec<u8>,
    /// What they mean.
    pub(crate) expected: &'static str,
}

/// Every vector of a file.
pub(crate) fn vectors(file: &'static str) -> impl Iterator<Item = Vector> {
    file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let mut fields = line.splitn(3, '|').map(str::trim);
        let mut field = || fields.next().unwrap_or_else(|| panic!("three fields in: {line}"));
        Vector { id: field(), octets: octets(field()), expected: field() }
    })
}

/// The octets of hexadecimal digits; blanks are let pass.
pub(crate) fn octets(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).expect("hex")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits")).collect()
}

/// Hexadecimal digits of octets.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
