//! `kit-sim`.
fn main() -> std::process::ExitCode {
    firmware_sim::main(std::env::args_os())
}
