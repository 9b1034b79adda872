//! viscera
fn main() {}
