//! Record Access Control Point (0x2A52): asks a device for its stored records, counts and deletes them.

use alloc::vec::Vec;

use super::date_time::DateTime;
use crate::reader::{DecodeError, Reader};

/// What is asked, or answered. One newer than we are is kept.
///
/// Source: Bluetooth SIG, GATT Specification Supplement, Record Access Control Point, Opcode; 7 and 8 from the Generic
/// Health Sensor Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpCode(pub u8);

impl OpCode {
    /// Report stored records.
    pub const REPORT: Self = Self(1);
    /// Delete stored records.
    pub const DELETE: Self = Self(2);
    /// Abort the operation that is going on.
    pub const ABORT: Self = Self(3);
    /// Report the number of stored records.
    pub const REPORT_NUMBER: Self = Self(4);
    /// The answer to [`OpCode::REPORT_NUMBER`].
    pub const NUMBER_RESPONSE: Self = Self(5);
    /// How a request went.
    pub const RESPONSE: Self = Self(6);
    /// Report stored records, then their number.
    pub const COMBINED_REPORT: Self = Self(7);
    /// The answer to [`OpCode::COMBINED_REPORT`].
    pub const COMBINED_REPORT_RESPONSE: Self = Self(8);

    /// Whether it is one a device answers with.
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self, Self::NUMBER_RESPONSE | Self::RESPONSE | Self::COMBINED_REPORT_RESPONSE)
    }

    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub const fn term(self) -> Option<&'static str> {
        Some(match self {
            Self::REPORT => "report-stored-records",
            Self::DELETE => "delete-stored-records",
            Self::ABORT => "abort-operation",
            Self::REPORT_NUMBER => "report-number-of-stored-records",
            Self::NUMBER_RESPONSE => "number-of-stored-records-response",
            Self::RESPONSE => "response-code",
            Self::COMBINED_REPORT => "combined-report",
            Self::COMBINED_REPORT_RESPONSE => "combined-report-response",
            _ => return None,
        })
    }
}

/// How a request went. One newer than we are is kept.
///
/// Source: Bluetooth SIG, GATT Specification Supplement, Record Access Control Point, Response Code Values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResponseCode(pub u8);

impl ResponseCode {
    /// Done.
    pub const SUCCESS: Self = Self(1);
    /// The op code is not supported.
    pub const OP_CODE_NOT_SUPPORTED: Self = Self(2);
    /// The operator does not fit the op code.
    pub const INVALID_OPERATOR: Self = Self(3);
    /// The operator is not supported.
    pub const OPERATOR_NOT_SUPPORTED: Self = Self(4);
    /// The operand does not fit the operator.
    pub const INVALID_OPERAND: Self = Self(5);
    /// No stored record fits the request.
    pub const NO_RECORDS_FOUND: Self = Self(6);
    /// The abort failed.
    pub const ABORT_UNSUCCESSFUL: Self = Self(7);
    /// The procedure could not be completed.
    pub const PROCEDURE_NOT_COMPLETED: Self = Self(8);
    /// The operand is not supported.
    pub const OPERAND_NOT_SUPPORTED: Self = Self(9);
    /// The device is busy (Generic Health Sensor).
    pub const SERVER_BUSY: Self = Self(10);

    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub const fn term(self) -> Option<&'static str> {
        Some(match self {
            Self::SUCCESS => "success",
            Self::OP_CODE_NOT_SUPPORTED => "op-code-not-supported",
            Self::INVALID_OPERATOR => "invalid-operator",
            Self::OPERATOR_NOT_SUPPORTED => "operator-not-supported",
            Self::INVALID_OPERAND => "invalid-operand",
            Self::NO_RECORDS_FOUND => "no-records-found",
            Self::ABORT_UNSUCCESSFUL => "abort-unsuccessful",
            Self::PROCEDURE_NOT_COMPLETED => "procedure-not-completed",
            Self::OPERAND_NOT_SUPPORTED => "operand-not-supported",
            Self::SERVER_BUSY => "server-busy",
            _ => return None,
        })
    }
}

/// What a filter compares. Shape: filter type (1) · value. Source: as [`OpCode`]; the number's width is the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Filter type 1 with two octets: a sequence number (Glucose), or minutes (CGM).
    SequenceNumber(u16),
    /// Filter type 1 with four octets: a record number (Generic Health Sensor).
    RecordNumber(u32),
    /// Filter type 2: the user-facing time.
    UserFacingTime(DateTime),
}

