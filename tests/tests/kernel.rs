//! The ingress program in the kernel (`BPF_PROG_TEST_RUN`): every header shape, every reason, every prefix, and the model on
//! generated packets. Both entry points are run.

#[path = "kernel/attach.rs"]
mod attach;
#[path = "kernel/bench.rs"]
mod bench;
#[path = "kernel/budget.rs"]
mod budget;
#[path = "kernel/challenges.rs"]
mod challenges;
#[path = "kernel/families.rs"]
mod families;
#[path = "kernel/flows.rs"]
mod flows;
#[path = "kernel/generated.rs"]
mod generated;
#[path = "kernel/instructions.rs"]
mod instructions;
#[path = "kernel/prefilter.rs"]
mod prefilter;
#[path = "kernel/proofs.rs"]
mod proofs;
#[path = "kernel/reasons.rs"]
mod reasons;
#[path = "kernel/shapes.rs"]
mod shapes;
#[path = "kernel/tables.rs"]
mod tables;
