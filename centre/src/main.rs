//! The reference centre's program.
fn main() -> std::process::ExitCode {
    kit_centre::main(std::env::args_os())
}
