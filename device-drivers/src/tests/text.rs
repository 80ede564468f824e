//! Octets from text and readings as text, for the tests of every driver.

use kit_protocol::reading::{Measured, Quantity};

/// The octets of hexadecimal digits; blanks are let pass.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// The numbers of a measurement in their order, `-` for what is none: `97/72`.
pub(crate) fn numbers(measured: &Measured) -> String {
    let text = |quantity: &Quantity| match quantity {
        Quantity::Number(number) => number.to_string(),
        _ => "-".into(),
    };
    measured.values.iter().map(|value| text(&value.quantity)).collect::<Vec<_>>().join("/")
}
