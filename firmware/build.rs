//! How the program is linked: no libc, no start files, at a fixed address, by our own script.

fn main() {
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,--no-dynamic-linker",
        "-Wl,-z,norelro",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    // Relative to the workspace, where cargo has the linker run: what is cached survives a checkout that moves.
    println!("cargo:rustc-link-arg-bins=-Wl,-T,layout.ld");
    println!("cargo:rerun-if-changed=layout.ld");
    println!("cargo:rerun-if-changed=build.rs");
}
