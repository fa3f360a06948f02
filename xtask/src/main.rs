//! The project's tasks.
mod demo;
fn main() -> anyhow::Result<()> {
    demo::run(std::env::args().any(|a| a == "--keep"))
}
