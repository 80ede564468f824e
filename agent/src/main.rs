//! See the library.

fn main() -> std::process::ExitCode {
    kit_agent::main(std::env::args_os())
}
