//! What the benchmarks share: a kit's files, its records made by the real path, a broker and a centre, and plain statistics.
//!
//! A benchmark prints ratios in one run and asserts nothing on time. It is a program of its own, in `tests/benches/`.

pub mod kit;
pub mod process;
pub mod records;

use std::ffi::OsString;
use std::process::ExitCode;
use std::str::FromStr;

/// Why a benchmark could not be carried through.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The exit code of this program where it was started to play a role (broker, centre, simulated device) for another one.
#[must_use]
pub fn played() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let role = arguments.get(1).is_some_and(|first| first == crate::process::ROLE);
    role.then(|| crate::demo::main(arguments))
}

/// A benchmark's `main`: plays a role if it was started to, else measures if it was started by `cargo bench`.
#[expect(clippy::print_stdout, reason = "a measuring program says what it measured, or why not")]
pub fn benchmark(name: &str, run: impl AsyncFnOnce(&Arguments) -> Result<(), Failure>) -> ExitCode {
    if let Some(code) = played() {
        return code;
    }
    let Some(arguments) = Arguments::of_this_program() else {
        println!("measures only under cargo bench");
        return ExitCode::SUCCESS;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(&arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The command line of a benchmark.
#[derive(Clone, Debug)]
pub struct Arguments(Vec<String>);

impl Arguments {
    /// Those of this program; `None` where it was not started by `cargo bench`, and is to measure nothing.
    #[must_use]
    pub fn of_this_program() -> Option<Self> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        arguments.iter().any(|argument| argument == "--bench").then_some(Self(arguments))
    }

    /// What stands after every `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().zip(self.0.iter().skip(1)).filter(move |(argument, _)| *argument == name).map(|(_, value)| value.as_str())
    }

    /// Whether `name` was given.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    /// The number after `name`, or `otherwise`.
    pub fn number<T: FromStr>(&self, name: &str, otherwise: T) -> Result<T, Failure> {
        let Some(text) = self.all(name).next() else { return Ok(otherwise) };
        text.parse().map_err(|_| format!("{name} {text}: expected a number").into())
    }
}

/// The middle value, the higher of two; NaN of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A count as a number to divide by.
#[must_use]
pub fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_value_that_occurred() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn arguments_are_read_by_name() {
        let arguments = Arguments(["--bench", "--env", "A=1", "--env", "B=2", "--days", "7"].map(String::from).to_vec());
        assert_eq!(arguments.all("--env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(arguments.number("--days", 0).ok(), Some(7));
        assert_eq!(arguments.number("--warm", 60).ok(), Some(60));
        assert!(arguments.number::<u32>("--env", 0).is_err());
    }
}