/// Which records a request is about. Shape: operator (1) · operand.
///
/// Source: as [`OpCode`]. The Pulse Oximeter Service 1.0.1 knows only [`Selection::All`], with no operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    /// Operator 0: none, for [`OpCode::ABORT`].
    Null,
    /// Operator 1: all records.
    All,
    /// Operator 2: up to and with this one.
    LessThanOrEqual(Bound),
    /// Operator 3: from this one on.
    GreaterThanOrEqual(Bound),
    /// Operator 4: both ends included.
    WithinRange(Bound, Bound),
    /// Operator 5: the oldest.
    First,
    /// Operator 6: the newest.
    Last,
    /// An operator, or a filter type, newer than we are.
    Other {
        /// The operator.
        operator: u8,
        /// Its operand as it came.
        operand: Vec<u8>,
    },
}

impl Selection {
    /// The operator's octet.
    #[must_use]
    pub const fn operator(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::All => 1,
            Self::LessThanOrEqual(_) => 2,
            Self::GreaterThanOrEqual(_) => 3,
            Self::WithinRange(..) => 4,
            Self::First => 5,
            Self::Last => 6,
            Self::Other { operator, .. } => *operator,
        }
    }

    /// Whether it selects nothing below this number, and this number.
    #[must_use]
    pub fn begins_with(&self, number: u64) -> bool {
        match self {
            Self::GreaterThanOrEqual(Bound::SequenceNumber(first)) => u64::from(*first) == number,
            Self::GreaterThanOrEqual(Bound::RecordNumber(first)) => u64::from(*first) == number,
            _ => false,
        }
    }

    /// The operator's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub const fn term(&self) -> Option<&'static str> {
        Some(match self.operator() {
            0 => "null",
            1 => "all-records",
            2 => "less-than-or-equal-to",
            3 => "greater-than-or-equal-to",
            4 => "within-range-of",
            5 => "first-record",
            6 => "last-record",
            _ => return None,
        })
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let operator = r.u8("operator")?;
        let operand = r.rest();
        let without_operand = |selection| match operand.len() {
            0 => Ok(selection),
            octets => Err(DecodeError::Trailing { octets }),
        };
        match operator {
            0 => without_operand(Self::Null),
            1 => without_operand(Self::All),
            5 => without_operand(Self::First),
            6 => without_operand(Self::Last),
            2..=4 => Self::read_filtered(operator, operand),
            _ => Ok(Self::Other { operator, operand: operand.to_vec() }),
        }
    }

    fn read_filtered(operator: u8, operand: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(operand);
        let filter = r.u8("filter type")?;
        if !(1..=2).contains(&filter) {
            return Ok(Self::Other { operator, operand: operand.to_vec() });
        }
        let bounds = if operator == 4 { 2 } else { 1 };
        // Services differ in the width of a sequence number: it shows in the length.
        let wide = r.rest().len() == 4 * bounds;
        let mut bound = || match (filter, wide) {
            (2, _) => DateTime::read(&mut r).map(Bound::UserFacingTime),
            (_, true) => r.u32("operand").map(Bound::RecordNumber),
            (_, false) => r.u16("operand").map(Bound::SequenceNumber),
        };
        let selection = match operator {
            2 => Self::LessThanOrEqual(bound()?),
            3 => Self::GreaterThanOrEqual(bound()?),
            _ => Self::WithinRange(bound()?, bound()?),
        };
        r.finish()?;
        Ok(selection)
    }

    fn write(&self, octets: &mut Vec<u8>) {
        octets.push(self.operator());
        match self {
            Self::Null | Self::All | Self::First | Self::Last => {}
            Self::LessThanOrEqual(bound) | Self::GreaterThanOrEqual(bound) => {
                octets.push(bound.filter());
                bound.write(octets);
            }
            Self::WithinRange(low, high) => {
                octets.push(low.filter());
                low.write(octets);
                high.write(octets);
            }
            Self::Other { operand, .. } => octets.extend(operand),
        }
    }
}

impl Bound {
    const fn filter(&self) -> u8 {
        match self {
            Self::SequenceNumber(_) | Self::RecordNumber(_) => 1,
            Self::UserFacingTime(_) => 2,
        }
    }

    fn write(&self, octets: &mut Vec<u8>) {
        match self {
            Self::SequenceNumber(number) => octets.extend(number.to_le_bytes()),
            Self::RecordNumber(number) => octets.extend(number.to_le_bytes()),
            Self::UserFacingTime(time) => octets.extend(time.encode()),
        }
    }
}

/// What a collector writes to the control point. Shape, units, errors and source: see [`Request::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What is asked.
    pub op_code: OpCode,
    /// Of which records.
    pub selection: Selection,
}

