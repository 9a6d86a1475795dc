//! How the binary is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A keeper per worker is this file started again: without addresses to fix up at every start, its
    // pages stay those of the file, which all of them share (docs/decisions/0013-fixed-addresses.md).
    println!("cargo:rustc-link-arg-bins=-no-pie");
}
