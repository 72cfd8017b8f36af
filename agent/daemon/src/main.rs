//! Empty on purpose: the library does the work.

fn main() {}