impl Request {
    /// Report all stored records.
    pub const REPORT_ALL: Self = Self { op_code: OpCode::REPORT, selection: Selection::All };
    /// Report the number of all stored records.
    pub const REPORT_NUMBER_OF_ALL: Self = Self { op_code: OpCode::REPORT_NUMBER, selection: Selection::All };
    /// Delete all stored records.
    pub const DELETE_ALL: Self = Self { op_code: OpCode::DELETE, selection: Selection::All };
    /// Abort the operation that is going on.
    pub const ABORT: Self = Self { op_code: OpCode::ABORT, selection: Selection::Null };

    /// Decodes a request.
    ///
    /// Shape: op code (1) · operator (1) · operand: none, or filter type (1) and one value (two for a range); numbers of 2
    /// or 4 octets, times of 7; little-endian.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`] and [`DecodeError::Trailing`] for an operand that does not fit its operator;
    /// [`DecodeError::Value`] for a response's op code. Other op codes, operators and filter types are kept: the device
    /// answers that it does not support them.
    /// Source: Bluetooth SIG, GATT Specification Supplement, Record Access Control Point.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let op_code = OpCode(r.u8("op code")?);
        if op_code.is_response() {
            return Err(DecodeError::Value { field: "op code" });
        }
        Ok(Self { op_code, selection: Selection::read(&mut r)? })
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(8);
        octets.push(self.op_code.0);
        self.selection.write(&mut octets);
        octets
    }
}

/// A number of records, in the width its service gives it. Shape: 1, 2 or 4 octets, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// One octet.
    U8(u8),
    /// Two octets: Glucose, Pulse Oximeter.
    U16(u16),
    /// Four octets: Generic Health Sensor.
    U32(u32),
}

impl Count {
    /// How many.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::U8(number) => number as u32,
            Self::U16(number) => number as u32,
            Self::U32(number) => number,
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.rest().len() {
            0 => Err(DecodeError::Truncated { field: "number of records" }),
            1 => r.u8("number of records").map(Self::U8),
            2 => r.u16("number of records").map(Self::U16),
            4 => r.u32("number of records").map(Self::U32),
            _ => Err(DecodeError::Value { field: "number of records" }),
        }
    }

    fn write(self, octets: &mut Vec<u8>) {
        match self {
            Self::U8(number) => octets.push(number),
            Self::U16(number) => octets.extend(number.to_le_bytes()),
            Self::U32(number) => octets.extend(number.to_le_bytes()),
        }
    }
}

/// What a device indicates on the control point. Shape, units, errors and source: see [`Response::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Response {
    /// So many records fit the request.
    NumberOfStoredRecords(Count),
    /// How a request went.
    Code {
        /// The request's op code.
        request: OpCode,
        /// How it went.
        code: ResponseCode,
    },
    /// The records of a combined report were sent; so many they were.
    CombinedReport(Count),
}

impl Response {
    /// Decodes a response.
    ///
    /// Shape: op code (1) · operator, 0 (1) · a number of records (1, 2 or 4), or request op code (1) and response code
    /// (1); little-endian, 3–6 octets.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for an op code that is no
    /// response, an operator other than 0, and a number of another width.
    /// Source: Bluetooth SIG, GATT Specification Supplement, Record Access Control Point.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let op_code = OpCode(r.u8("op code")?);
        if !op_code.is_response() {
            return Err(DecodeError::Value { field: "op code" });
        }
        if r.u8("operator")? != 0 {
            return Err(DecodeError::Value { field: "operator" });
        }
        let response = match op_code {
            OpCode::NUMBER_RESPONSE => Self::NumberOfStoredRecords(Count::read(&mut r)?),
            OpCode::COMBINED_REPORT_RESPONSE => Self::CombinedReport(Count::read(&mut r)?),
            _ => Self::Code { request: OpCode(r.u8("request op code")?), code: ResponseCode(r.u8("response code")?) },
        };
        r.finish()?;
        Ok(response)
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(6);
        match self {
            Self::NumberOfStoredRecords(count) => {
                octets.extend([OpCode::NUMBER_RESPONSE.0, 0]);
                count.write(&mut octets);
            }
            Self::Code { request, code } => octets.extend([OpCode::RESPONSE.0, 0, request.0, code.0]),
            Self::CombinedReport(count) => {
                octets.extend([OpCode::COMBINED_REPORT_RESPONSE.0, 0]);
                count.write(&mut octets);
            }
        }
        octets
    }
}
