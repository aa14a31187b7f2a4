//! The conversion helper as a program: what `solostack convert` runs, for the tests of the jail.

fn main() -> std::process::ExitCode {
    disks::convert::main(std::env::args().skip(1))
}
