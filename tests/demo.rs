//! See `harness::demo`.

fn main() -> std::process::ExitCode {
    harness::demo::main(std::env::args_os())
}
