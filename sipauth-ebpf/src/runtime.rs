//! What every object of ours has: the licence, and an end for panics, of which there are none.

/// A panic that can be reached would make this loop reachable, and the verifier refuse the program.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// bpf_probe_read_kernel is only for programs under the GPL; the source is offered under MIT or Apache-2.0 as well.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
